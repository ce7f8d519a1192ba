"""Who is learnt from: groups stay whole, files are kept away from, suspects are dropped or count for less."""

import csv

import numpy as np
import pytest
import torch
from crossval_toys import contexts_of, rows, telling, write_rows
from ranker_toys import tokenizer

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.fold_table import read_folds, write_folds
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError
from training.rankers.losses import LOSSES
from training.rankers.settings import MultipleChoiceRun
from training.rankers.splits import split_questions


def settings(folder, made, **changes):
    questions = write_rows(folder / "train.csv", made)
    return MultipleChoiceRun(questions=questions, out=folder / "out", model="none", **changes)


def ids(dataset):
    return set(dataset.questions.ids)


def test_held_out_keeps_copies_and_articles_together(tmp_path):
    made = rows(100, 0)
    # Rows 0 to 9 again with their options in another order; rows 20 to 29 are about one article.
    copies = [row | {"id": f"copy {row['id']}", "A": row["B"], "B": row["A"]} for row in made[:10]]
    for row, old in zip(copies, made):
        row["answer"] = {"A": "B", "B": "A", "C": "C"}[old["answer"]]
    made += copies
    articles = ["one" if 20 <= n < 30 else f"a{n}" for n in range(110)]
    run = settings(tmp_path, made, held_out=0.2)
    contexts = contexts_of(tmp_path / "c.parquet", run.questions, telling(made), articles)
    for seed in range(5):
        changed = run.model_copy(update={"contexts_file": contexts, "seed": seed})
        learnt, held = split_questions(changed)
        assert ids(learnt) | ids(held) == {row["id"] for row in made} and not ids(learnt) & ids(held)
        assert 18 <= len(held) <= 26
        for old, copy in zip(made, copies):
            assert (old["id"] in ids(held)) == (copy["id"] in ids(held))
        assert len({row["id"] in ids(held) for row in made[20:30]}) == 1
        assert len(held.contexts) == len(held) and learnt.supervision.weights is None


def test_one_large_group_is_not_what_is_held_out(tmp_path):
    made = rows(40, 0)
    same = [made[0] | {"id": f"again {n}"} for n in range(60)]
    learnt, held = split_questions(settings(tmp_path, made + same, held_out=0.1))
    assert "again 0" in ids(learnt) and len(held) < 30


def test_rows_near_an_excluded_file_are_not_learnt_from(tmp_path, capsys):
    made = rows(30, 0)
    prompts = [" ".join(reversed(row["prompt"].split())) for row in made[:4]]
    test = [row | {"id": f"t{n}", "prompt": p} for n, (row, p) in enumerate(zip(made[:4], prompts))]
    test = write_rows(
        tmp_path / "test.csv", [{k: v for k, v in row.items() if k != "answer"} for row in test]
    )
    learnt, held = split_questions(settings(tmp_path, made, exclude=(test,), held_out=0))
    assert ids(learnt) == {row["id"] for row in made[4:]} and not len(held)
    assert "4 questions are near-duplicates of its rows" in capsys.readouterr().err
    with pytest.raises(InputError, match="no questions are left"):
        split_questions(settings(tmp_path, made, exclude=(tmp_path / "train.csv",), held_out=0))


def test_copies_of_validation_questions_are_told(tmp_path, capsys):
    made = rows(10, 0)
    validation = write_rows(tmp_path / "valid.csv", made[:3] + rows(5, 1))
    learnt, held = split_questions(settings(tmp_path, made, validation=validation))
    assert (len(learnt), len(held)) == (10, 8)
    assert "3 of 8 validation questions are near-duplicates" in capsys.readouterr().err


def suspects(path, *listed):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "reason"), *listed])
    return path


def test_suspects_are_dropped_or_count_for_less_but_are_still_judged_by(tmp_path):
    made = rows(20, 0)
    listed = suspects(tmp_path / "s.csv", ("0-1", "label"), ("0-2", "contradiction"), ("0-3", "hard"))
    run = settings(tmp_path, made, drop=listed, held_out=0)
    assert ids(split_questions(run)[0]) == {row["id"] for row in made} - {"0-1", "0-2"}
    learnt = split_questions(run.model_copy(update={"drop_weight": 0.25}))[0]
    assert learnt.supervision.weights.tolist() == [1, 0.25, 0.25, *[1] * 17]
    halves = [
        split_questions(run.model_copy(update={"held_out": 0.5, "drop": drop}))[1] for drop in (listed, None)
    ]
    assert ids(halves[0]) == ids(halves[1])
    with pytest.raises(ArtifactError, match="no such question"):
        split_questions(run.model_copy(update={"drop": suspects(tmp_path / "t.csv", ("7-1", "label"))}))


