"""Work of the same inputs is resumed, of others refused or started over; a second process is kept out."""

import json
import subprocess
import sys

import pytest

from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.work_folder import LOCK, WorkFolder, differing


def folder_of(place, key):
    return WorkFolder(place / "out.work", key, "build", file="key.json", cure="choose another OUT")


def begin(place, key, *files):
    with folder_of(place, key).claimed() as folder:
        for name in files:
            (folder / name).write_text(name)
    return place / "out.work"


def test_the_same_key_goes_on_and_nothing_done_leaves_nothing(tmp_path):
    assert not begin(tmp_path, {"seed": 1}).exists()
    folder = begin(tmp_path, {"seed": 1}, "a")
    assert json.loads((folder / "key.json").read_text()) == {"seed": 1}
    # Whether the file of the lock stays depends on the version of filelock.
    again = begin(tmp_path, {"seed": 1}, "b")
    assert {path.name for path in again.iterdir()} - {LOCK} == {"a", "b", "key.json"}


def test_of_work_that_fails_at_its_start_no_new_folder_is_left(tmp_path):
    with pytest.raises(ZeroDivisionError), folder_of(tmp_path / "new/inner", {"seed": 1}).claimed():
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())


def test_work_of_another_key_is_refused_by_what_differs_and_untouched(tmp_path):
    folder = begin(tmp_path, {"seed": 1, "asked": {"kind": "flat", "ram": 3}}, "a")
    before = {path.name: path.read_text() for path in folder.iterdir()}
    with pytest.raises(ArtifactError, match="unfinished build already exists, and differs in seed and asked"):
        begin(tmp_path, {"seed": 2, "asked": {"kind": "ivf", "ram": 3}})
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    wanted = {"asked": {"kind": "ivf", "ram": 3}}
    inner = differing(wanted, json.loads(before["key.json"]), frozenset({"asked"}))
    assert inner == "kind and seed"


def test_work_that_is_not_worth_keeping_starts_over(tmp_path):
    class Cheap(WorkFolder):
        def worth_keeping(self):
            return False

    folder = begin(tmp_path, {"seed": 1}, "a")
    (folder / "inner").mkdir()
    with Cheap(folder, {"seed": 2}, "stage", file="key.json", cure="").claimed():
        assert sorted(path.name for path in folder.iterdir()) == [LOCK, "key.json"]
        assert json.loads((folder / "key.json").read_text()) == {"seed": 2}


@pytest.mark.parametrize("content", ["", "theme: dark", "[1, 2]"])
def test_a_folder_that_is_no_work_is_refused(content, tmp_path):
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work/key.json").write_text(content)
    with pytest.raises(ArtifactError, match="something other than a build"):
        begin(tmp_path, {"seed": 1})
    (tmp_path / "out.work/key.json").unlink()
    (tmp_path / "out.work/thesis.tex").write_text("mine")
    with pytest.raises(ArtifactError, match="something other than a build"):
        begin(tmp_path, {"seed": 1})
    assert [path.name for path in (tmp_path / "out.work").iterdir()] == ["thesis.tex"]


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "out.work").write_text("mine")
    with pytest.raises(ArtifactError, match="a file exists where a folder is needed"):
        begin(tmp_path, {"seed": 1})


def test_a_second_process_is_refused_while_the_first_one_works(tmp_path):
    code = (
        "import sys; from pathlib import Path; from kaggle_rag.runtime.work_folder import WorkFolder\n"
        "with WorkFolder(Path(sys.argv[1]), {'seed': 1}, 'build', file='key.json', cure='').claimed() as f:\n"
        "    (f / 'a').touch(); print('in', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out.work")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(ArtifactError, match="another build is running here"):
            begin(tmp_path, {"seed": 1})
        other.stdin.close()
    begin(tmp_path, {"seed": 1}, "b")


@pytest.mark.parametrize("part", [None, "model"])
def test_what_is_published_is_whole_and_nothing_else_is_left(part, tmp_path):
    work = folder_of(tmp_path, {"seed": 1})
    with work.claimed() as folder:
        made = folder / part if part else folder
        made.mkdir(exist_ok=True)
        (made / "weights").write_text("w")
        work.publish(made, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == ({"weights"} if part else {"weights", "key.json"})
