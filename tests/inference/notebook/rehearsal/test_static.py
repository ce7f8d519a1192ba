"""What is found without running: metadata, files, wheels, models, paths, code; nothing in a sound bundle."""

import sys
import time

import pytest
from rehearsal_toys import SOUND, bundle_of, wheel_of

from inference.notebook.image import image_of
from inference.notebook.rehearsal.opened import opened
from inference.notebook.rehearsal.static import look_through
from inference.notebook.rehearsal.verdict import ErrorClass

THREW, REFUSED = ErrorClass.EXCEPTION, ErrorClass.CANNOT_SUBMIT
ROWS = 30


def looked(folder, *cells, image=None, **given):
    return look_through(opened(bundle_of(folder, *(cells or SOUND), **given)), image, ROWS)


def only(found):
    assert len(found.faults) == 1, found.faults
    return found.faults[0]


def test_nothing_is_wrong_with_a_sound_bundle(tmp_path):
    found = looked(tmp_path / "b", files={"data/a.txt": "x"})
    assert not found.faults and len(found.notes) == 1 and "image is not known" in found.notes[0]


@pytest.mark.parametrize("value, said", [
    (True, "internet is left on (enable_internet: True)"),
    ("true", "internet is left on (enable_internet: 'true')"),
    (None, "enable_internet is left out, which the client takes for true"),
])  # fmt: skip
def test_internet_left_on(tmp_path, value, said):
    fault = only(looked(tmp_path / "b", kernel={"enable_internet": value}))
    assert fault.error is REFUSED and fault.cause == said and '"enable_internet": false' in fault.cure
    assert fault.where == "kernel-metadata.json"


@pytest.mark.parametrize(
    "kernel, dataset, error, said",
    [
        ({"title": "exam"}, {}, REFUSED, "title is 'exam'"),
        ({"title": "x" * 51}, {}, REFUSED, "title is 'xxx"),
        ({"language": "r"}, {}, REFUSED, "language is 'r'"),
        ({"kernel_type": "script"}, {}, REFUSED, "kernel_type is 'script'"),
        ({"enable_gpu": "yes"}, {}, REFUSED, "enable_gpu is 'yes'"),
        ({"dataset_sources": "me/science-exam"}, {}, REFUSED, "dataset_sources is 'me/science-exam'"),
        ({"dataset_sources": ["me/other"]}, {}, THREW, "does not have the dataset me/science-exam"),
        ({"id": "Science Exam"}, {}, REFUSED, "id is 'Science Exam'"),
        ({}, {"title": "exam"}, REFUSED, "title is 'exam'"),
        ({}, {"subtitle": "short"}, REFUSED, "subtitle is 'short'"),
        ({}, {"licenses": []}, REFUSED, "licenses is []"),
        ({}, {"licenses": [{"name": "a"}, {"name": "b"}]}, REFUSED, "licenses is [{"),
        ({}, {"id": "me/ab"}, REFUSED, "id is 'me/ab'"),
        ({}, {"id": "me/other-exam"}, THREW, "id is 'me/other-exam', and bundle.json says 'me/science-exam'"),
    ],
)
def test_metadata_outside_the_rules(tmp_path, kernel, dataset, error, said):
    fault = only(looked(tmp_path / "b", kernel=kernel, dataset=dataset))
    assert fault.error is error and said in fault.cause and fault.cure


def test_what_may_be_meant_is_a_note(tmp_path):
    kernel = {"title": "another title", "enable_gpu": True, "competition_sources": []}
    found = looked(tmp_path / "b", kernel=kernel)
    assert not found.faults
    for part in ("makes the address 'another-title'", "may be a P100", "no competition_sources"):
        assert any(part in note for note in found.notes)


def test_files_that_are_not_there_or_incomplete(tmp_path):
    folder = bundle_of(tmp_path / "b", *SOUND, files={"index/a": "x", "index/b": "y", "index/c.zip": "z"})
    (folder / "index" / "a").unlink()
    (folder / "index" / "b").write_text("longer")
    found = look_through(opened(folder), None, ROWS)
    causes = {fault.where: fault.cause for fault in found.faults}
    assert "not there" in causes["index/a"] and "6 bytes" in causes["index/b"]
    assert "unpacked" in causes["index/c.zip"]
    assert {fault.error for fault in found.faults} == {THREW}