def test_the_fold_that_is_set_aside_is_in_neither_part(tmp_path):
    run = settings(tmp_path, rows(30, 0), held_out=0.2)
    questions = Questions.read(run.questions)
    write_folds(tmp_path / "folds.parquet", questions, np.arange(30) % 3)
    run = run.model_copy(update={"folds": tmp_path / "folds.parquet", "fold": 1})
    learnt, held = split_questions(run)
    aside = {key for n, key in enumerate(questions.ids) if n % 3 == 1}
    assert len(held) == 4 and ids(learnt) | ids(held) == set(questions.ids) - aside
    with pytest.raises(InputError, match="no question is in fold 3"):
        split_questions(run.model_copy(update={"fold": 3}))


def test_folds_of_other_questions_are_refused(tmp_path):
    questions = Questions.read(write_rows(tmp_path / "a.csv", rows(4, 0)))
    path = tmp_path / "folds.csv"
    path.write_text("id,fold\n0-0,1\n0-1,0\n0-2,1\n0-3,0\nmore,0\n")
    assert read_folds(path, questions).tolist() == [1, 0, 1, 0]
    path.write_text("id,fold\n0-0,1\n")
    with pytest.raises(InputError, match="3 of 4 questions have no fold"):
        read_folds(path, questions)
    path.write_text("id,fold\n0-0,first\n")
    with pytest.raises(InputError, match="invalid fold 'first'"):
        read_folds(path, questions)
    path.write_text("id,fold\n0-0,1\n0-1,0\n0-2,1\n0-3,0\n0-0,0\n")
    with pytest.raises(InputError, match="'0-0' is in two folds, 1 and 0"):
        read_folds(path, questions)
    write_folds(tmp_path / "folds.parquet", questions, np.arange(4))
    other = Questions.read(write_rows(tmp_path / "b.csv", [row | {"prompt": "new"} for row in rows(4, 0)]))
    with pytest.raises(ArtifactError, match="another question with the id '0-0'"):
        read_folds(tmp_path / "folds.parquet", other)


def test_settings_that_belong_together(tmp_path):
    for wrong in ({"fold": 1}, {"folds": tmp_path}, {"drop_weight": 0.5}, {"held_out": 0.6}):
        with pytest.raises(ValueError):
            settings(tmp_path, rows(2, 0), **wrong)


def test_a_weight_reaches_the_batch_beside_questions_without_one():
    collate = DataCollatorForMultipleChoice(tokenizer("bert"))
    feature = {"input_ids": [[3, 1], [3, 1]], "attention_mask": [[1, 1]] * 2, "present": [True, True]}
    feature["labels"] = 0
    batch = collate([feature, {**feature, "weight": 0.25}])
    assert batch["weights"].tolist() == [1, 0.25] and "weights" not in collate([feature])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighed_losses_are_the_weighed_mean_of_the_losses_of_each_question(smoothing):
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    present = torch.tensor([[True] * 3, [True] * 3, [True, True, False], [True] * 3])
    logits = logits.masked_fill(~present, torch.finfo(torch.float32).min)
    weights = torch.tensor([1.0, 0.5, 0.0, 0.25])
    batch = {"labels": labels, "present": present}
    for name, loss in LOSSES.items():
        alone = torch.stack(
            [loss(logits[[n]], {"labels": labels[[n]], "present": present[[n]]}, smoothing) for n in range(4)]
        )
        # The binary loss is a mean over options, so a question of two options has two thirds of a share.
        share = present.sum(1) / present.sum() if name == "binary" else torch.full((4,), 0.25)
        wanted = (share * weights * alone).sum()
        assert loss(logits, {**batch, "weights": weights}, smoothing) == pytest.approx(
            float(wanted), rel=1e-5
        )
        whole = loss(logits, {**batch, "weights": torch.ones(4)}, smoothing)
        assert torch.equal(whole, loss(logits, batch, smoothing))


def test_an_unknown_fold_setting_is_told_with_its_name(tmp_path):
    from kaggle_rag.runtime.settings import validated

    with pytest.raises(ConfigError, match="folds and fold belong together"):
        validated(
            MultipleChoiceRun, {"questions": "q", "out": "o", "model": "m", "fold": 2}, tmp_path / "x.yaml"
        )


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5])
def test_as_many_are_held_out_as_were_asked_for(share, tmp_path):
    run = settings(tmp_path, rows(200, 0), held_out=share)
    learnt, held = split_questions(run)
    assert len(held) == pytest.approx(200 * share, abs=5) and len(learnt) + len(held) == 200


def test_a_list_may_name_questions_beyond_the_limit(tmp_path):
    made = rows(40, 3)
    listed = suspects(tmp_path / "s.csv", (made[2]["id"], "label"), (made[35]["id"], "label"))
    learnt, _ = split_questions(settings(tmp_path, made, drop=listed, held_out=0, limit=20))
    assert ids(learnt) == {row["id"] for n, row in enumerate(made[:20]) if n != 2}
