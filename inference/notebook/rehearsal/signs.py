"""What tells the cause of an error: patterns in what a notebook raised or printed."""

from __future__ import annotations

import re
from typing import NamedTuple

from inference.notebook.rehearsal.verdict import ErrorClass, Fault

_THREW, _COMPUTE = ErrorClass.EXCEPTION, ErrorClass.COMPUTE
AGAIN = "make the bundle again with the pip freeze of the image: --image FREEZE.txt"
LESS_MEMORY = "take a smaller ranker or precision, or fewer options and shorter contexts at once"
READ_ONLY = "write to /kaggle/working or /tmp: inputs are read-only"


class Sign(NamedTuple):
    """A pattern, and what it tells; the first of its groups that is there completes the cause."""

    pattern: re.Pattern[str]
    error: ErrorClass
    cause: str
    cure: str


def _sign(patterns: tuple[str, ...], error: ErrorClass, cause: str, cure: str) -> Sign:
    return Sign(re.compile("|".join(patterns)), error, cause, cure)


# The first that is found counts: those of memory and disk come before what they bring about.
_SIGNS = (
    _sign(
        (r"CUDA out of memory", r"torch\.(?:cuda\.)?OutOfMemoryError", r"CUBLAS_STATUS_ALLOC_FAILED"),
        _COMPUTE, "the GPU's memory is full", LESS_MEMORY,
    ),
    _sign(
        (
            r"MemoryError", r"[Cc]annot allocate memory", r"DefaultCPUAllocator: .*not enough memory",
            r"exit code (?:-9|137)\b",
        ),
        _COMPUTE, "the memory is full", LESS_MEMORY,
    ),
    _sign(
        (r"No space left on device", r"Errno 28\b", r"the disk is full", r"Disk quota exceeded"),
        _COMPUTE, "a disk is full: /tmp or /kaggle/working",
        "remove what is no longer needed, or write it to /kaggle/working, which is larger than /tmp",
    ),
    _sign(
        (
            r"Read-only file system: '?(/kaggle/input[^'\n]*)",
            r"(/kaggle/input[^'\n:]*)'?: Read-only file system",
            r"Errno 30\] Read-only file system(?!:)", r"Permission denied: '?(\S*/input/[^'\n]*)",
        ),
        _THREW, "the notebook writes to its input: {0}", READ_ONLY,
    ),
    _sign(
        (r"([\w.-]+\.whl) is not a supported wheel on this platform",),
        _THREW, "{0} is for another Python or platform", AGAIN,
    ),
    _sign(
        (r"No matching distribution found for ([\w.=<>!~+-]+)",),
        _THREW, "a wheel is left out, or for another Python: pip finds no {0}", AGAIN,
    ),
    _sign(
        (
            r"no model '([^']+)' on this machine", r"We couldn't connect to 'https://huggingface\.co'",
            r"([\w./-]+) is not a local folder and is not a valid model identifier",
            r"LocalEntryNotFoundError", r"OfflineModeIsEnabled",
            r"[Cc]annot find the requested files in the (?:disk|local) cache",
        ),
        _THREW, "a model must come from the hub, which cannot be reached: {0}",
        "bundle it, or attach it as an input and give its folder",
    ),
    _sign(
        (r"No module named '([\w.]+)'",),
        _THREW, "the package of the module {0} is neither in the image nor bundled", AGAIN,
    ),
    _sign(
        (
            r"Network is unreachable", r"Temporary failure in name resolution", r"Name or service not known",
            r"Could not resolve host", r"NameResolutionError",
        ),
        _THREW, "the notebook needs the internet", "attach what it fetches as an input",
    ),
    _sign(
        (r"No such file or directory: '?(/kaggle/input/[^'\n]*)",),
        _THREW, "a hard-coded path: {0} is not in this layout of the mounts",
        'look for the file: next(Path("/kaggle/input").glob("**/NAME")); mounts differ in their folders',
    ),
    _sign(
        (r"(\S+) is missing or incomplete: upload the dataset again",),
        _THREW, "{0} is missing or incomplete", "make the bundle again",
    ),
    _sign(
        (r"no (test\.csv under \S+?):", r"no (bundle \S+ under \S+?):"),
        _THREW, "the notebook finds no {0}", "attach the competition and the dataset: kernel-metadata.json",
    ),
)  # fmt: skip


def read_signs(text: str) -> Fault | None:
    """The fault that a text tells; ``None`` if it tells none that is known."""
    for sign in _SIGNS:
        if found := sign.pattern.search(text):
            named = next((group for group in found.groups() if group), "")
            return Fault(sign.error, sign.cause.format(named).rstrip(" :"), sign.cure)
    return None
