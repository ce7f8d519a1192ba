"""Long work in its own folder: claimed for one set of inputs, resumed, refused, or published as a whole.

Every long stage asks the same: does the folder hold work on the same inputs, to be resumed; on others, to
be refused; or nothing worth keeping, so that it starts over? A *key* decides: plain JSON of everything that
determines the outcome, stored in a file of the folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import made_folder, write_json

LOCK = ".lock"


class WorkFolder:
    """One folder of work. Subclasses define what is worth keeping, and where else a key may be.

    Parameters
    ----------
    folder : where the work is done.
    key : all that determines its outcome, as plain JSON; keys of an inner table named in ``nested`` are
        reported by their own names.
    what : in the user's words, such as ``build``.
    file : name of the key's file in the folder.
    cure : what to do about a folder with other inputs.
    """

    state = "unfinished "
    """What messages call work with another key, before ``what``."""
    nested: frozenset[str] = frozenset()

    def __init__(self, folder: Path, key: Mapping[str, Any], what: str, *, file: str, cure: str) -> None:
        self.folder, self.key, self.what, self.file, self.cure = folder, dict(key), what, file, cure

    def stored_key(self) -> dict[str, Any] | None:
        """The key of the work in the folder; ``None`` if none can be read."""
        return read_json(self.folder / self.file)

    def worth_keeping(self) -> bool:
        """Whether there is more than work with another key may clear away."""
        return not self.is_empty()

    def is_empty(self) -> bool:
        """Whether there is no work yet, such as after a misspelt setting."""
        if not self.folder.exists():
            return True
        if (self.folder / self.file).exists() and self.stored_key() is None:
            return False
        return {child.name for child in self.folder.iterdir()} <= {LOCK, self.file}

    def require_ours(self) -> None:
        """Raise ``ArtifactError`` if the folder holds other work that is worth keeping; write nothing."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ArtifactError("a file exists where a folder is needed", where=self.folder, cure=self.cure)
        if self.is_empty():
            return
        stored = self.stored_key()
        if stored is None:
            raise ArtifactError(
                f"this folder holds something other than {_a(self.what)}", where=self.folder, cure=self.cure
            )
        other = differing(self.key, stored, self.nested)
        if other and self.worth_keeping():
            raise ArtifactError(
                f"{_a(self.state + self.what)} already exists, and differs in {other}", where=self.folder,
                cure=self.cure,
            )  # fmt: skip

    @contextmanager
    def claimed(self) -> Iterator[Path]:
        """The folder, locked against a second process: resumed where it was, or started over.

        Raises
        ------
        ArtifactError : it holds other work, or a process is working there.
        """
        self.require_ours()
        with made_folder(self.folder):
            lock = self._locked()
            try:
                # Between the first check and the lock another process may have started.
                self.require_ours()
                if differing(self.key, self.stored_key() or {}, self.nested):
                    self._start_over()
                yield self.folder
            finally:
                lock.release()
                if self.is_empty():
                    shutil.rmtree(self.folder, ignore_errors=True)

    def _locked(self) -> BaseFileLock:
        lock = FileLock(self.folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ArtifactError(
                f"another {self.what} is running here", where=self.folder,
                cure="wait until it ends, or choose another folder",
            ) from None  # fmt: skip
        return lock

    def publish(self, made: Path, out: Path) -> None:
        """Give ``made``, the folder itself or something in it, its final name; remove everything else."""
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
    wanted: Mapping[str, Any], stored: Mapping[str, Any], nested: frozenset[str] = frozenset()
) -> str:
    """The keys whose values differ, as a list in words; those inside ``nested`` tables by their names."""
    names: list[str] = []
    for key in dict.fromkeys([*wanted, *stored]):
        new, old = wanted.get(key), stored.get(key)
        if key in nested and isinstance(new, dict) and isinstance(old, dict):
            names += [inner for inner in new if new[inner] != old.get(inner)]
        elif new != old:
            names.append(key)
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def read_json(path: Path) -> dict[str, Any] | None:
    """The table in a file; ``None`` if there is no such file, or no table in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None
