"""A bundle: it answers as the solution does, from anywhere, read-only; and what is wrong is said before."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bundle_toys import ID, LAYOUTS, OPTION, call, executed, mounted, run, seen, solution_of
from conftest import ROOT
from filelock import FileLock
from model_toys import tiny_cross_encoder
from ranker_toys import backbone, task

from inference.notebook import kaggle_client, writing
from inference.notebook.contents import contents_of
from kaggle_rag.config import load
from kaggle_rag.rankers.checks import check_ranker
from kaggle_rag.runtime.files import fields_sha256, sha256


@pytest.fixture(scope="module")
def place(facts_index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("solution")
    solution_of(folder, facts_index)
    return folder


@pytest.fixture(scope="module")
def made(place, tmp_path_factory):
    """The bundle of that solution, its files without write permission."""
    out = tmp_path_factory.mktemp("made") / "bundle"
    run("bundle", "--config", place / "solution.yaml", *ID, "--out", out, "--wheels", "none", kit=ROOT)
    for path in out.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return out


def test_a_bundle_answers_as_the_solution_does(made, place, tmp_path):
    before = seen(made)
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "own = ('kaggle_rag', 'inference')\n"
        "atexit.register(lambda: print('from', *(sys.modules[name].__file__ for name in own)))\n"
    )
    flags = ["--questions", place / "test.csv", "--out", tmp_path / "submission.csv"]
    kit = f"{made / 'kit'}{os.pathsep}{tmp_path}"
    done = run("submit", "--config", made / "solution.yaml", *flags, kit=kit, cwd=tmp_path)
    files = [str(made / "kit" / name / "__init__.py") for name in ("kaggle_rag", "inference")]
    assert done.stdout.splitlines()[-1].split() == ["from", *files]
    assert (tmp_path / "submission.csv").read_bytes() == (place / "submission.csv").read_bytes()
    assert seen(made) == before


def test_settings_name_nothing_outside_the_bundle(made):
    settings = yaml.safe_load((made / "solution.yaml").read_text())
    assert settings == {
        "index": "index", "encoder": "models/all-MiniLM-L6-v2", "device": "cpu", "limits": {},
        "rankers": [{"kind": "similarity", "options": OPTION}],
    }  # fmt: skip
    assert (made / settings["index"]).is_dir() and (made / settings["encoder"]).is_dir()


def test_every_file_is_listed_with_its_checksum_and_its_part(made):
    listed = json.loads((made / "bundle.json").read_text())
    files = listed["files"]
    own = {"bundle.json", "dataset-metadata.json"}
    there = {name for name in seen(made) if name not in own and not name.startswith("notebook/")}
    assert set(files) == there
    for name, seal in files.items():
        path = made / name
        assert seal == {"bytes": path.stat().st_size, "sha256": sha256(path)}, name
    assert set(listed["parts"]) == {"kit", "index", "models/all-MiniLM-L6-v2", "solution.yaml"}
    assert all(part["purpose"] for part in listed["parts"].values())
    assert sum(part["bytes"] for part in listed["parts"].values()) == sum(s["bytes"] for s in files.values())
    assert listed.pop("sha256") == fields_sha256(listed)
    assert len(list(made.iterdir())) <= 50


def test_the_kit_in_it_is_whole_and_without_tests(made):
    tracked = subprocess.run(
        ["git", "ls-files", "kaggle_rag", "training", "wiki_index", "inference"], cwd=ROOT,
        capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    kit = seen(made / "kit")
    assert tracked and set(tracked) <= kit.keys()
    assert not [name for name in kit if "test" in Path(name).parts[0] or "__pycache__" in name]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_notebook_finds_its_inputs_wherever_they_are_mounted(made, place, tmp_path, layout):
    mounted(tmp_path, made, place / "test.csv", layout)
    done = executed(made, tmp_path)
    assert done.returncode == 0, done.stderr
    expected = place / "submission.csv"
    assert (tmp_path / "working" / "submission.csv").read_bytes() == expected.read_bytes()
    # The table of stages, and the first rows.
    assert "rank: similarity" in done.stdout
    assert "id, prediction\n1, " + expected.read_text().splitlines()[1].split(",")[1] in done.stdout


@pytest.mark.parametrize(
    "lost, said",
    [("science-exam", "no bundle me/science-exam under"), ("exam-of-science", "no test.csv under")],
)
def test_a_notebook_without_an_input_says_which(made, place, tmp_path, lost, said):
    mounted(tmp_path, made, place / "test.csv", "plain")
    lost = tmp_path / "input" / lost
    lost.unlink() if lost.is_symlink() else shutil.rmtree(lost)
    done = executed(made, tmp_path)
    assert done.returncode == 1 and said in done.stderr and not list((tmp_path / "working").iterdir())


def test_a_notebook_tells_an_upload_that_is_incomplete(made, place, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    (copy / "index").chmod(0o755)
    (copy / "index" / "manifest.json").unlink()
    mounted(tmp_path, copy, place / "test.csv", "plain")
    done = executed(made, tmp_path)
    assert done.returncode == 1 and "manifest.json is missing or incomplete" in done.stderr


def test_a_notebook_stops_where_the_program_fails(made, place, tmp_path):
    (tmp_path / "bad.csv").write_text("id,prompt\n1,x\n")
    mounted(tmp_path, made, tmp_path / "bad.csv", "plain")
    done = executed(made, tmp_path)
    assert done.returncode == 1
    assert "-m inference submit failed with exit code 2" in done.stderr and "error: " in done.stdout


@pytest.mark.parametrize("rerun", [True, False])
def test_a_killed_notebook_hands_in_what_was_answered(made, place, tmp_path, monkeypatch, rerun):
    """While it is scored; in a session before that, the error is worth more."""
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    (copy / "kit" / "inference").chmod(0o755)
    (copy / "kit" / "inference" / "__main__.py").chmod(0o644)
    program = copy / "kit" / "inference" / "__main__.py"
    size, dying = program.stat().st_size, (
        "import os, signal, sys\n"
        "out = sys.argv[sys.argv.index('--out') + 1]\n"
        "open(out, 'w').write('id,prediction\\n1,B A C\\n')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    program.write_text(dying + "#" * (size - len(dying)))
    mounted(tmp_path, copy, place / "test.csv", "plain")
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1" * rerun)
    done = executed(made, tmp_path)
    assert done.returncode == (0 if rerun else 1), done.stderr
    said = done.stdout if rerun else done.stderr
    assert "-m inference submit failed with exit code -9" in said
    assert ("1, B A C" in done.stdout) == rerun


def test_a_dry_run_lists_all_and_writes_nothing(place, made, tmp_path, monkeypatch, capsys):
    flags = ["--config", place / "solution.yaml", *ID, "--wheels", "none", "--out", tmp_path / "b"]
    flags.append("--dry-run")
    assert call(monkeypatch, "bundle", *flags, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    sealed = json.loads((made / "bundle.json").read_text())["parts"]
    parts = {part["name"]: {key: part[key] for key in ("purpose", "bytes")} for part in told["parts"]}
    # Alone the settings have no weight before they are written.
    assert parts == {name: part for name, part in sealed.items() if name != "solution.yaml"}
    assert told["out"] is None and told["bytes"] == sum(part["bytes"] for part in parts.values())
    assert call(monkeypatch, "bundle", *flags) == 0
    shown = capsys.readouterr().out
    assert "3 articles, searched for evidence" in shown and "nothing was written" in shown
    assert not list(tmp_path.iterdir())


def test_contexts_of_a_file_are_left_out_and_alone_are_refused(place, tmp_path):
    told = contents_of(load(place / "solution.yaml", ["contexts_file=c.parquet"]))
    assert "contexts_file" not in told.settings and "contexts_file is left out" in told.notes[0]
    assert not [name for part in told.parts for name in part.files if name.endswith("c.parquet")]


def test_without_an_index_the_notebook_answers_without_contexts(tmp_path, monkeypatch, capsys):
    out = tmp_path / "b"
    flags = ["--set", "limits.time=30m", *ID, "--wheels", "none", "--out", out]
    assert call(monkeypatch, "bundle", *flags) == 0, capsys.readouterr().err
    text = (out / "notebook" / "science-exam.ipynb").read_text()
    assert "'--time', '1800s', '--without-contexts'" in text and not (out / "index").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An adapter on a tiny backbone, and that backbone with files that a bundle has no use for."""
    from training.rankers.settings import CausalRun
    from training.rankers.train import train_ranker

    folder = tmp_path_factory.mktemp("trained")
    model = backbone("llama", folder / "llama")
    settings = task(tmp_path_factory.mktemp("task"), count=8, judged=8)
    run = CausalRun(**settings, model=str(model), out=folder / "lora", epochs=1, peft={"method": "lora"})
    train_ranker("causal", run)
    for name in (
        "pytorch_model.bin", "optimizer.pt", "pytorch_model.bin.index.json", "onnx/model.json",
        "checkpoint-5/model.safetensors", ".git/config",
    ):  # fmt: skip
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("unread")
    return folder


