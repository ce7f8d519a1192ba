"""Long work in a folder of its own: claimed for one set of inputs, resumed, refused, or published whole.

Every long stage asks the same: is what lies here of the same inputs, so that it goes on; of others, so that
it is refused; or not worth keeping, so that it starts over? What decides is a *key*, plain JSON of all that
decides the outcome, kept in a file of the folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import write_json

LOCK = ".lock"


class WorkFolder:
    """One folder of work. Subclasses say what is worth keeping, and where else a key may stand.

    Parameters
    ----------
    folder : where the work is done.
    key : all that decides its outcome, as plain JSON; keys of an inner table named in ``nested`` are told
        by their own names.
    what : in the user's words, such as ``build``.
    file : of the key, in the folder.
    cure : what to do about a folder of other inputs.
    """

    state = "unfinished "
    """How work of another key is called in its message."""
    nested: frozenset[str] = frozenset()

    def __init__(self, folder: Path, key: Mapping[str, Any], what: str, *, file: str, cure: str) -> None:
        self.folder, self.key, self.what, self.file, self.cure = folder, dict(key), what, file, cure

    def stored_key(self) -> dict[str, Any] | None:
        """The key of what lies in the folder; ``None`` where none can be read."""
        return read_json(self.folder / self.file)

    def worth_keeping(self) -> bool:
        """Whether more was made than work of another key may clear away."""
        return not self.is_empty()

    def is_empty(self) -> bool:
        """Whether nothing was made yet, such as after a misspelt setting."""
        if not self.folder.exists():
            return True
        if (self.folder / self.file).exists() and self.stored_key() is None:
            return False
        return {child.name for child in self.folder.iterdir()} <= {LOCK, self.file}

    def require_ours(self) -> None:
        """Raise ``ArtifactError`` where the folder holds other work that is worth keeping; write nothing."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ArtifactError("a file stands where a folder is made", where=self.folder, cure=self.cure)
        if self.is_empty():
            return
        found = self.stored_key()
        if found is None:
            raise ArtifactError(
                f"this folder holds something else than {_a(self.what)}", where=self.folder, cure=self.cure
            )
        other = differing(self.key, found, self.nested)
        if other and self.worth_keeping():
            raise ArtifactError(
                f"{_a(self.state + self.what)} with another {other} is there", where=self.folder,
                cure=self.cure,
            )  # fmt: skip

    @contextmanager
    def claimed(self) -> Iterator[Path]:
        """The folder, locked against a second process: taken up where it was, or started over.

        Raises
        ------
        ArtifactError : it holds other work, or a process is working there.
        """
        self.require_ours()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ArtifactError(
                f"another {self.what} is running here", where=self.folder,
                cure="wait until it ends, or choose another place",
            ) from None  # fmt: skip
        try:
            # Between the first look and the lock another process may have begun.
            self.require_ours()
            if differing(self.key, self.stored_key() or {}, self.nested):
                self._start_over()
            yield self.folder
        finally:
            lock.release()
            if self.is_empty():
                shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self, made: Path, out: Path) -> None:
        """Give ``made``, the folder itself or something in it, its final name; nothing else is left."""
        if made == self.folder:
            (self.folder / LOCK).unlink(missing_ok=True)
        made.replace(out)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start_over(self) -> None:
        for child in self.folder.iterdir():
            if child.is_dir():
                shutil.rmtree(child)
            elif child.name != LOCK:
                child.unlink()
        write_json(self.folder / self.file, self.key)


def _a(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def differing(
    wanted: Mapping[str, Any], found: Mapping[str, Any], nested: frozenset[str] = frozenset()
) -> str:
    """The keys whose values differ, as a list in words; those inside of ``nested`` tables by their names."""
    names: list[str] = []
    for key in dict.fromkeys([*wanted, *found]):
        ours, theirs = wanted.get(key), found.get(key)
        if key in nested and isinstance(ours, dict) and isinstance(theirs, dict):
            names += [inner for inner in ours if ours[inner] != theirs.get(inner)]
        elif ours != theirs:
            names.append(key)
    return ", ".join(names)


def read_json(path: Path) -> dict[str, Any] | None:
    """The table in a file; ``None`` where there is no such file, or no table in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None
