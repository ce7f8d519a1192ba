"""The wheels: each fits the image's Python, and together with the image they are complete."""

from __future__ import annotations

import configparser
import email
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from inference.notebook.image import Image
from inference.notebook.rehearsal.opened import OpenedBundle
from inference.notebook.rehearsal.verdict import ErrorClass, Findings
from inference.notebook.wheels import marks_of
from kaggle_rag.runtime.work_folder import read_json

_AGAIN = "make the bundle again with its wheels, from the pip freeze of the image: --image FREEZE.txt"
# The images have glibc 2.35.
_GLIBC = 35


class Wheel(NamedTuple):
    """A wheel in the bundle."""

    path: Path
    name: str
    version: Version
    tags: frozenset[Tag]
    needs: tuple[Requirement, ...]


def wheels_of(bundle: OpenedBundle, found: Findings) -> list[Wheel]:
    """The wheels that lie in the bundle; faults of those that are none."""
    wheels = []
    for path in sorted((bundle.folder / "wheels").glob("*.whl")):
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
            wheels.append(Wheel(path, name, version, tags, _needs(path)))
        except (InvalidWheelFilename, zipfile.BadZipFile, StopIteration):
            found.fault(ErrorClass.EXCEPTION, "this is no wheel, or damaged", _AGAIN, f"wheels/{path.name}")
    return wheels


def _needs(path: Path) -> tuple[Requirement, ...]:
    with zipfile.ZipFile(path) as file:
        name = next(each for each in file.namelist() if each.endswith(".dist-info/METADATA"))
        lines = email.message_from_bytes(file.read(name)).get_all("Requires-Dist") or []
    return tuple(need for line in lines if (need := _requirement(line)))


def _requirement(text: str) -> Requirement | None:
    """``None`` for one that cannot be read."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def check_wheels(bundle: OpenedBundle, image: Image | None, found: Findings) -> None:
    """Faults of the wheels: left out, for another Python or platform, in need of what is nowhere."""
    wheels = wheels_of(bundle, found)
    there = {(wheel.name, str(wheel.version)) for wheel in wheels}
    for text in bundle.listed.get("wheels") or ():
        name, _, version = str(text).partition("==")
        if (canonicalize_name(name), version) not in there:
            found.fault(ErrorClass.EXCEPTION, f"a wheel is left out: {text}", _AGAIN, "wheels/")
    python = image.python if image else str(bundle.listed.get("python") or "")
    if python:
        fitting = tags_of(python)
        if foreign := [wheel.path.name for wheel in wheels if not wheel.tags & fitting]:
            cause = f"not for the image's Python {python} on Linux x86-64: {', '.join(foreign)}"
            found.fault(ErrorClass.EXCEPTION, cause, _AGAIN, "wheels/")
    if image:
        _check_closure(bundle, image, wheels, found)
    else:
        found.note(
            "the image is not known (--image FREEZE.txt): whether the wheels are complete was not checked"
        )


def tags_of(python: str) -> set[Tag]:
    """Tags of wheels that an image of this Python takes."""
    version = tuple(map(int, python.split(".")))
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    return {
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, f"cp{version[0]}{version[1]}", platforms),
    }


def _check_closure(bundle: OpenedBundle, image: Image, wheels: Sequence[Wheel], found: Findings) -> None:
    """Follow every requirement of the kit and of the wheels to a wheel or a package of the image."""
    versions: dict[str, Version | None] = {
        **image.versions, **dict.fromkeys(image.unversioned), **{each.name: each.version for each in wheels}
    }  # fmt: skip
    needs = [(need, "the kit") for need in kit_needs(bundle)]
    needs += [(need, str(wheel.name)) for wheel in wheels for need in wheel.needs]
    marks = marks_of(image.python)
    for need, by in needs:
        if need.marker and not need.marker.evaluate(marks):
            continue
        name = canonicalize_name(need.name)
        if name not in versions:
            cause = f"{name} is neither among the wheels nor in the image; {by} needs it"
            found.fault(ErrorClass.EXCEPTION, cause, _AGAIN, "wheels/")
        elif (version := versions[name]) and not need.specifier.contains(version, prereleases=True):
            cause = f"{name} {version} does not fit; {by} needs {need}"
            found.fault(ErrorClass.EXCEPTION, cause, _AGAIN, "wheels/")


def kit_needs(bundle: OpenedBundle) -> Iterator[Requirement]:
    """What the kit in the bundle needs, FAISS, and what its rankers need."""
    config = configparser.ConfigParser()
    config.read(bundle.folder / "kit" / "setup.cfg", encoding="utf-8")
    if not config.has_section("options"):
        return
    yield from _lines(config["options"], "install_requires")
    optional = {"faiss-cpu"}.union(*map(_needs_of_model, _models(bundle)))
    extras = config["options.extras_require"]
    yield from (each for group in ("cpu", "train") for each in _lines(extras, group) if each.name in optional)


def _models(bundle: OpenedBundle) -> Iterator[Path]:
    """The folders of its rankers and models."""
    for folder in bundle.folders:
        for kind in ("rankers", "models"):
            yield from (path for path in folder.glob(f"{kind}/*") if path.is_dir())


def _needs_of_model(folder: Path) -> set[str]:
    """The packages beyond the kit's that a model is opened with, by its files."""
    needs = set()
    if (folder / "adapter_config.json").is_file():
        needs.add("peft")
    card, config = (read_json(folder / name) or {} for name in ("ranker.json", "config.json"))
    if card.get("nf4") or "bitsandbytes" in str(config.get("quantization_config")):
        needs |= {"bitsandbytes", "accelerate"}
    if config and not any(folder.rglob("tokenizer.json")):
        # Slow tokenizers are converted.
        needs |= {"sentencepiece", "protobuf", "tiktoken"}
    return needs


def _lines(section: Mapping[str, str], key: str) -> list[Requirement]:
    return [Requirement(line) for line in section.get(key, "").splitlines() if line.strip()]
