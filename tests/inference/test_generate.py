"""`generate` and `score-answers`: from files to files, killed and resumed, and what they refuse."""

import argparse
import json
import shutil
import signal
import sys

import pyarrow.parquet as pq
import pytest
from answer_toys import END, asked, speaker, write_rows
from killed import kill_generation
from ranker_toys import backbone

from inference import __main__ as program
from inference.answer_batches import AnswerBatches
from inference.commands.generate import _changes, flags
from inference.score_answers import score as score_answers
from kaggle_rag.config import load
from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.open_questions import OpenQuestions
from kaggle_rag.runtime.errors import InputError, run_program

ROWS = asked(12)
TOKENS = ["--max-new-tokens", "8", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return speaker("llama", tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture
def questions(tmp_path):
    return write_rows(tmp_path / "q.jsonl", ROWS)


@pytest.fixture
def run(monkeypatch, capsys):
    """The program with some words: its exit code, and what it printed on stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["inference", *map(str, words)])
        code = run_program(program.main)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def generate(questions, model, out, *more):
    return ["generate", "--questions", questions, "--model", model, "--out", out, *TOKENS, *more]


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("sampling", [[], ["--temperature", "1.5", "--seed", "3"]])
def test_a_killed_run_goes_on_to_the_same_file(sampling, questions, model, tmp_path, run, monkeypatch):
    code, out, err = run(*generate(questions, model, tmp_path / "whole.jsonl", *sampling))
    assert code == 0 and "ready" in out and "answers were cut at max_new_tokens" in err
    command = generate(questions, model, tmp_path / "killed.jsonl", "--batch-tokens", "120", *sampling)
    assert kill_generation(2, *map(str, command)) == -signal.SIGKILL
    left = tmp_path / ".killed.jsonl.batches"
    done = sum(len(json.loads(path.read_text())) for path in left.glob("*[0-9].json"))
    assert 0 < done < len(ROWS) and not (tmp_path / "killed.jsonl").exists()
    again = []
    add = AnswerBatches.add
    monkeypatch.setattr(
        AnswerBatches, "add", lambda self, rows, some: again.extend(rows) or add(self, rows, some)
    )
    # Other batches are no other answers.
    command = generate(questions, model, tmp_path / "killed.jsonl", "--batch-tokens", "300", *sampling)
    assert run(*command)[0] == 0 and len(again) == len(ROWS) - done
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not left.exists()
    code, out, _ = run(*command)
    assert code == 0 and "already complete" in out
    code, _, err = run(*command, "--seed", "9", "--beams", "1")
    assert code == 2 and "a file of other answers" in err


def test_unfinished_answers_of_another_model_are_not_thrown_away(questions, model, tmp_path, run):
    command = generate(questions, model, tmp_path / "a.jsonl", "--batch-tokens", "120")
    assert kill_generation(1, *map(str, command)) == -signal.SIGKILL
    code, _, err = run(*command, "--beams", "2")
    assert code == 2 and "an unfinished generation already exists, and differs in settings" in err
    assert run(*command)[0] == 0


def test_answers_behind_another_chat_template_are_other_answers(questions, model, tmp_path, run):
    talker = shutil.copytree(model, tmp_path / "talker")
    (talker / "chat_template.jinja").write_text("{{ messages[0].content }}")
    command = generate(questions, talker, tmp_path / "a.jsonl", "--chat")
    assert run(*command)[0] == 0 and "already complete" in run(*command)[1]
    (talker / "chat_template.jinja").write_text("the {{ messages[0].content }}")
    code, _, err = run(*command)
    assert code == 2 and "a file of other answers" in err


def test_answers_are_written_as_parquet_too(questions, model, tmp_path, run):
    for name in ("a.jsonl", "a.parquet"):
        assert run(*generate(questions, model, tmp_path / name, "--limit", "5"))[0] == 0
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert table == rows_of(tmp_path / "a.jsonl") and len(table) == 5
    assert list(table[0]) == ["id", "question", "answer", "ended", "tokens", "context", "made_by"]
    assert [row["context"] for row in table] == [row["context"] for row in ROWS[:5]]
    code, out, _ = run("score-answers", tmp_path / "a.parquet", questions, "--limit", "5")
    assert code == 0 and out.startswith("5 questions")


def test_scores_of_a_file_worked_by_hand(tmp_path, run):
    questions = write_rows(
        tmp_path / "q.jsonl",
        [{"id": n, "prompt": f"p{n}", "answer": gold} for n, gold in enumerate(
            [["Denver Broncos"], ["Paris", "the city"], ["ten"], None])],
    )  # fmt: skip
    answers = write_rows(
        tmp_path / "a.jsonl",
        [{"id": n, "answer": text, "context": context} for n, (text, context) in enumerate([
            ("The Denver Broncos.", "Denver won"), ("It is Paris", "Paris Paris"), ("", "ten"),
            ("anything", None)])],
    )  # fmt: skip
    code, out, _ = run("score-answers", answers, questions, "--json")
    found = json.loads(out)
    assert code == 0 and (found["questions"], found["unknown"], found["empty"]) == (3, 1, 1)
    # F1 of "it is paris" is 2 * 1/3 * 1 / (4/3).
    means = {name: found[name]["mean"] for name in ("exact_match", "f1", "accuracy", "unsupported")}
    assert means == pytest.approx(
        {"exact_match": 1 / 3, "f1": 1.5 / 3, "accuracy": 2 / 3, "unsupported": (1 / 2 + 2 / 3) / 2}
    )
    assert found["f1"]["low"] <= 0.5 <= found["f1"]["high"] and found["bert"] is None
    # The first of the questions, of a file that answers them all.
    code, out, _ = run("score-answers", answers, questions, "--limit", "1", "--json")
    assert code == 0 and json.loads(out)["exact_match"]["mean"] == 1


GOLDS = ["cedar", "delta"]


def test_bertscore_of_equal_answers_is_one_and_is_told_with_its_layer(tmp_path, run):
    encoder = backbone("bert", tmp_path / "bert")
    questions = write_rows(
        tmp_path / "q.jsonl",
        [{"id": n, "prompt": f"p{n}", "answer": ["amber birch", gold]} for n, gold in enumerate(GOLDS)],
    )  # fmt: skip
    for texts, low, high in ((["amber birch", "delta"], 0.9999, 1.0001), (["heron", ""], -1, 0.99)):
        rows = [{"id": n, "answer": text} for n, text in enumerate(texts)]
        answers = write_rows(tmp_path / "a.jsonl", rows)
        for more in ([], ["--idf"]):
            words = ["score-answers", answers, questions, "--encoder", encoder, "--layer", "1", *more]
            code, out, _ = run(*words, "--device", "cpu", "--json")
            found = json.loads(out)
            assert code == 0 and f"bert, layer 1{', idf' if more else ''}" in found["bert_of"]
            assert all(low < found["bert"][name]["mean"] < high for name in ("precision", "recall", "f1"))


def test_questions_without_options_are_searched_and_answered_from_their_contexts(
    model, facts_index, tmp_path, run
):
    questions = tmp_path / "nq.jsonl"
    write_rows(questions, [{"question": "Which is the larger moon of Mars?", "answer": ["Phobos"]}])
    contexts = tmp_path / "c.parquet"
    command = ["contexts", "--questions", questions, "--index", facts_index, "--out", contexts]
    code, _, err = run(*command)
    assert code == 2 and "column 'id' is missing" in err
    code, _, err = run(*command, "--open", "--set", "contexts.per=option")
    assert code == 2 and "these questions have no options" in err
    assert run(*command, "--open")[0] == 0
    (found,) = read_contexts(contexts, OpenQuestions.read(questions).questions)
    assert "Phobos" in found.shared.text
    out = tmp_path / "a.jsonl"
    assert run(*generate(questions, model, out, "--contexts-file", contexts))[0] == 0
    (row,) = rows_of(out)
    # The tiny model has room for part of it.
    assert row["id"] == 1 and row["context"] and found.shared.text.startswith(row["context"])
    code, text, _ = run("score-answers", out, questions, "--contexts-file", contexts)
    assert code == 0 and "tokens not in the context" in text
    other = write_rows(tmp_path / "o.jsonl", [{"id": 1, "prompt": "Another?", "answer": "x"}])
    code, _, err = run(*generate(other, model, tmp_path / "b.jsonl", "--contexts-file", contexts))
    assert code == 2 and "made for another question with the id '1'" in err
    code, _, err = run("score-answers", out, other)
    assert code == 2 and "given to another question with the id '1'" in err


def test_a_multiple_choice_file_is_answered_in_words(model, tmp_path, run):
    rows = [{"id": 1, "prompt": "birch ?", "context": "cedar delta", "A": "ember", "B": END, "answer": "B"}]
    questions, out = write_rows(tmp_path / "q.jsonl", rows), tmp_path / "a.jsonl"
    template = 'generate.template={first: "{context} {prompt} {options} Answer:"}'
    assert run(*generate(questions, model, out, "--set", template))[0] == 0
    code, text, _ = run("score-answers", out, questions)
    assert code == 0 and text.startswith("1 question\n")


def test_a_template_on_the_command_line_is_that_of_a_file(questions, model, tmp_path, run):
    text = "{context}\n\nQ: {prompt} #1\nA:"
    (tmp_path / "s.yaml").write_text(json.dumps({"generate": {"template": {"first": text}}}))
    for name, more in [
        ("file", ["--config", tmp_path / "s.yaml"]),
        ("flag", ["--template", text.replace("\n", "\\n")]),
        ("lines", ["--template", text]),
        ("set", ["--set", f"generate.template.first={json.dumps(text)}"]),
    ]:
        code, _, err = run(*generate(questions, model, tmp_path / f"{name}.jsonl", "--limit", "3", *more))
        assert code == 0, err
    made = {(tmp_path / f"{name}.jsonl").read_bytes() for name in ("file", "flag", "lines", "set")}
    assert len(made) == 1
    for bare, said in [(text, "the value is not YAML"), ("{prompt}", "template.first: not a text")]:
        change = f"generate.template.first={bare}"
        code, _, err = run(*generate(questions, model, tmp_path / "a.jsonl", "--set", change))
        assert code == 2 and said in err and "in quotes" in err and '="..."' in err


def test_all_faults_are_told_at_once_and_nothing_is_written(model, tmp_path, run):
    bare = write_rows(tmp_path / "q.jsonl", [{"id": 1, "prompt": "birch ?"}])
    encoder = backbone("bert", tmp_path / "bert")
    code, _, err = run(
        "generate", "--questions", bare, "--out", tmp_path / "a.csv", "--model", encoder
    )  # fmt: skip
    assert code == 2 and "3 things must be fixed" in err
    for told in ("wrong extension", "1 of 1 question has no context", "cannot generate"):
        assert told in err
    code, _, err = run("generate", "--questions", bare, "--model", model)
    assert code == 2 and "not given: out" in err
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--stop", ""], "a stop text is empty"),
        (["--beams", "2", "--temperature", "1"], "give one"),
        (["--top-k", "5"], "give a temperature too"),
        (["--max-new-tokens", "0"], "generate.max_new_tokens"),
        (["--max-tokens", "5"], "question 1: the question alone is longer than a prompt of 5 tokens"),
        (["--precision", "fp8"], "generate.precision"),
        (["--chat"], "no chat template"),
        (["--contexts-file", "c.parquet", "--without-contexts"], "contradict"),
        (["--model", "nowhere/at-all"], "no model 'nowhere/at-all'"),
        (["--set", "limits.ram=1MB"], "the stage 'generate' would need"),
    ],
)
def test_settings_that_cannot_work(flags, told, questions, model, tmp_path, run):
    code, _, err = run(*generate(questions, model, tmp_path / "a.jsonl", *flags))
    assert code == 2 and told in err and not (tmp_path / "a.jsonl").exists()


def test_a_check_tells_the_prompts_and_answers_nothing(questions, model, tmp_path, run):
    code, out, err = run(*generate(questions, model, tmp_path / "new/a.jsonl", "--check", "--set", "top=5"))
    assert code == 0 and "12 prompts of" in out and "at most 120" in out
    assert "top has no effect: generate does not read top" in err
    assert {path.name for path in tmp_path.iterdir()} == {"q.jsonl"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--beams", "4", "--temperature", "1"], ["beams search", "no-such", "wrong extension"]),
        (["--top-k", "5", "--max-new-tokens", "x"], ["max_new_tokens", "no-such", "wrong extension"]),
        (["--set", "generate.model=5"], ["generate.model: should be text", "wrong extension"]),
        (["--set", "generate.modle=x", "--set", "questions=[a]", "--without-contexts"],
         ["did you mean 'model'", "questions: should be a path", "no-such", "wrong extension"]),
        (["--set", "generate=5"], ["generate: should be key: value lines", "wrong extension"]),
    ],
)  # fmt: skip
def test_a_check_tells_every_fault_and_no_consequence_of_one(more, told, questions, tmp_path, run):
    given = [] if "questions=[a]" in more else ["--questions", questions]
    if "generate=5" not in more and "generate.model=5" not in more:
        given += ["--model", tmp_path / "no-such"]
    code, _, err = run("generate", "--check", *given, "--out", tmp_path / "a.csv", *more)
    assert code == 2 and all(each in err for each in told), err
    assert err.count("\n* ") == len(told) - (told[0].startswith("did you mean"))
    assert "no model is given" not in err and "not given" not in err and "have no context" not in err


@pytest.mark.parametrize(
    ("answers", "golds", "told"),
    [
        ([{"id": 0, "answer": "x"}], [None], "no question has a right answer"),
        ([{"id": 7, "answer": "x"}], ["x"], "1 of 1 question has no answer here, and 1 answer is"),
        ([{"id": 0, "answer": "x"}, {"id": 1, "answer": "x"}], ["x"], "0 of 1 question has"),
        ([{"id": 0, "answer": "x"}, {"id": "0", "answer": "y"}], ["x"], "appears in two rows"),
        ([{"id": 0, "said": "x"}], ["x"], "column 'answer' is missing"),
    ],
)
def test_files_that_cannot_be_scored(answers, golds, told, tmp_path, run):
    given = write_rows(tmp_path / "a.jsonl", answers)
    rows = [{"id": number, "prompt": "p", "answer": gold} for number, gold in enumerate(golds)]
    code, _, err = run("score-answers", given, write_rows(tmp_path / "q.jsonl", rows))
    assert code == 2 and told in err


def test_flags_of_bertscore_without_it(tmp_path, run):
    code, _, err = run("score-answers", tmp_path / "a", tmp_path / "q", "--layer", "3")
    assert code == 2 and "--encoder FOLDER" in err


def test_flags_reach_the_settings_as_they_were_typed():
    parser = argparse.ArgumentParser()
    flags(parser)
    words = ["--model", "models dir #1: new", "--stop", "😀\\n", "--stop", "a: b, c] #"]
    words += ["--temperature", "0.5", "--precision", "fp32"]
    words += ["--template", '{context} 𝑥\u2028\\n"Q": {prompt}']
    told = load(None, _changes(parser.parse_args(words))).generate
    assert told.model == "models dir #1: new" and told.stop == ("😀\n", "a: b, c] #")
    assert told.template == {"first": '{context} 𝑥\u2028\n"Q": {prompt}'}
    assert (told.temperature, told.precision) == (0.5, "fp32")


def test_answers_in_csv_tell_nothing_by_an_empty_cell(tmp_path):
    (tmp_path / "q.csv").write_text("id,prompt,answer\n1,How many?,two\n")
    (tmp_path / "a.csv").write_text("id,answer,context,question\n1,two,,\n")
    (tmp_path / "a.jsonl").write_text('{"id": 1, "answer": "two", "context": null, "question": null}\n')
    for name in ("a.csv", "a.jsonl"):
        told = score_answers(tmp_path / name, tmp_path / "q.csv", None, None, None)
        assert told.exact_match.mean == 1 and told.unsupported is None, name
    (tmp_path / "a.jsonl").write_text('{"id": 1, "answer": "two", "context": {"a": 1}}\n')
    with pytest.raises(InputError, match="row 1, column context"):
        score_answers(tmp_path / "a.jsonl", tmp_path / "q.csv", None, None, None)
    (tmp_path / "a.csv").write_text("id,answer\n")
    with pytest.raises(InputError, match="the file has a header but no rows"):
        score_answers(tmp_path / "a.csv", tmp_path / "q.csv", None, None, None)
