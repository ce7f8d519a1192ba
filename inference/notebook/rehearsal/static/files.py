"""The bundle's files: whole, and within the limits of a dataset."""

from __future__ import annotations

from inference.notebook.metadata import MOST
from inference.notebook.rehearsal.opened import OpenedBundle, bytes_of
from inference.notebook.rehearsal.verdict import ErrorClass, Findings
from inference.notebook.writing import SEAL
from kaggle_rag.runtime.errors import show_size

# Top-level files of a dataset; more are zipped.
_TOP_LEVEL = 50
# Kaggle unpacks these on arrival, so the file itself is gone.
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".7z", ".rar", ".gz", ".bz2", ".xz")
_AGAIN = "make the bundle again"


def check_files(bundle: OpenedBundle, found: Findings) -> None:
    """Faults of the files that ``bundle.json`` lists, and of those that it does not."""
    for name, seal in bundle.listed["files"].items():
        path = bundle.at(name)
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            _missing(name, found)
        elif size != seal["bytes"]:
            cause = f"the file has {size:,} bytes, and {SEAL} lists {seal['bytes']:,}"
            found.fault(ErrorClass.EXCEPTION, cause, _AGAIN, name)
        if name.lower().endswith(_ARCHIVES):
            cause = "an archive is unpacked when it is uploaded, and then missing"
            found.fault(ErrorClass.EXCEPTION, cause, "give it another ending, or store what is in it", name)
    if (count := sum(1 for _ in bundle.folder.iterdir())) > _TOP_LEVEL:
        cause = f"{count:,} files and folders at the top of the dataset are zipped together"
        found.fault(ErrorClass.EXCEPTION, cause, f"at most {_TOP_LEVEL}: put them into folders")
    for folder in bundle.folders:
        if (size := bytes_of(folder)) > MOST:
            cause = f"the dataset {folder.name} has {show_size(size)}, and {show_size(MOST)} are allowed"
            found.fault(ErrorClass.CANNOT_SUBMIT, cause, "make the bundle again, with --dataset-size 200GB")


def _missing(name: str, found: Findings) -> None:
    if name.startswith("wheels/"):
        cause = f"a wheel is left out: {name} is listed, and not there"
        found.fault(ErrorClass.EXCEPTION, cause, _AGAIN, name)
    else:
        found.fault(ErrorClass.EXCEPTION, "the file is listed, and not there", _AGAIN, name)