def test_an_adapter_brings_its_backbone_once_and_only_what_is_read(trained, tmp_path, monkeypatch, capsys):
    reranker = tiny_cross_encoder(tmp_path / "cross")
    ranker = {"kind": "trained", "options": {"folder": str(trained / "lora"), "snippets": 3}}
    whole = {"folder": str(trained / "llama"), "form": "options", "max_tokens": 48}
    bare = {"kind": "trained", "options": whole}
    settings = {
        "contexts": {"reranker": str(reranker)},
        "rankers": [ranker, {**ranker, "train": {"command": "causal"}}, bare, {**bare, "weight": 0}],
    }
    (tmp_path / "solution.yaml").write_text(yaml.safe_dump(settings))
    told = contents_of(load(tmp_path / "solution.yaml"))
    assert told.packages == {"peft"} and "rankers with weight 0 are left out" in told.notes
    out = tmp_path / "b"
    command = ["bundle", "--config", tmp_path / "solution.yaml", *ID, "--wheels", "none", "--out", out]
    assert call(monkeypatch, *command) == 0, capsys.readouterr().err
    rankers = yaml.safe_load((out / "solution.yaml").read_text())["rankers"]
    adapter = {"folder": "rankers/lora", "base": "models/llama", "snippets": 3}
    assert [each["options"] for each in rankers] == [
        adapter, {**adapter, "folder": "rankers/lora-2"}, {**whole, "folder": "rankers/llama"},
    ]  # fmt: skip
    assert not any("train" in each for each in rankers)
    for place in ("models/llama", "rankers/llama"):
        assert {"config.json", "model.safetensors"} <= seen(out / place).keys()
        assert not [name for name, data in seen(out / place).items() if data == b"unread"]
    assert {path.name for path in (out / "models").iterdir()} == {"llama", "all-MiniLM-L6-v2"}
    for number, each in enumerate(load(out / "solution.yaml").rankers):
        check_ranker(each.kind, each.options, f"rankers.{number}")


