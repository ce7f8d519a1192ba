"""Models say which questions they have learnt from, and every score on those is marked."""

import json
import shutil

import pytest
import yaml
from ranker_toys import WORDS, backbone, files, rows
from submit_toys import Submit
from training_toys import toy

from inference.score import score
from kaggle_rag.config import load
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation import learnt
from kaggle_rag.rankers.seen import models_of, says_all, seen_by
from kaggle_rag.runtime.errors import ArtifactError
from training.__main__ import main as training
from training.rankers.settings import CausalRun, MultipleChoiceRun
from training.rankers.train import train_ranker
from training.retrieval.bi_encoder import train_retriever
from training.retrieval.losses import can_denoise
from training.retrieval.settings import RetrieverSettings


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A ranker of 24 questions, its folder, and a file with eight of them and eight others."""
    folder = tmp_path_factory.mktemp("trained")
    known = rows(24, 0, words=WORDS[:6])
    strange = [row | {"prompt": f"another one {number} ?"} for number, row in enumerate(rows(8, 9))]
    questions, contexts = files(folder, "train", known)
    given = {
        "model": str(backbone("bert", folder / "bert")), "questions": questions, "contexts_file": contexts,
        "held_out": 0, "max_tokens": 32, "batch": 8, "epochs": 1, "device": "cpu",
    }  # fmt: skip
    judged, judged_contexts = files(folder, "judged", rows(4, 5, words=WORDS[:6]))
    chosen = {"validation": judged, "validation_contexts": judged_contexts}
    train_ranker("multiple-choice", MultipleChoiceRun(**given, **chosen, out=folder / "ranker"))
    both = [
        {**row, "id": f"{kind}-{number}"}
        for kind, some in (("old", known[:8]), ("new", strange)) for number, row in enumerate(some)
    ]  # fmt: skip
    asked, _ = files(folder, "asked", both)
    return folder, given, asked, judged


def test_a_mark_minds_neither_case_nor_spaces_nor_the_order_of_options(tmp_path):
    lines = [
        "id,prompt,A,B,C,answer", "1,Which  metal?,Iron,tin ,,A", "2,which metal?,TIN,,iron,C",
        "3,which metal?,tin,lead,,A", "4,which metals?,iron,tin,,A",
    ]  # fmt: skip
    (tmp_path / "q.csv").write_text("\n".join(lines) + "\n")
    one, same, *others = learnt.marks(Questions.read(tmp_path / "q.csv"))
    assert one == same and len({one, *others}) == 3


def test_a_ranker_knows_the_questions_it_was_trained_and_chosen_on(trained):
    folder, given, asked, judged = trained
    tables = [Questions.read(path) for path in (given["questions"], judged)]
    marks = {mark for table in tables for mark in learnt.marks(table)}
    assert learnt.read(folder / "ranker") == learnt.Learnt(frozenset(marks))
    solution = load(None, [f"rankers={json.dumps(_ranker(folder))}"])
    found = seen_by(models_of(solution, solution.rankers, search=False), Questions.read(asked))
    assert found.models == {str(folder / "ranker"): 8}
    assert found.ids == tuple(f"old-{number}" for number in range(8))


def _ranker(folder):
    return [{"kind": "trained", "options": {"folder": str(folder / "ranker"), "device": "cpu"}}]


def test_an_adapter_knows_them_too(trained, tmp_path):
    """Its folder has no configuration of a model, only that of the adapter."""
    _, given, asked, _ = trained
    model = {"model": str(backbone("llama", tmp_path / "llama")), "form": "letters"}
    train_ranker("causal", CausalRun(**{**given, **model, "out": tmp_path / "lora"}))
    assert not (tmp_path / "lora" / "config.json").exists()
    found = seen_by([str(tmp_path / "lora")], Questions.read(asked))
    assert found.models == {str(tmp_path / "lora"): 8}


def test_what_is_trained_from_it_knows_them_too(trained, tmp_path):
    folder, given, asked, _ = trained
    again = {**given, "model": str(folder / "ranker"), "questions": asked, "contexts_file": None}
    train_ranker("multiple-choice", MultipleChoiceRun(**again, out=tmp_path / "next"))
    marks = {*learnt.marks(Questions.read(asked)), *learnt.read(folder / "ranker").marks}
    assert learnt.read(tmp_path / "next") == learnt.Learnt(frozenset(marks))


def test_what_comes_from_a_model_that_does_not_say_it_does_not_claim_to_say_all(trained, tmp_path):
    folder, given, asked, _ = trained
    silent = tmp_path / "silent"
    shutil.copytree(folder / "ranker", silent)
    (silent / learnt.FILE).unlink()
    again = {**given, "model": str(silent), "questions": asked, "contexts_file": None}
    train_ranker("multiple-choice", MultipleChoiceRun(**again, out=tmp_path / "next"))
    assert learnt.read(tmp_path / "next").marks == {*learnt.marks(Questions.read(asked))}
    told = [says_all(str(each)) for each in (folder / "ranker", silent, tmp_path / "next")]
    assert told == [True, False, False]


def test_a_retriever_knows_its_questions_but_not_those_that_were_excluded(tmp_path):
    data = toy(tmp_path)
    settings = {**data, "positive": "fact", "batch": 12, "epochs": 1, "device": "cpu"}
    train_retriever(RetrieverSettings(**settings, out=tmp_path / "encoder"))
    marks = [learnt.marks(Questions.read(data[name])) for name in ("questions", "validation")]
    # Questions to learn from that repeat one to be judged by are left out.
    known = learnt.read(tmp_path / "encoder").marks
    assert {*marks[1]} <= known <= {*marks[0], *marks[1]} and len(known - {*marks[1]}) > 80
    if not can_denoise():
        return
    # What restores passages has seen the questions that it is evaluated on, and no other.
    restored = {**settings, "loss": "tsdae", "negatives": 0}
    train_retriever(RetrieverSettings(**restored, out=tmp_path / "restored"))
    assert learnt.read(tmp_path / "restored").marks == {*marks[1]}
    shutil.copy(data["questions"], tmp_path / "excluded.csv")
    kept = data["questions"].read_text().splitlines()
    (tmp_path / "excluded.csv").write_text("\n".join(kept[:7]) + "\n")
    left = RetrieverSettings(**settings, out=tmp_path / "other", exclude=(tmp_path / "excluded.csv",))
    train_retriever(left)
    gone = learnt.marks(Questions.read(tmp_path / "excluded.csv"))
    assert not learnt.read(tmp_path / "other").marks & {*gone}


def test_a_soup_knows_those_of_its_ingredients(trained, tmp_path, monkeypatch):
    folder, given, asked, _ = trained
    other = {**given, "questions": asked, "contexts_file": None, "seed": 1}
    train_ranker("multiple-choice", MultipleChoiceRun(**other, out=tmp_path / "b"))
    words = ["soup", folder / "ranker", tmp_path / "b", "--out", tmp_path / "s"]
    monkeypatch.setattr("sys.argv", ["training", *map(str, words)])
    assert training() == 0
    parts = [learnt.read(each).marks for each in (folder / "ranker", tmp_path / "b")]
    assert learnt.read(tmp_path / "s") == learnt.Learnt(parts[0] | parts[1])


def test_submit_and_score_tell_what_was_known_already(trained, tmp_path, monkeypatch, capsys):
    folder, _, asked, _ = trained
    submit = Submit(asked, tmp_path, monkeypatch, capsys)
    code, said = submit(_ranker(folder))
    assert code == 0 and f"{folder / 'ranker'} was trained on 8 of these 16 questions" in said
    found = score(submit.out, asked)
    assert found.seen == 8 and found.as_json()["seen"] == 8
    ids = Questions.read(asked).ids
    for limit in (1, 5, 11):
        first = score(submit.out, asked, limit)
        assert first.seen == sum(not str(key).startswith("new") for key in ids[:limit])
        assert sum(each.count for each in first.bins) == limit == first.questions
    # The others alone, as a file of their own.
    parts = []
    for path in (submit.out, asked):
        head, *lines = path.read_text().splitlines()
        parts.append(tmp_path / f"new-{path.name}")
        parts[-1].write_text("\n".join([head, *(line for line in lines if line.startswith("new"))]) + "\n")
    assert found.unseen == score(*parts).map_at_3
    assert "was trained on 8 of these questions; MAP@3 of the others: 0." in found.text()
    (folder / "ranker" / learnt.FILE).rename(tmp_path / "aside")
    try:
        _, said = submit(_ranker(folder))
        assert "was trained on" not in said and score(submit.out, asked).seen == 0
    finally:
        (tmp_path / "aside").rename(folder / "ranker" / learnt.FILE)


def test_a_cross_validation_of_a_backbone_that_knows_them_says_so(trained, tmp_path, monkeypatch, capsys):
    folder, _, asked, _ = trained
    model = {"command": "multiple-choice", "model": str(folder / "ranker")}
    recipe = {**model, "epochs": 1, "device": "cpu", "max_tokens": 32}
    config = {"questions": str(asked), "rankers": [{"kind": "trained", "train": recipe}]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    words = ["cross-validate", tmp_path / "c.yaml", "--folds", "2", "--out", tmp_path / "run"]
    monkeypatch.setattr("sys.argv", ["training", *map(str, words)])
    assert training() == 0
    printed = capsys.readouterr()
    assert "was trained on 8 of these 16 questions" in printed.out and "was trained on 8" in printed.err


def test_a_damaged_file_is_told_and_stops_no_submission(trained, tmp_path, monkeypatch, capsys):
    folder, _, asked, _ = trained
    damaged = tmp_path / "damaged"
    shutil.copytree(folder / "ranker", damaged / "ranker")
    (damaged / "ranker" / learnt.FILE).write_text("{")
    code, said = Submit(asked, tmp_path, monkeypatch, capsys)(_ranker(damaged))
    assert code == 0 and "names the questions that this model was trained on" in said
    for text in ("[]", "{", '{"questions": 3}', '{"questions": []}'):
        (tmp_path / learnt.FILE).write_text(text)
        with pytest.raises(ArtifactError, match="cannot be read"):
            learnt.read(tmp_path)
