"""What the notebook's code does that a rerun does not forgive: the network, and a fixed number of rows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from inference.notebook.rehearsal.opened import OpenedBundle
from inference.notebook.rehearsal.static.code import Code, parsed
from inference.notebook.rehearsal.verdict import ErrorClass, Findings

_THREW = ErrorClass.EXCEPTION
_PIP = re.compile(r"\bpip3?\s+install\b(.*)")
_FETCH = re.compile(
    r"(?:^|[;&|]\s*)(wget|curl|git\s+clone|kaggle\s+datasets|huggingface-cli|hf\s+download)\b"
)
_PATHS = re.compile(r"\S*/\S+|\S+\.whl\b|\{\S+|\$\S+")
_OFFLINE = "bundle the wheels, and install them with --no-index --no-deps --find-links FOLDER"
_LOADERS = {"from_pretrained", "SentenceTransformer", "CrossEncoder", "snapshot_download", "hf_hub_download",
            "load_dataset", "pipeline"}  # fmt: skip
# A name on the hub: not a path, and no file. One without an owner may be a folder as well.
_HUB = re.compile(r"(?P<owner>[A-Za-z0-9][\w.-]*/)[\w.-]+|[a-z0-9]+(?:-[\w.]+)+")
# Smaller numbers are in every code.
_TELLING = 20
_COUNTED = {"len", "shape", "nunique", "count", "num_rows", "height", "size"}


def check_source(bundle: OpenedBundle, rows: int, found: Findings) -> None:
    """Faults and notes of the code.

    Parameters
    ----------
    rows : of the visible test set.
    """
    for code in parsed(bundle.cells):
        _check_shell(code, found)
        if code.tree:
            _check_pip(code, found)
            _check_hub(code, found)
            _check_count(code, rows, found)


def _check_shell(code: Code, found: Findings) -> None:
    for line in code.shell:
        pip, fetch = _PIP.search(line), _FETCH.search(line)
        if pip and "--no-index" not in line and not ("--no-deps" in line and _only_paths(pip[1])):
            found.fault(_THREW, f"pip install without --no-index: {line[:80]}", _OFFLINE, code.where)
        if fetch:
            cause = f"{fetch[1]} needs the internet: {line[:80]}"
            found.fault(_THREW, cause, "attach the data as an input", code.where)


def _only_paths(arguments: str) -> bool:
    words = [word for word in arguments.split() if not word.startswith("-")]
    return bool(words) and all(_PATHS.match(word) for word in words)


def _check_pip(code: Code, found: Findings) -> None:
    """``subprocess.run([sys.executable, "-m", "pip", "install", …])``; the flags may stand in a variable."""
    assert code.tree
    for node in ast.walk(code.tree):
        parts = node.elts if isinstance(node, (ast.List, ast.Tuple)) else ()
        parts = node.args if isinstance(node, ast.Call) else parts
        words = [part.value for part in parts if isinstance(part, ast.Constant)]
        offline = "--no-index" in code.source or "--no-deps" in code.source
        if "pip" in words and "install" in words and not offline:
            found.fault(_THREW, "pip install without --no-index", _OFFLINE, code.where)


def _check_hub(code: Code, found: Findings) -> None:
    assert code.tree
    for node in ast.walk(code.tree):
        if not (isinstance(node, ast.Call) and _name(node.func) in _LOADERS):
            continue
        given = [word.value for word in node.keywords if word.arg in ("model", "repo_id", "path")]
        # What a pipeline is given first is its task.
        given += node.args[:1] if _name(node.func) != "pipeline" else []
        for part in given:
            name = part.value if isinstance(part, ast.Constant) else None
            is_hub = _HUB.fullmatch(name) if isinstance(name, str) else None
            cause = f"{name!r} is a name on the hub, which cannot be reached"
            if is_hub and is_hub["owner"]:
                found.fault(_THREW, cause, "attach the model as an input, and give its folder", code.where)
            elif is_hub:
                found.note(f"{code.where}: {cause}, unless it is a folder that the notebook makes")


def _name(node: ast.expr) -> str:
    """Last name of what is called: ``from_pretrained`` of ``AutoModel.from_pretrained``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _check_count(code: Code, rows: int, found: Findings) -> None:
    """The visible number of rows, written into the code; whether it is meant, a run of it tells."""
    assert code.tree
    if rows < _TELLING:
        return
    if any(count == rows for node in ast.walk(code.tree) for count in _fixed_counts(node)):
        found.note(
            f"{code.where}: {rows} is the number of visible questions; if it stands for them, write len(test)"
        )
    tests = [node for node in ast.walk(code.tree) if isinstance(node, (ast.If, ast.IfExp))]
    if any(_is_count_compared(node.test, rows) for node in tests):
        found.note(
            f"{code.where}: what happens for other than {rows} questions runs first in the hidden rerun; "
            "the cases run it"
        )
    asserts = [node for node in ast.walk(code.tree) if isinstance(node, ast.Assert)]
    if any(_is_count_compared(node.test, rows) for node in asserts):
        cause = f"it insists on {rows} questions, the number of the visible ones"
        found.fault(_THREW, cause, "take the number from test.csv: len(test)", code.where)


def _fixed_counts(node: ast.AST) -> Iterator[object]:
    """Whole numbers in ``range(N)``, ``head(N)``, ``nrows=N`` and ``[:N]``."""
    if isinstance(node, ast.Call):
        if _name(node.func) in ("range", "head") and len(node.args) == 1:
            yield from (part.value for part in node.args if isinstance(part, ast.Constant))
        named = [word.value for word in node.keywords if word.arg in ("nrows", "n_rows")]
        yield from (part.value for part in named if isinstance(part, ast.Constant))
    if isinstance(node, ast.Slice) and node.lower is None and isinstance(node.upper, ast.Constant):
        yield node.upper.value


def _is_count_compared(test: ast.expr, rows: int) -> bool:
    """Whether ``len(test) == N``, or the like, is part of a condition."""
    for node in ast.walk(test):
        if not isinstance(node, ast.Compare):
            continue
        parts = [node.left, *node.comparators]
        fixed = any(isinstance(part, ast.Constant) and part.value == rows for part in parts)
        if fixed and any(_name(inner) in _COUNTED for part in parts for inner in ast.walk(part)
                         if isinstance(inner, ast.expr)):  # fmt: skip
            return True
    return False