def test_too_many_files_at_the_top(tmp_path):
    assert "51 files" in only(looked(tmp_path / "b", files={f"f{n}": "" for n in range(48)})).cause
    assert not looked(tmp_path / "c", files={f"f{n}": "" for n in range(47)}).faults


HERE = f"{sys.version_info.major}{sys.version_info.minor}"
OTHER = "3.13"
KIT = """\
[options]
install_requires =
    numpy>=2
    first
[options.extras_require]
cpu =
    faiss-cpu>=1
train =
    accelerate>=1.12
    bitsandbytes>=0.50
    peft>=0.18
    sentencepiece>=0.2
"""
IMAGE = image_of("# Python 3.13\nnumpy==2.0.2\nfaiss-cpu==1.9\nthird==2\n", "freeze")


def wheels(tmp_path, *made, listed=None, files=(), image=IMAGE):
    """Findings of a bundle with a kit that needs ``first``, and these wheels."""
    folder = tmp_path / "b" / "wheels"
    paths = [wheel_of(folder, *each) for each in made]
    names = [f"{each[0]}=={each[1]}" for each in made] if listed is None else listed
    folder = bundle_of(
        tmp_path / "b", *SOUND, files={"kit/setup.cfg": KIT, **dict(files)}, wheels=names, python=OTHER
    )
    assert all(path.is_file() for path in paths)
    return look_through(opened(folder), image, ROWS)


def test_wheels_that_are_complete(tmp_path):
    needs = [
        "second>=2",
        "third",
        'windows; sys_platform == "win32"',
        'old; python_version < "3.13"',
        'x; extra == "y"',
    ]
    found = wheels(
        tmp_path, ("first", "1", needs, "cp313-cp313-manylinux_2_28_x86_64"),
        ("second", "2.5", [], "cp310-abi3-manylinux2014_x86_64"),
    )  # fmt: skip
    assert not found.faults and not found.notes


@pytest.mark.parametrize(
    "made, listed, said",
    [
        ([], ["first==1"], "a wheel is left out: first==1"),
        ([("first", "2")], ["first==1"], "a wheel is left out: first==1"),
        ([], [], "first is neither among the wheels nor in the image; the kit needs it"),
        (
            [("first", "1", ["second"])],
            None,
            "second is neither among the wheels nor in the image; first needs it",
        ),
        ([("first", "1", ["third>=3"])], None, "third 2 does not fit; first needs third>=3"),
        ([("first", "1", [], "cp312-cp312-manylinux_2_28_x86_64")], None, "not for the image's Python 3.13"),
        ([("first", "1", [], "cp313-cp313-win_amd64")], None, "not for the image's Python 3.13 on Linux"),
        ([("first", "1", [], "cp313-cp313-manylinux_2_99_x86_64")], None, "not for the image's Python 3.13"),
    ],
)
def test_a_wheel_that_is_missing_or_does_not_fit(tmp_path, made, listed, said):
    found = wheels(tmp_path, *made, listed=listed)
    fault = next(fault for fault in found.faults if said in fault.cause)
    assert fault.error is THREW and "--image FREEZE.txt" in fault.cure


def test_a_wheel_for_another_python_is_told_without_the_image(tmp_path):
    made = ("first", "1", [], "cp311-cp311-manylinux2014_x86_64")
    assert "image's Python 3.13" in only(wheels(tmp_path, made, image=None)).cause


