"""Checksums of files that a process reads once."""

import hashlib
import os

import pytest

from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import known_sha256, seal, verify


def test_a_file_is_read_again_only_if_it_changed(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    stat = file.stat()
    first = known_sha256(file)
    assert first == hashlib.sha256(b"one").hexdigest()
    # Other bytes behind the same size and time are not looked at: nobody pays for a second reading.
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert known_sha256(file) == first
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert known_sha256(file) == hashlib.sha256(b"two").hexdigest()


def test_a_folder_that_was_verified_and_then_changed_is_refused(tmp_path):
    (tmp_path / "weights").write_bytes(b"one")
    sealed = seal(tmp_path, ["weights"])
    verify(tmp_path, sealed)
    stat = (tmp_path / "weights").stat()
    (tmp_path / "weights").write_bytes(b"two")
    os.utime(tmp_path / "weights", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(ArtifactError, match="at least one byte has changed"):
        verify(tmp_path, sealed)