def test_4_bits_and_old_tokenizers_call_for_their_packages(trained, tmp_path):
    options = {"folder": str(trained / "lora"), "load_in_4bit": True}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"rankers": [{"kind": "trained", "options": options}]}))
    assert contents_of(load(tmp_path / "s.yaml")).packages == {"peft", "bitsandbytes", "accelerate"}
    shutil.copytree(trained / "llama", tmp_path / "old")
    (tmp_path / "old" / "tokenizer.json").unlink()
    options = {"folder": "old", "form": "options", "max_tokens": 48}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"rankers": [{"kind": "trained", "options": options}]}))
    assert contents_of(load(tmp_path / "s.yaml")).packages == {"sentencepiece", "protobuf", "tiktoken"}


def test_weights_that_bitsandbytes_saved_call_for_it(trained, tmp_path):
    shutil.copytree(trained / "llama", tmp_path / "small")
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    options = {"folder": "small", "form": "options", "max_tokens": 48, "streamed": True}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"rankers": [{"kind": "trained", "options": options}]}))
    assert {"bitsandbytes", "accelerate"} <= contents_of(load(tmp_path / "s.yaml")).packages


def test_rankers_keep_their_places_in_the_predictions_of_all(trained, tmp_path):
    """``out_of_fold`` has a table for each ranker of the solution, those without weight too."""
    of = {"kind": "trained", "options": {"folder": str(trained / "lora")}}
    rankers = [{"kind": "similarity", "weight": 0}, of]
    (tmp_path / "oof.parquet").write_bytes(b"x")
    for more in ({}, {"out_of_fold": "oof.parquet"}):
        (tmp_path / "s.yaml").write_text(yaml.safe_dump({"rankers": rankers, **more}))
        told = contents_of(load(tmp_path / "s.yaml"))
        kinds = [(each["kind"], each.get("weight", 1)) for each in told.settings["rankers"]]
        assert kinds == [("similarity", 0), ("trained", 1)] if more else kinds == [("trained", 1)]
        assert "rankers with weight 0 are left out" in told.notes