def test_an_adapter_needs_peft_and_a_damaged_wheel_is_told(tmp_path):
    first = ("first", "1")
    card = {"rankers/lora/adapter_config.json": "{}"}
    assert "peft is neither" in only(wheels(tmp_path / "1", first, files=card)).cause
    quantized = '{"quantization_config": {"quant_method": "bitsandbytes"}}'
    for name, files in {
        "bitsandbytes": {"rankers/nf4/ranker.json": '{"nf4": true}'},
        "accelerate": {"models/half/config.json": quantized, "models/half/tokenizer.json": "{}"},
        "sentencepiece": {"models/slow/config.json": '{"model_type": "deberta-v2"}'},
    }.items():
        found = wheels(tmp_path / name, first, files=files)
        assert any(f"{name} is neither" in fault.cause for fault in found.faults)
    plain = {"models/fast/config.json": "{}", "models/fast/tokenizer.json": "{}"}
    assert not wheels(tmp_path / "fast", first, files=plain).faults
    folder = bundle_of(tmp_path / "2", *SOUND, files={"wheels/first-1-py3-none-any.whl": "no archive"})
    assert "damaged" in only(look_through(opened(folder), None, ROWS)).cause


@pytest.mark.parametrize(
    "settings, said",
    [
        ("encoder: intfloat/e5-base\n", "encoder is 'intfloat/e5-base', which is not in the bundle"),
        ("encoder: models/gone\n", "encoder is 'models/gone'"),
        ("encoder: models/e\ncontexts: {reranker: BAAI/bge}\n", "contexts.reranker is 'BAAI/bge'"),
        ("encoder: models/e\nencoders: {b: org/b}\n", "encoders.* is 'org/b'"),
        ("encoder: models/e\nrankers: [{kind: trained, options: {folder: org/r}}]\n", "folder is 'org/r'"),
        (
            "encoder: models/e\nrankers: [{kind: trained, options: {folder: rankers/l, base: org/b}}]\n",
            "base is 'org/b'",
        ),
        (
            "encoder: models/e\nrankers: [{kind: trained, options: {folder: rankers/l}}]\n",
            "its backbone 'org/base'",
        ),
        ("encoder: models/e\nindex: /home/me/index\n", "a path of this machine"),
        ("index: index\n", "encoder is not set"),
    ],
)
def test_a_model_that_needs_the_hub(tmp_path, settings, said):
    files = {
        "solution.yaml": settings, "models/e/config.json": "{}", "index/manifest.json": "{}", "kit/x.py": "",
        "rankers/l/ranker.json": '{"base": "org/base"}',
    }  # fmt: skip
    fault = only(looked(tmp_path / "b", files=files))
    assert fault.error is THREW and said in fault.cause


def test_models_in_the_bundle_are_found_by_path_and_by_name(tmp_path):
    settings = "encoder: sentence-transformers/e\nindex: index\ncontexts: {reranker: models/r}\n"
    files = {
        "solution.yaml": settings,
        "models/e/config.json": "{}",
        "models/r/config.json": "{}",
        "index/m": "",
    }
    assert not looked(tmp_path / "b", files=files).faults


@pytest.mark.parametrize(
    "code, there",
    [
        ('open("/kaggle/input/exam-of-science/test.csv")', "'by kind'"),
        ('x = f"/kaggle/input/science-exam/{name}"', "'by kind'"),
        ('open("/kaggle/input/competitions/exam-of-science/test.csv")', "'plain'"),
        ("!cp /kaggle/input/science-exam/a.txt .", "'by kind'"),
        ('open("/kaggle/input/another/file")', "no input of the bundle"),
    ],
)
def test_a_hard_coded_mount(tmp_path, code, there):
    fault = only(looked(tmp_path / "b", "name = 1", code))
    assert (
        fault.error is THREW and "a hard-coded path: /kaggle/input/" in fault.cause and there in fault.cause
    )
    assert fault.where == "cell 2" and "glob" in fault.cure


@pytest.mark.parametrize(
    "code",
    [
        'p = "/kaggle/input"; q = "/kaggle/input/"',
        '"""Reads /kaggle/input/science-exam/x."""\nx = 1  # /kaggle/input/science-exam/x',
        'for p in ["/kaggle/input/science-exam", "/kaggle/input/datasets/me/science-exam"]: pass',
        'p = "/kaggle/working/x"',
    ],
)
def test_paths_that_hold_in_every_layout(tmp_path, code):
    assert not looked(tmp_path / "b", code).faults


