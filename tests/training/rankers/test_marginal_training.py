"""Rankers that learn from snippets read apart: the retriever says which of them to believe."""

import json
import random

import numpy as np
import pytest
from ranker_toys import WORDS, backbone, files, rows

from kaggle_rag.data.contexts import Context, QuestionContexts, Snippet, read_contexts, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import average_precisions
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.errors import ConfigError
from training.rankers.settings import CausalRun, MultipleChoiceRun
from training.rankers.train import train_ranker


def with_rivals(folder, name, count, seed):
    """Questions of which every option has a snippet, in any order; that of the right one scores best."""
    questions, contexts = files(folder, name, rows(count, seed, words=WORDS[:6]))
    table, rng, made = Questions.read(questions), random.Random(seed), []
    for question in table:
        snippets = [
            Snippet("", option, 0.9 if column == question.answer else 0.6, ())
            for column, option in enumerate(question.options)
        ]
        rng.shuffle(snippets)
        made.append(QuestionContexts(Context(tuple(snippets), ()), ()))
    write_contexts(contexts, table, made, {})
    return questions, contexts


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rivals")
    train, valid = with_rivals(folder, "train", 256, 0), with_rivals(folder, "valid", 60, 1)
    return {
        "model": str(backbone("bert", folder / "bert")), "questions": train[0], "contexts_file": train[1],
        "validation": valid[0], "validation_contexts": valid[1], "max_tokens": 48, "batch": 16,
        "device": "cpu", "learning_rate": 1e-3, "epochs": 8,
    }  # fmt: skip


def answers(folder, told, **options):
    """MAP@3 on the validation questions, and the probabilities."""
    questions = Questions.read(told["validation"])
    contexts = read_contexts(told["validation_contexts"], questions)
    with TrainedRanker(str(folder), device="cpu", **options) as ranker:
        found = ranker.probabilities(questions, contexts)
    return average_precisions(found, questions.answers, questions.present).mean(), found


@pytest.fixture(scope="module")
def trained(told, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "apart"
    settings = MultipleChoiceRun(**told, out=out, marginal={"kind": "sequence", "temperature": 0.5})
    return out, train_ranker("multiple-choice", settings)


def test_the_retriever_s_scores_decide_between_snippets(told, trained):
    folder, record = trained
    score, found = answers(folder, told)
    assert score > 0.9 and score == pytest.approx(record["result"]["after"]["map@3"], abs=1e-6)
    # Without them every snippet counts alike, and every option has one.
    blind, _ = answers(folder, told, marginal={"temperature": 1e6})
    assert blind < 0.75
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_the_temperature_is_fitted_and_kept_with_the_weights(trained):
    card = json.loads((trained[0] / "ranker.json").read_text())
    assert card["marginal"]["kind"] == "sequence"
    # Only the best snippet is to be believed here: colder than it was set.
    assert 0.01 <= card["marginal"]["temperature"] < 0.2


def test_the_ranker_can_read_its_snippets_together_again(told, trained):
    apart, together = (answers(trained[0], told, marginal=each)[1] for each in (None, {"kind": "none"}))
    assert np.abs(apart - together).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"marginal": {"kind": "token"}}, "form options"),
     ({"marginal": {"kind": "sequence"}, "loss": "binary"}, "cross-entropy"),
     ({"marginal": {"kind": "sequence"}, "contexts_file": None, "validation_contexts": None}, "contexts_f"),
     ({"marginal": {"kind": "sequence", "temperature": 0}}, "greater than 0")],
    ids=["tokens of letters", "binary loss", "no contexts", "temperature 0"],
)  # fmt: skip
def test_settings_that_cannot_be_mixed_are_refused(told, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        CausalRun(**{**told, "out": tmp_path / "o", "form": "letters", **changes})


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("sequence", "cannot be read"), ({"kind": "best"}, "no such kind"),
     ({"kind": "token", "n": 3}, "cannot be read"),
     ({"kind": "sequence", "temperature": -1}, "greater than 0"),
     ({"temperature": True}, "greater than 0")],
    ids=str,
)  # fmt: skip
def test_options_that_cannot_be_read_are_refused(trained, wanted, said):
    with pytest.raises(ConfigError, match=said):
        TrainedRanker(str(trained[0]), device="cpu", marginal=wanted)


def test_tokens_of_a_form_without_any_are_refused(trained):
    with pytest.raises(ConfigError, match="token by token"), TrainedRanker(
        str(trained[0]), device="cpu", marginal={"kind": "token"}
    ):
        pass