def test_a_reranker_and_a_stack_come_with_an_index(place, tmp_path):
    reranker = tiny_cross_encoder(tmp_path / "cross")
    (tmp_path / "stack.npz").write_bytes(b"x")
    changes = [f"contexts.reranker={reranker}", f"stack={tmp_path / 'stack.npz'}"]
    told = contents_of(load(place / "solution.yaml", changes))
    assert told.settings["contexts"] == {"reranker": "models/pairs"} and told.settings["stack"] == "stack.npz"
    names = {name for part in told.parts for name in part.files}
    assert {"stack.npz", "models/pairs/model.safetensors"} <= names


def test_settings_that_submit_does_not_read_stay_behind(place, tmp_path):
    changes = [f"contexts.reranker={tiny_cross_encoder(tmp_path / 'cross')}", "generate.model=/home/me/phi-3"]
    (tmp_path / "s.yaml").write_text(f"rankers: [{{kind: similarity, options: {json.dumps(OPTION)}}}]\n")
    told = contents_of(load(tmp_path / "s.yaml", changes))
    assert not [word for word in ("/home/me", str(tmp_path)) if word in json.dumps(told.settings)]


def test_a_killed_bundle_is_taken_up_and_ends_the_same(place, made, tmp_path, monkeypatch):
    copied, count = writing._copied, []

    def dying(source, target, on_bytes):
        count.append(target.name)
        if len(count) == 30:
            raise KeyboardInterrupt
        return copied(source, target, on_bytes)

    monkeypatch.setattr(writing, "_copied", dying)
    out = tmp_path / "b"
    command = ["bundle", "--config", place / "solution.yaml", *ID, "--wheels", "none", "--out", out]
    assert call(monkeypatch, *command) == 130 and not out.exists()
    files = [path for path in (tmp_path / "b.work" / "bundle").rglob("*") if path.is_file()]
    kept = {path.stat().st_ino for path in files}
    assert len(kept) == 29
    assert call(monkeypatch, *command) == 0 and seen(out) == seen(made)
    inodes = {path.stat().st_ino for path in out.rglob("*")}
    assert inodes >= kept, "what was copied before the kill was copied again"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def fails(monkeypatch, capsys, out, *command):
    """The message of a bundle that is refused and leaves nothing behind."""
    before = sorted(out.parent.rglob("*"))
    assert call(monkeypatch, "bundle", *ID, *command, "--out", out) == 2
    assert sorted(out.parent.rglob("*")) == before
    return capsys.readouterr().err


