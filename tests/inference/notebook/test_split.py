"""A bundle that one dataset cannot hold lies in several, and answers as before, without a second copy."""

import json
import shutil

import pytest
from bundle_toys import ID, call, executed, mounted, seen, solution_of
from hypothesis import given
from hypothesis import strategies as st

from inference.notebook.contents import Part
from inference.notebook.metadata import Names
from inference.notebook.split import assigned, names_of
from kaggle_rag.runtime.errors import LimitError

# The weights of all-MiniLM-L6-v2 have 90.9 MB, its tokenizer 0.7: together they leave no room for the kit.
SIZE = "92MB"


@pytest.fixture(scope="module")
def made(facts_index, tmp_path_factory):
    """A solution, and its bundle in two datasets."""
    folder = tmp_path_factory.mktemp("split")
    solution_of(folder, facts_index)
    words = ["bundle", "--config", folder / "solution.yaml", *ID, "--wheels", "none"]
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, *words, "--dataset-size", SIZE, "--out", folder / "b") == 0
        assert call(patch, *words, "--out", folder / "whole") == 0
    return folder


def test_no_dataset_is_larger_than_it_may_be_and_no_file_is_twice(made):
    first, second, whole = (seen(made / name) for name in ("b", "b-2", "whole"))
    assert not (made / "b-3").exists()
    for files in (first, second):
        assert sum(map(len, files.values())) < 92e6
    own = {"bundle.json", "bundle-part.json", "dataset-metadata.json", "notebook/science-exam.ipynb",
           "notebook/kernel-metadata.json"}  # fmt: skip
    assert not first.keys() & second.keys() - own
    together = {name: data for name, data in (second | first).items() if name not in own}
    assert together == {name: data for name, data in whole.items() if name not in own}
    listed = json.loads(first["bundle.json"])
    places = {name for name, seal in listed["files"].items() if seal.get("dataset", 1) == 2}
    assert places == second.keys() - own and "models/all-MiniLM-L6-v2/model.safetensors" in places


def test_each_dataset_has_a_name_of_its_own_and_the_notebook_reads_both(made):
    ids = ["me/science-exam", "me/science-exam-2"]
    for name, wanted in zip(("b", "b-2"), ids):
        assert json.loads((made / name / "dataset-metadata.json").read_text())["id"] == wanted
    kernel = json.loads((made / "b" / "notebook" / "kernel-metadata.json").read_text())
    assert kernel["dataset_sources"] == ids
    assert json.loads((made / "b" / "bundle.json").read_text())["datasets"] == ids


def attached(made, folder, layout="plain"):
    mounted(folder, made / "b", made / "test.csv", layout)
    inputs = folder / "input"
    (inputs / "datasets" / "me").mkdir(parents=True, exist_ok=True)
    (inputs / "datasets" / "me" / "science-exam-2").symlink_to(made / "b-2")


@pytest.mark.parametrize("layout", ["plain", "by kind"])
def test_the_notebook_answers_as_the_solution_does(made, tmp_path, monkeypatch, layout):
    attached(made, tmp_path, layout)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    done = executed(made / "b", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "working" / "submission.csv").read_bytes() == (made / "submission.csv").read_bytes()
    copies = [path for path in (tmp_path / "tmp").rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in copies) < 1e6, "the bundle was copied"


def test_a_notebook_without_the_second_says_which(made, tmp_path):
    mounted(tmp_path, made / "b", made / "test.csv", "plain")
    done = executed(made / "b", tmp_path)
    assert done.returncode == 1 and "no dataset me/science-exam-2 under" in done.stderr


def test_a_rehearsal_mounts_both(made, monkeypatch, capsys):
    words = ["rehearse", made / "b", "--questions", made / "test.csv"]
    assert call(monkeypatch, *words, "--quick") == 0, capsys.readouterr()


def test_a_rehearsal_finds_what_is_lost(made, tmp_path, monkeypatch, capsys):
    shutil.copytree(made / "b", tmp_path / "b")
    words = ["rehearse", tmp_path / "b", "--questions", made / "test.csv", "--dry-run"]
    assert call(monkeypatch, *words) == 2 and "b-2: no such dataset" in capsys.readouterr().err
    shutil.copytree(made / "b-2", tmp_path / "b-2")
    (tmp_path / "b-2" / "models" / "all-MiniLM-L6-v2" / "model.safetensors").unlink()
    kernel = tmp_path / "b" / "notebook" / "kernel-metadata.json"
    kernel.write_text(kernel.read_text().replace(', "me/science-exam-2"', "").replace("science-exam-2", "x"))
    assert call(monkeypatch, *words) == 1
    said = capsys.readouterr().out
    assert "model.safetensors" in said and "does not have the dataset me/science-exam-2" in said


def test_what_is_there_already_is_not_overwritten(made, tmp_path, monkeypatch, capsys):
    (tmp_path / "b-2").mkdir()
    (tmp_path / "b-2" / "mine").write_text("mine")
    words = ["bundle", "--config", made / "solution.yaml", *ID, "--wheels", "none", "--out", tmp_path / "b"]
    assert call(monkeypatch, *words, "--dataset-size", SIZE) == 2
    assert "b-2: something is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["b-2"] and len(seen(tmp_path)) == 1


def test_a_file_larger_than_a_dataset_is_refused(made, tmp_path, monkeypatch, capsys):
    words = ["bundle", "--config", made / "solution.yaml", *ID, "--wheels", "none", "--out", tmp_path / "b"]
    assert call(monkeypatch, *words, "--dataset-size", "80MB") == 2
    said = capsys.readouterr().err
    assert "model.safetensors" in said and "at most 80.0 MB" in said and not list(tmp_path.iterdir())


def test_a_dry_run_tells_the_datasets(made, tmp_path, monkeypatch, capsys):
    words = ["bundle", "--config", made / "solution.yaml", *ID, "--wheels", "none", "--out", tmp_path / "b"]
    assert call(monkeypatch, *words, "--dataset-size", SIZE, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in told["datasets"]] == ["me/science-exam", "me/science-exam-2"]
    assert sum(each["bytes"] for each in told["datasets"]) == told["bytes"]


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=40), reserved=st.integers(0, 50))
def test_files_stay_in_order_and_within_the_size(sizes, reserved):
    class File:
        def __init__(self, size):
            self.st_size = size

        def stat(self):
            return self

    parts = [Part("p", "", {str(n): File(size) for n, size in enumerate(sizes)})]
    numbers = [*assigned(parts, 50, reserved).values()]
    assert numbers == sorted(numbers) and set(numbers) <= {*range(1, max(numbers) + 1)}
    for number in {*numbers}:
        held = sum(size for size, own in zip(sizes, numbers) if own == number)
        assert held <= 50 - (reserved if number == 1 else 0)
    with pytest.raises(LimitError):
        assigned([Part("p", "", {"x": File(51)})], 50)


def test_names_stay_within_what_kaggle_takes():
    names = Names("me", "science-exam", "x" * 50)
    further = names_of(names, 12)
    assert further.slug == "science-exam-12" and further.title == "x" * 47 + " 12"
