"""All faults of a run at once, before any model is loaded; and paths that mean what they say."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from model_toys import tiny_model
from question_tables import ROWS
from safetensors.numpy import save_file

from inference import __main__ as program
from kaggle_rag.config import load
from kaggle_rag.data.submission import read_submission
from kaggle_rag.rankers.checks import check_ranker
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.runtime import settings
from kaggle_rag.runtime.errors import ConfigError, run_program
from kaggle_rag.runtime.faults import Gathered


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, arguments)])
    return run_program(program.main)


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


WRONG = {
    "questions": "nowhere.csv",
    "index": "no-index",
    "out": "s.txt",
    "encoders": {"bge": "x"},
    "stack": "none.npz",
    "contexts": {"keep": "many", "forms": 3},
    "rankers": [
        {"kind": "similarty"},
        {"kind": "similarity", "options": {"temperature": "hot"}},
        {"kind": "trained", "options": {"folder": "gone"}},
        {"kind": "trained", "options": {"folderr": "gone"}},
    ],
    "limits": {"ram": "2XB"},
}
HEAVY = "{'torch', 'faiss', 'transformers', 'sentence_transformers'} & set(sys.modules)"


def test_all_faults_of_all_sections_are_told_at_once_without_torch(tmp_path):
    code, told = checked(tmp_path, WRONG)
    assert code == 2, told
    for said in (
        "contexts.keep", "contexts.forms: should be a list", "limits.ram", "nowhere.csv", "no-index",
        "s.txt", "'similarty'", "rankers.1.options.temperature: cannot be 'hot'", "no ranker 'gone'",
        "'folderr'", "none.npz",
    ):  # fmt: skip
        assert said in told.replace("no model 'gone'", "no ranker 'gone'"), said
    assert not any(word in told for word in ("tuple", "Traceback", "pydantic", "Settings"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["solution.yaml"]


def checked(folder, settings):
    """Exit code and words of ``submit --check`` in a process of its own; 9 where it brought torch along."""
    (folder / "solution.yaml").write_text(yaml.safe_dump(settings))
    command = (
        "import sys; sys.argv = ['i', 'submit', '--check', '--config', 'solution.yaml']\n"
        "from inference.__main__ import main\nfrom kaggle_rag.runtime.errors import run_program\n"
        f"code = run_program(main)\nsys.exit(9 if {HEAVY} else code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", command], cwd=folder, capture_output=True, text=True, check=False
    )
    return found.returncode, found.stderr


def test_a_limit_that_is_too_small_is_told_with_the_other_faults(facts_index, questions, tmp_path):
    settings = {"questions": str(questions), "index": str(facts_index), "out": "s.csv"}
    code, said = checked(tmp_path, settings | {"limits": {"ram": "500MB"}, "rankers": [{"kind": "x"}]})
    assert code == 2 and "2 things must be fixed" in said
    assert "'answering' would need about 1.00 GB of RAM" in said and "no ranker 'x'" in said


def test_a_reranker_counts_by_the_headers_of_its_files(facts_index, questions, tmp_path):
    # Weights of 0.4 GB that take no room on the disk: only their header is read.
    folder = tmp_path / "reranker"
    folder.mkdir()
    size = 4 * 100_000_000
    told = {"w.weight": {"dtype": "F32", "shape": [10_000, 10_000], "data_offsets": [0, size]}}
    header = json.dumps(told).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    (folder / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    settings = {"questions": str(questions), "index": str(facts_index), "out": "s.csv"}
    settings |= {"contexts": {"reranker": str(folder)}}
    code, said = checked(tmp_path, settings | {"limits": {"ram": "1.2GB"}})
    assert code == 2 and "'contexts' would need about 1.3" in said and "leave out contexts.reranker" in said
    code, said = checked(tmp_path, settings | {"limits": {"ram": "1.5GB"}, "rankers": [{"kind": "x"}]})
    assert code == 2 and "no ranker 'x'" in said and "would need" not in said


@pytest.mark.parametrize("option", ["max_tokens", "batch_tokens", "snippets"])
def test_numbers_of_a_ranker_that_mean_nothing_are_refused(option, tmp_path):
    least = 0 if option == "snippets" else 1
    with pytest.raises(ConfigError, match=f"rankers.options.{option}.*\n.*{least} or more"):
        make_ranker("trained", {"folder": str(tmp_path), option: least - 1})


def test_a_fault_names_the_ranker_that_it_is_of(facts_index, questions, tmp_path, monkeypatch, capsys):
    flags = ["--questions", questions, "--index", facts_index, "--out", tmp_path / "s.csv"]
    both = "rankers=[{kind: similarity}, {kind: similarity, options: {temperature: -1}}]"
    assert call(monkeypatch, "submit", "--check", *flags, "--set", both) == 2
    assert "rankers.1.options.temperature: cannot be -1" in capsys.readouterr().err


def test_a_backbone_beside_a_checkpoint_that_is_whole_is_refused(tmp_path):
    save_file({"w": np.zeros(1)}, tmp_path / "model.safetensors")
    found, bare = Gathered(), {"folder": str(tmp_path), "form": "choice", "max_tokens": 64}
    for options in (bare, bare | {"base": "deberta"}):
        with found.check():
            check_ranker("trained", options, "rankers.2")
    assert [fault.where for fault in found.faults] == ["rankers.2.options.base"]


def test_a_check_of_what_is_right_answers_nothing(facts_index, questions, tmp_path, monkeypatch, capsys):
    flags = ["--questions", questions, "--index", facts_index, "--out", tmp_path / "s.csv"]
    assert call(monkeypatch, "submit", "--check", *flags) == 0
    assert "Nothing was answered" in capsys.readouterr().out and not (tmp_path / "s.csv").exists()


def test_the_settings_of_every_ranker_are_known_without_torch():
    code = (
        "import sys; from kaggle_rag.rankers.registry import RANKERS, settings_of\n"
        "told = [settings_of(kind) for kind in RANKERS]; print(told, 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'load_in_4bit': 'bool'" in found and "'temperature': 'float'" in found
    assert "'index'" not in found and found.rstrip().endswith("False")


def test_two_flags_that_contradict_each_other_are_refused(questions, tmp_path, monkeypatch, capsys):
    flags = ["--questions", questions, "--out", tmp_path / "s.csv", "--without-contexts"]
    assert call(monkeypatch, "submit", *flags, "--contexts-file", tmp_path / "c.parquet") == 2
    assert "contradict" in capsys.readouterr().err


def test_every_path_of_a_file_is_relative_to_it(tmp_path, monkeypatch):
    for name in ("enc", "second", "reads", "base", "ranker"):
        (tmp_path / name).mkdir()
    told = {
        "encoder": "enc/", "encoders": {"b": "second"}, "contexts": {"reranker": "reads"},
        "stack": "~/stack.npz",
        "rankers": [{"kind": "trained", "options": {"folder": "ranker", "base": "base"}}],
    }  # fmt: skip
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(told))
    monkeypatch.setenv("HOME", "/home/of/mine")
    found = load(tmp_path / "s.yaml")
    here = str(tmp_path) + "/"
    assert (found.encoder, found.encoders) == (here + "enc", {"b": here + "second"})
    assert found.contexts.reranker == here + "reads" and str(found.stack) == "/home/of/mine/stack.npz"
    assert found.rankers[0].options == {"folder": here + "ranker", "base": here + "base"}
    # Names that are no folders stay names, on the command line too.
    (tmp_path / "s.yaml").write_text("encoder: BAAI/bge-small-en-v1.5/\n")
    assert load(tmp_path / "s.yaml").encoder == "BAAI/bge-small-en-v1.5"
    assert load(None, ["contexts.reranker=~/r/"]).contexts.reranker == "/home/of/mine/r"


def test_a_slash_at_the_end_of_a_model_says_nothing(tmp_path, monkeypatch):
    from kaggle_rag.models.checkpoints import resolve

    monkeypatch.setenv("KAGGLE_RAG_INPUTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    model = tiny_model(tmp_path / "mini")
    assert resolve("some/mini/").path.resolve().is_relative_to(tmp_path / "mini")
    assert resolve(f"~/{model.relative_to(tmp_path)}/").path == model


def test_limits_and_rankings_of_any_length(facts_index, questions, tmp_path, monkeypatch, capsys):
    out = tmp_path / "s.csv"
    flags = ["--questions", questions, "--index", facts_index, "--out", out]
    assert call(monkeypatch, "submit", *flags, "--top", "all", "--limit", "1") == 0
    assert "PARTIAL" in capsys.readouterr().err
    (columns,) = read_submission(out).values()
    options = [ROWS[0][x] for x in "ABCDEFGH" if ROWS[0].get(x)]
    assert sorted(columns) == list(range(len(options)))
    assert call(monkeypatch, "submit", *flags, "--top", "1") == 0
    assert "PARTIAL" not in capsys.readouterr().err
    rows = read_submission(out).values()
    assert {len(row) for row in rows} == {1} and len(rows) == len(ROWS)
    assert call(monkeypatch, "submit", *flags, "--top", "0") == 2
    assert "top" in capsys.readouterr().err


def test_map_and_precision_at_every_k_are_those_worked_by_hand(tmp_path, monkeypatch, capsys):
    (tmp_path / "s.csv").write_text("id,prediction\n1,A B C D\n2,C A B D\n3,D C\n")
    (tmp_path / "q.csv").write_text("id,answer\n1,A\n2,D\n3,B\n")
    assert call(monkeypatch, "score", tmp_path / "s.csv", tmp_path / "q.csv", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["map@k"] == pytest.approx({"1": 1 / 3, "2": 1 / 3, "3": 1 / 3, "4": (1 + 1 / 4) / 3})
    assert found["precision@k"] == pytest.approx({"1": 1 / 3, "2": 1 / 6, "3": 1 / 9, "4": 1 / 6})
    assert call(monkeypatch, "score", tmp_path / "s.csv", tmp_path / "q.csv", "--limit", "1") == 0
    assert "MAP@3 1.0000" in capsys.readouterr().out


def test_contexts_of_other_questions_are_not_written_over(
    facts_index, questions, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "c.parquet"
    flags = ["contexts", "--index", facts_index, "--out", out, "--questions"]
    assert call(monkeypatch, *flags, questions) == 0
    before = out.read_bytes()
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(ROWS[0]) + "\n")
    assert call(monkeypatch, *flags, other) == 2
    assert "other questions" in capsys.readouterr().err and out.read_bytes() == before
    assert call(monkeypatch, *flags, questions, "--set", "contexts.keep=3") == 2
    assert "other settings" in capsys.readouterr().err and out.read_bytes() == before


@pytest.mark.parametrize("name", ["inference", "training", "wiki_index"])
def test_a_bare_program_lists_its_commands(name):
    found = subprocess.run([sys.executable, "-m", name], capture_output=True, text=True, check=False)
    assert found.returncode == 2 and "required" not in found.stderr
    assert {"inference": "submit", "training": "causal", "wiki_index": "measure"}[name] in found.stderr


def test_a_question_after_the_other_by_models_that_are_opened_once(
    facts_index, tmp_path, monkeypatch, capsys
):
    from kaggle_rag.rankers.resources import Resources

    opened = []
    real = Resources.open.__func__
    monkeypatch.setattr(Resources, "open", classmethod(lambda cls, s: opened.append(s) or real(cls, s)))
    typed = tmp_path / "typed"
    typed.write_text(
        "Which moon is larger?\nPhobos\nDeimos\n\nNothing to choose\nA\n\nMetal?\nIron\nCopper\n"
    )
    with typed.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert call(monkeypatch, "ask", "--index", facts_index) == 2
    told = capsys.readouterr()
    assert "Phobos" in told.out and "Copper" in told.out and "too little to rank" in told.err
    assert len(opened) == 1


def test_a_closed_input_is_one_message(facts_index, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert call(monkeypatch, "ask", "--index", facts_index) == 2
    assert "no question was asked" in capsys.readouterr().err


def test_the_old_name_of_a_flag_and_of_a_setting_still_works(tmp_path, monkeypatch, capsys):
    from training.__main__ import PROGRAM
    from training.loop.flags import settings_of
    from training.rankers.settings import MultipleChoiceRun

    (tmp_path / "r.yaml").write_text("contexts_file: c.parquet\nquestions: q.csv\nout: o\nmodel: m\n")
    for words, noted in (
        ([], False), (["--contexts", "d.parquet"], True), (["--contexts-file", "d.parquet"], False)
    ):  # fmt: skip
        given = ["multiple-choice", "--config", str(tmp_path / "r.yaml"), *words]
        arguments = PROGRAM.parser().parse_args(given)
        found = settings_of(arguments, MultipleChoiceRun)
        assert str(found.contexts_file) == ("d.parquet" if words else str(tmp_path / "c.parquet"))
        assert ("--contexts-file" in capsys.readouterr().err) == noted
    (tmp_path / "r.yaml").write_text("contexts: c.parquet\nquestions: q.csv\nout: o\nmodel: m\n")
    arguments = PROGRAM.parser().parse_args(["multiple-choice", "--config", str(tmp_path / "r.yaml")])
    settings._tell_renamed.cache_clear()
    assert str(settings_of(arguments, MultipleChoiceRun).contexts_file) == str(tmp_path / "c.parquet")
    assert "now called contexts_file" in capsys.readouterr().err


def test_keys_by_their_old_names_work_and_a_line_says_the_new_one(tmp_path, capsys):
    from training.__main__ import PROGRAM
    from training.loop.flags import settings_of
    from training.rankers.settings import MultipleChoiceRun

    words = ["multiple-choice", "--questions", "q.csv", "--out", "o", "--model", "m"]
    (tmp_path / "r.yaml").write_text("chunks: 3\n")
    for more in (["--config", str(tmp_path / "r.yaml")], ["--set", "chunks=3"], ["--chunks", "3"]):
        settings._tell_renamed.cache_clear()
        assert settings_of(PROGRAM.parser().parse_args([*words, *more]), MultipleChoiceRun).snippets == 3
        assert "chunks is now called" in capsys.readouterr().err
    settings._tell_renamed.cache_clear()
    found = load(None, ["rankers=[{kind: trained, options: {folder: r, chunks: 5}}]"])
    assert found.rankers[0].options == {"folder": "r", "snippets": 5}
    assert capsys.readouterr().err.count("chunks is now called snippets") == 1


def test_one_encoder_has_one_place():
    from kaggle_rag.runtime.flags import encoders_of

    assert encoders_of(["here", "bge=/there"]) == ("here", {"bge": "/there"})
    with pytest.raises(ConfigError, match="two locations"):
        encoders_of(["a", "b"])


def test_a_second_encoder_that_moved_is_named_by_its_retriever(tmp_path, questions, monkeypatch, capsys):
    from conftest import write_corpus

    from wiki_index import __main__ as builder

    folders = []
    for seed, name in enumerate(("first", "second")):
        (tmp_path / f"in{seed}").mkdir()
        folders.append(tiny_model(tmp_path / f"in{seed}", seed=seed).rename(tmp_path / name))
    corpus = write_corpus(tmp_path / "c.jsonl", ["Iron rusts. It is red.", "Copper is a metal."])
    command = ["wiki_index", "build", corpus, tmp_path / "index"]
    command += [word for folder in folders for word in ("--encoder", folder)]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    assert run_program(builder.main) == 0
    moved = folders[1].rename(tmp_path / "moved")
    flags = ["contexts", "--questions", questions, "--index", tmp_path / "index", "--device", "cpu"]
    flags += ["--out", tmp_path / "o.parquet", "--set", "contexts.retrievers={first: 0.5, second: 0.5}"]
    assert call(monkeypatch, *flags) == 2
    assert "second" in capsys.readouterr().err and not (tmp_path / "o.parquet").exists()
    assert call(monkeypatch, *flags, "--encoder", f"second={moved}/") == 0
    assert call(monkeypatch, *flags, "--encoder", f"third={moved}") == 2
    assert "no further retriever 'third'" in capsys.readouterr().err


def test_a_ranker_that_is_described_and_not_trained_is_told_how(questions, tmp_path, monkeypatch, capsys):
    described = "rankers=[{kind: trained, train: {command: multiple-choice, model: x}}]"
    flags = ["--questions", questions, "--without-contexts", "--out", tmp_path / "s.csv", "--set", described]
    assert call(monkeypatch, "submit", "--check", *flags) == 2
    told = capsys.readouterr().err
    assert "this ranker is not trained yet" in told and "cross-validate SOLUTION --final" in told