def test_everything_that_is_wrong_is_said_at_once(facts_index, tiny, tmp_path, monkeypatch, capsys):
    settings = {
        "index": str(facts_index), "encoder": tiny.card.name,
        "rankers": [{"kind": "trained", "options": {"folder": "gone"}}],
    }  # fmt: skip
    (tmp_path / "solution.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "freeze.txt").write_text("Package Version\n------- -------\nnumpy 2.0.2\n")
    flags = ["--config", tmp_path / "solution.yaml", "--image", tmp_path / "freeze.txt", "--title", "x"]
    said = fails(monkeypatch, capsys, tmp_path / "b", *flags)
    for part in (
        "4 things must be fixed", "no model 'gone'", "built with another encoder",
        "not a line of a freeze: 'Package Version'", "name==version, name @ URL", "'x' has 1 characters",
    ):  # fmt: skip
        assert part in said


@pytest.mark.parametrize("there", ["file", "folder"])
def test_an_out_in_use_is_refused_and_left_alone(place, tmp_path, monkeypatch, capsys, there):
    out = tmp_path / "b"
    if there == "folder":
        out.mkdir()
    (out / "mine" if there == "folder" else out).write_text("mine")
    flags = ["--config", place / "solution.yaml", "--wheels", "none"]
    said = fails(monkeypatch, capsys, out, *flags)
    assert "something is there already" in said and "a new or empty folder" in said


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--device", "tpu"], "no device 'tpu'"), (["--dataset-size", "0"], "--dataset-size"),
        (["--dataset-size", "lots"], "--dataset-size"),
    ],
)  # fmt: skip
def test_what_no_machine_has_is_refused(place, tmp_path, monkeypatch, capsys, flags, said):
    given = ["--config", place / "solution.yaml", "--wheels", "none", *flags]
    assert said in fails(monkeypatch, capsys, tmp_path / "b", *given)


def test_a_bundle_does_not_grow_into_what_it_copies(facts_index, tmp_path, monkeypatch, capsys):
    shutil.copytree(facts_index, tmp_path / "index")
    flags = ["--index", tmp_path / "index", "--wheels", "none"]
    assert "OUT lies inside" in fails(monkeypatch, capsys, tmp_path / "index" / "b", *flags)


def test_without_a_competition_the_bundle_says_what_the_notebook_will_lack(
    place, tmp_path, monkeypatch, capsys
):
    given = [word for word in ID if word != "--competition" and word != ID[ID.index("--competition") + 1]]
    flags = ["--config", place / "solution.yaml", *given, "--wheels", "none", "--out", tmp_path / "b"]
    assert call(monkeypatch, "bundle", *flags) == 0
    assert "no --competition" in capsys.readouterr().out


def test_an_empty_out_is_no_obstacle(place, tmp_path, monkeypatch):
    (tmp_path / "b").mkdir()
    flags = ["--config", place / "solution.yaml", *ID, "--wheels", "none", "--out", tmp_path / "b"]
    assert call(monkeypatch, "bundle", *flags) == 0 and (tmp_path / "b" / "bundle.json").is_file()


def test_a_full_disk_a_missing_image_and_contexts_alone_are_told(place, tmp_path, monkeypatch, capsys):
    flags = ["--config", place / "solution.yaml"]
    assert "--image FREEZE.txt" in fails(monkeypatch, capsys, tmp_path / "b", *flags)
    alone = ["--set", "contexts_file=c.parquet", "--wheels", "none"]
    assert "the hidden ones need an index" in fails(monkeypatch, capsys, tmp_path / "b", *alone)
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    said = fails(monkeypatch, capsys, tmp_path / "b", *flags, "--wheels", "none")
    assert "of disk, but only 1.0 MB is free" in said


def test_a_file_that_changed_since_it_was_sealed_is_not_bundled(facts_index, tmp_path, monkeypatch, capsys):
    index = tmp_path / "index"
    shutil.copytree(facts_index, index)
    vectors = next(index.rglob("vectors.npy"))
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)
    out = tmp_path / "out" / "b"
    command = ["bundle", "--index", index, *ID, "--wheels", "none", "--out", out]
    assert call(monkeypatch, *command) == 2 and not out.parent.exists()
    said = capsys.readouterr().err
    assert f"{vectors}: this file has changed since it was made" in said


