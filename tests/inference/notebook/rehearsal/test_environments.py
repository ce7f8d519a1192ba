"""The environments: of the bundle's wheels alone, and of an image's versions; made without any network."""

import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.tags import sys_tags
from rehearsal_toys import SOUND, bundle_of, call, questions_file, wheel_of

from inference.notebook.rehearsal.environment import HERE, closure
from inference.notebook.rehearsal.rehearse import Wanted, rehearse
from inference.notebook.wheels import requirements

pytest.importorskip("nbclient")
pytestmark = pytest.mark.slow


FITTING = {str(tag) for tag in sys_tags()}


def packed_again(found, folder):
    """An installed package as a wheel."""
    lines = found.read_text("WHEEL").splitlines()
    tags = [line.split(" ")[1] for line in lines if line.startswith("Tag:")]
    tag = next(tag for tag in tags if tag in FITTING)
    name = f"{found.metadata['Name'].replace('-', '_')}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for file in found.files:
            kept = ".." not in Path(file).parts and not str(file).endswith((".pyc", "INSTALLER", "REQUESTED"))
            if kept and Path(file.locate()).is_file():
                wheel.write(file.locate(), str(file))


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of wheels where pip looks, and nowhere else; it has the notebook's machinery."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    for name in ("PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_a_bundle_runs_from_its_wheels_and_nothing_else(facts_index, shelf, tmp_path, monkeypatch):
    import torch

    if torch.version.cuda:
        pytest.skip("torch for GPUs is too large to be packed again")
    for found in closure([each.name for each in requirements([])]):
        packed_again(found, shelf)
    (tmp_path / "freeze.txt").write_text("pip==24.0\n")
    settings = {"index": str(facts_index), "device": "cpu"}
    (tmp_path / "solution.yaml").write_text(yaml.safe_dump(settings))
    flags = ["--config", tmp_path / "solution.yaml", "--owner", "me", "--slug", "exam", "--title", "An exam"]
    flags += ["--image", tmp_path / "freeze.txt", "--python", HERE, "--out", tmp_path / "bundle"]
    assert call(monkeypatch, "bundle", *flags) == 0
    for path in (tmp_path / "bundle").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    questions = questions_file(tmp_path / "test.csv", 10)
    wanted = Wanted(tmp_path / "bundle", questions, "wheels", quick=True, ram=4 * 10**9)
    report = rehearse(wanted)
    assert report.passed and not any("was not checked" in note for note in report.notes), report.text()


NAMES = "import first, sys\nprint(first.NAME)\nassert first.NAME == 'as in the image'"


def test_the_image_s_versions_are_installed_once(shelf, tmp_path, monkeypatch):
    for found in closure(["ipykernel"]):
        packed_again(found, shelf)
    wheel_of(shelf, "first", "1", code="NAME = 'as in the image'")
    wheel_of(shelf, "first", "2", code="NAME = 'newer'")
    (tmp_path / "freeze.txt").write_text(f"# Python {HERE}\nfirst==1\nother==7\n")
    kit = "[options]\ninstall_requires =\n    first\n[options.extras_require]\ncpu =\ntrain =\n"
    bundle = bundle_of(tmp_path / "b", NAMES, *SOUND, files={"kit/setup.cfg": kit})
    questions = questions_file(tmp_path / "test.csv")
    wanted = Wanted(
        bundle, questions, image=tmp_path / "freeze.txt", images=tmp_path / "images", quick=True, ram=10**9
    )
    report = rehearse(wanted)
    assert report.passed and report.environment.startswith("image: "), report.text()
    assert any("1 of the image's 2 packages are here" in note for note in report.notes)
    # It is there already: pip, which finds nothing now, is not asked.
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert rehearse(wanted).passed
    (tmp_path / "freeze.txt").write_text(f"# Python {HERE}\nfirst==2\n")
    flags = ["--questions", questions, "--image", tmp_path / "freeze.txt", "--images", tmp_path / "images"]
    assert call(monkeypatch, "rehearse", bundle, *flags) == 2


def test_a_folder_of_something_else_is_not_cleared_away(tmp_path, monkeypatch, capsys):
    (tmp_path / "freeze.txt").write_text(f"# Python {HERE}\nfirst==1\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine").write_text("mine")
    bundle, questions = bundle_of(tmp_path / "b", *SOUND), questions_file(tmp_path / "test.csv")
    flags = ["--questions", questions, "--image", tmp_path / "freeze.txt", "--images", tmp_path / "images"]
    assert call(monkeypatch, "rehearse", bundle, *flags) == 2
    assert "something else is there" in capsys.readouterr().err and (tmp_path / "images" / "mine").exists()


def test_an_image_whose_python_is_not_here_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "freeze.txt").write_text("# Python 3.99\nfirst==1\n")
    bundle, questions = bundle_of(tmp_path / "b", *SOUND), questions_file(tmp_path / "test.csv")
    flags = ["--questions", questions, "--image", tmp_path / "freeze.txt"]
    assert call(monkeypatch, "rehearse", bundle, *flags) == 2
    assert "the image has Python 3.99, and there is none here" in capsys.readouterr().err