@pytest.mark.parametrize(
    "code, said",
    [
        ("!pip install faiss-cpu", "pip install without --no-index: pip install faiss-cpu"),
        ("%pip install -q -U bm25s", "pip install without --no-index"),
        ("!pip install /kaggle/working/a.whl", "pip install without --no-index"),
        ("%%bash\npip install x", "pip install without --no-index"),
        ('import os\nos.system("ls")\n!pip install -q \\\n  faiss', "pip install without --no-index"),
        ('run([sys.executable, "-m", "pip", "install", "x"])', "pip install without --no-index"),
        ('run(sys.executable, "-m", "pip", "install", "x")', "pip install without --no-index"),
        ("!wget https://example.org/x", "wget needs the internet"),
        ("!cd /tmp && git clone https://example.org/x", "git clone needs the internet"),
        (
            'AutoModel.from_pretrained("microsoft/deberta-v3-large")',
            "'microsoft/deberta-v3-large' is a name on the hub",
        ),
        ('pipeline("fill-mask", model="org/model")', "'org/model' is a name on the hub"),
        ('snapshot_download(repo_id="org/model")', "'org/model' is a name on the hub"),
    ],
)
def test_code_that_needs_the_network(tmp_path, code, said):
    fault = next(fault for fault in looked(tmp_path / "b", code).faults if said in fault.cause)
    assert fault.error is THREW and fault.where == "cell 1" and fault.cure


@pytest.mark.parametrize(
    "code",
    [
        "!pip install --no-index --find-links {folder} faiss-cpu",
        "!pip install --no-deps {folder}/a.whl ./b.whl",
        'flags = ["--no-index"]\nrun([sys.executable, "-m", "pip", "install", *flags, "x"])',
        'AutoModel.from_pretrained(folder / "m"); AutoModel.from_pretrained("/tmp/model"); f("org/model")',
        'AutoModel.from_pretrained("./model")',
        "!ls -l curl; echo pip",
        "not python at all (",
        'pipeline("fill-mask", model=folder)',
        'run([sys.executable, "-m", "pip", "install", "--no-deps", str(wheel)])',
    ],
)
def test_code_that_does_not(tmp_path, code):
    assert not looked(tmp_path / "b", code).faults


@pytest.mark.parametrize(
    "code",
    [
        "for n in range(30): f(n)",
        "t.head(30)",
        'read("test.csv", nrows=30)',
        "t[:30]",
        "if len(t) == 30: f()",
    ],
)
def test_the_visible_number_of_rows_is_noted(tmp_path, code):
    found = looked(tmp_path / "b", code)
    assert not found.faults and any("cell 1" in note and "30" in note for note in found.notes)
    assert len(looked(tmp_path / "c", code.replace("30", "31")).notes) == 1


@pytest.mark.parametrize(
    "code",
    ["assert len(t) == 30", "assert t.shape[0] == 30, 'x'", "assert t.shape == (30, 3) or len(t) == 30"],
)
def test_insisting_on_the_visible_number_of_rows_is_a_fault(tmp_path, code):
    fault = only(looked(tmp_path / "b", code))
    assert fault.error is THREW and "insists on 30 questions" in fault.cause and "len(test)" in fault.cure


def test_a_bare_name_may_be_of_the_hub_or_a_folder(tmp_path):
    found = looked(tmp_path / "b", 'm = SentenceTransformer("all-MiniLM-L6-v2")')
    assert not found.faults and any("'all-MiniLM-L6-v2' is a name on the hub" in note for note in found.notes)


def test_settings_that_are_none_are_told(tmp_path):
    files = {"solution.yaml": "a: [", "rankers/l/ranker.json": "{"}
    assert "not valid YAML" in only(looked(tmp_path / "b", files=files)).cause


def test_it_takes_no_second(tmp_path):
    folder = bundle_of(
        tmp_path / "b", *SOUND, *["x = [1, 2]\n" * 200] * 20, files={f"d/{n}": "x" for n in range(500)}
    )
    bundle, start = opened(folder), time.process_time()
    look_through(bundle, IMAGE, ROWS)
    assert time.process_time() - start < 1