def test_unfinished_copies_of_other_files_are_cleared_away(place, tmp_path, monkeypatch, capsys):
    """But not what somebody else is writing, or what is no bundle."""
    flags = ["--config", place / "solution.yaml", *ID, "--wheels", "none", "--out", tmp_path / "b"]
    work = tmp_path / "b.work"
    work.mkdir()
    (work / "mine").write_text("mine")
    assert call(monkeypatch, "bundle", *flags) == 2
    assert "something other than a bundle" in capsys.readouterr().err and (work / "mine").exists()
    (work / "work.json").write_text('{"bundle": "me/another"}')
    with FileLock(work / ".lock"):
        assert call(monkeypatch, "bundle", *flags) == 2
        assert "another bundle is running here" in capsys.readouterr().err and (work / "mine").exists()
    assert call(monkeypatch, "bundle", *flags) == 0
    assert not work.exists() and not (tmp_path / "b" / "mine").exists()


CLIENT = """\
import sys
from pathlib import Path

said = " ".join(sys.argv[1:])
with Path({log!r}).open("a") as file:
    file.write(said + "\\n")
print({answers!r}.get(" ".join(sys.argv[1:3]), ""))
sys.exit({codes!r}.get(" ".join(sys.argv[1:3]), 0))
"""


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A stand-in for Kaggle's client that notes what it is asked, on the PATH."""

    def install(answers, codes=None):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        source = CLIENT.format(log=str(tmp_path / "log"), answers=answers, codes=codes or {})
        (folder / "kaggle").write_text(f"#!{sys.executable}\n{source}")
        (folder / "kaggle").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    install.asked = lambda: (tmp_path / "log").read_text().splitlines()
    return install


@pytest.mark.parametrize("there", [False, True])
def test_a_push_uploads_the_dataset_then_the_notebook(place, tmp_path, monkeypatch, client, there):
    mine = "ref,title\nme/science-exam,x" if there else "ref,title"
    client({"datasets list": mine, "datasets status": "ready"})
    out = tmp_path / "b"
    flags = ["--config", place / "solution.yaml", *ID, "--wheels", "none", "--out", out, "--push"]
    assert call(monkeypatch, "bundle", *flags) == 0
    upload = f"datasets {'version' if there else 'create'} -p {out} --dir-mode zip"
    assert client.asked() == [
        "datasets list --mine",
        "datasets list --mine --csv --search science-exam",
        upload + (" -m python -m inference bundle" if there else ""),
        "datasets status me/science-exam",
        f"kernels push -p {out}/notebook",
    ]


def test_a_client_that_is_missing_or_not_logged_in_is_told_before_any_work(
    place, tmp_path, monkeypatch, capsys, client
):
    flags = ["--config", place / "solution.yaml", "--wheels", "none", "--push"]
    out = tmp_path / "work" / "b"
    out.parent.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Kaggle's client is not installed" in fails(monkeypatch, capsys, out, *flags)
    client({"datasets list": "401 - Unauthorized"}, {"datasets list": 1})
    said = fails(monkeypatch, capsys, out, *flags)
    assert "`kaggle datasets list` failed: 401 - Unauthorized" in said and "log in" in said
    assert client.asked() == ["datasets list --mine"]


def test_an_upload_that_kaggle_refuses_leaves_the_bundle(place, tmp_path, monkeypatch, capsys, client):
    # The client ends with exit code 0 all the same.
    client({"datasets create": "Dataset creation error: the title is already in use"})
    flags = ["--config", place / "solution.yaml", *ID, "--wheels", "none", "--out", tmp_path / "b", "--push"]
    assert call(monkeypatch, "bundle", *flags) == 2
    assert "the title is already in use" in capsys.readouterr().err
    assert (tmp_path / "b" / "bundle.json").is_file()
    assert not any(line.startswith("kernels") for line in client.asked())


def test_a_notebook_is_not_pushed_before_its_dataset_is_ready(place, tmp_path, monkeypatch, capsys, client):
    monkeypatch.setattr(kaggle_client, "_PAUSE", 0.01)
    monkeypatch.setattr(kaggle_client, "_LOOKS", 3)
    client({"datasets status": "not yet ready: running"})
    flags = ["--config", place / "solution.yaml", *ID, "--wheels", "none", "--out", tmp_path / "b", "--push"]
    assert call(monkeypatch, "bundle", *flags) == 2
    assert "is uploaded, but not ready" in capsys.readouterr().err
    assert [line.split()[1] for line in client.asked()] == ["list", "list", "create", *["status"] * 3]
