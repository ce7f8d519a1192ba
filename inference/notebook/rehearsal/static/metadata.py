"""The two metadata files, by Kaggle's documented rules; apart from the table that writes them.

https://github.com/Kaggle/kaggle-cli/tree/main/docs (kernels_metadata.md, datasets_metadata.md), 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from inference.notebook.rehearsal.opened import DATASET, KERNEL, OpenedBundle
from inference.notebook.rehearsal.verdict import ErrorClass, Findings

_FLAGS = ("is_private", "enable_gpu", "enable_internet", "enable_tpu")
_LISTS = ("dataset_sources", "competition_sources", "kernel_sources", "model_sources")
_ID = re.compile(r"[A-Za-z0-9-]+/([a-z0-9]+(?:-[a-z0-9]+)*)")
_REFUSED = ErrorClass.CANNOT_SUBMIT


def check_metadata(bundle: OpenedBundle, found: Findings) -> None:
    """Faults of ``kernel-metadata.json`` and ``dataset-metadata.json``."""
    _check_internet(bundle.kernel, found)
    _check_kernel(bundle.kernel, found)
    _check_sources(bundle, found)
    _check_dataset(bundle, found)


def _check_internet(kernel: Mapping[str, Any], found: Findings) -> None:
    internet = kernel.get("enable_internet")
    if internet in (False, "false"):
        return
    # Left out, it is true for Kaggle's client.
    cause = "enable_internet is left out, which the client takes for true" if internet is None else (
        f"internet is left on (enable_internet: {internet!r})"
    )  # fmt: skip
    found.fault(_REFUSED, cause, 'write "enable_internet": false', KERNEL)


def _check_kernel(kernel: Mapping[str, Any], found: Findings) -> None:
    def wrong(key: str, expected: str) -> None:
        found.fault(_REFUSED, f"{key} is {kernel.get(key)!r}", f"write {expected}", KERNEL)

    if kernel.get("language") != "python":
        wrong("language", '"python"')
    if kernel.get("kernel_type") != "notebook":
        wrong("kernel_type", '"notebook"')
    for key in _FLAGS:
        if key in kernel and kernel[key] not in (True, False, "true", "false"):
            wrong(key, "true or false")
    for key in _LISTS:
        if not isinstance(kernel.get(key, []), list):
            wrong(key, "a list")
    title, name = kernel.get("title"), _ID.fullmatch(str(kernel.get("id")))
    if not (isinstance(title, str) and 5 <= len(title) <= 50):
        wrong("title", "5 to 50 characters")
    if not name:
        wrong("id", "owner/slug, of lower-case letters, digits and single dashes")
    elif isinstance(title, str) and (made := re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")) != name[1]:
        found.note(
            f"{KERNEL}: the title makes the address {made!r}, not {name[1]!r}: Kaggle uses the title's"
        )
    if kernel.get("enable_gpu") in (True, "true") and not kernel.get("machine_shape"):
        found.note(
            f"{KERNEL}: a GPU without machine_shape may be a P100, which current versions of torch do not "
            'support; "NvidiaTeslaT4" means two T4'
        )


def _check_sources(bundle: OpenedBundle, found: Findings) -> None:
    datasets = bundle.kernel.get("dataset_sources")
    for name in bundle.listed.get("datasets") or [bundle.id]:
        if isinstance(datasets, list) and name not in datasets:
            cause = f"the notebook does not have the dataset {name} as an input"
            found.fault(ErrorClass.EXCEPTION, cause, f'add "{name}" to dataset_sources', KERNEL)
    if not bundle.competition:
        found.note(f"{KERNEL}: no competition_sources: add the competition, or its test set is not there")


def _check_dataset(bundle: OpenedBundle, found: Findings) -> None:
    dataset = bundle.dataset
    name = _ID.fullmatch(str(dataset.get("id")))
    if not (name and 3 <= len(name[1]) <= 50):
        cause = f"id is {dataset.get('id')!r}"
        found.fault(_REFUSED, cause, "write owner/slug, with a slug of 3 to 50 characters", DATASET)
    elif dataset["id"] != bundle.id:
        cause = f"id is {dataset['id']!r}, and bundle.json says {bundle.id!r}: the notebook looks for that"
        found.fault(ErrorClass.EXCEPTION, cause, "write the same id in both", DATASET)
    for key, least, most in (("title", 6, 50), ("subtitle", 20, 80)):
        text = dataset.get(key, "")
        if (key in dataset or key == "title") and not (isinstance(text, str) and least <= len(text) <= most):
            found.fault(_REFUSED, f"{key} is {text!r}", f"write {least} to {most} characters", DATASET)
    licences = dataset.get("licenses")
    if not (isinstance(licences, list) and len(licences) == 1):
        found.fault(_REFUSED, f"licenses is {licences!r}", 'write one, such as [{"name": "other"}]', DATASET)
