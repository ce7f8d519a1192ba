"""The default score of the training-free ranker: its features by hand, its fit against an independent one."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from kaggle_rag.rankers.scores import Views, bm25, novel, words_only
from kaggle_rag.rankers.similarity import SCORES, SimilarityRanker, score_of
from kaggle_rag.rankers.weighed import (
    DEFAULT,
    TEMPERATURE,
    Group,
    Weights,
    features_of,
    fit,
    log_loss,
    supported,
    weighed,
)

# The prompt and the two sentences meet at cosines of 0.6 and 0.8.
PROMPT = np.array([1.0, 0.0], np.float32)
SENTENCES = np.array([[0.6, 0.8], [0.8, -0.6]], np.float32)


def views(options, evidence, prompt="Which metal melts at the lowest heat?", language="en"):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(2, len(options), 2)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return Views(PROMPT, *vectors, SENTENCES[: len(evidence)], options, evidence, prompt, language)


def test_support_is_worked_out_by_hand():
    """Stems of the prompt: metal, melt, lowest, heat ("which" and "at" are stop words)."""
    evidence = ["Mercury melts at the lowest heat of any metal", "Iron is a metal"]
    found = supported(views(["mercury", "iron", "liquid mercury", "a metal"], evidence))
    # The first sentence has all four of the prompt's words, the second one of them.
    assert found == pytest.approx([0.6 * 1.0, 0.8 * 0.25, 0.6 * 1.0 / 2, 0.0], abs=1e-6)


def test_words_that_the_prompt_has_already_support_no_option():
    found = supported(views(["the lowest metal", "zinc"], ["The lowest metal melts", "Zinc"]))
    assert found.tolist() == [0.0, 0.0]


def test_options_of_stop_words_and_of_other_languages_are_read():
    assert supported(views(["to be", "not"], ["To be at the lowest heat"]))[0] > 0
    russian = views(["железо", "медь"], ["Железо плавится", "Медь"], "Что плавится?", "ru")
    assert supported(russian)[0] > 0


def test_words_count_from_four_words_an_option_and_whole_from_twelve():
    evidence = ["Mercury melts at the lowest heat of any metal", "Iron is a metal"]
    for count, share in [(3, 0.0), (4, 0.0), (6, np.log(6 / 4) / np.log(3)), (12, 1.0), (40, 1.0)]:
        q = views([" ".join(["mercury"] * count), " ".join(["iron"] * count)], evidence)
        found = features_of(q)
        assert found.length == pytest.approx(share) and found.words == pytest.approx(share * bm25(q))


def test_the_score_is_the_weighed_sum():
    q = views(["mercury " * 12, "iron " * 12], ["Mercury melts at the lowest heat of any metal", "Iron"])
    f, w = features_of(q), DEFAULT
    scale = np.exp(w.level + w.near * (0.8 - 0.7) + w.supported * (f.support.max() - 0.3) + w.length)
    expected = TEMPERATURE * scale * (novel(q) + w.support * supported(q) + w.words * bm25(q))
    assert weighed(q) == pytest.approx(expected, rel=1e-6)
    assert "weighed" in SCORES


def made(rng, n, k, weights):
    """Questions whose answers are drawn by the probabilities of the weights."""
    options = rng.normal(size=(n, k, 3)) * [0.1, 0.3, 2.0]
    shown = rng.normal(size=(n, 3)) * 0.3
    scale = np.exp(weights.level + shown @ [weights.near, weights.supported, weights.length])
    logits = scale[:, None] * (options @ [1, weights.support, weights.words])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    answers = [rng.choice(k, p=row / row.sum()) for row in odds]
    return Group(options, shown, np.array(answers))


def test_the_fit_finds_the_weights_by_which_answers_were_drawn():
    truth = Weights(support=0.5, words=0.06, level=2.2, near=0.6, supported=-0.4, length=-0.7)
    groups = [made(np.random.default_rng(seed), 6_000, k, truth) for seed, k in [(1, 4), (2, 5)]]
    found = fit(groups, penalty=0)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(truth), abs=0.15)
    assert np.mean([log_loss(found, g) for g in groups]) <= np.mean([log_loss(truth, g) for g in groups])


def test_of_two_options_the_fit_is_a_logistic_regression_on_their_difference():
    group = made(np.random.default_rng(3), 3_000, 2, Weights(0.5, 0.06, 2.0, 0, 0, 0))
    group = dataclasses.replace(group, shown=np.zeros_like(group.shown))
    found = fit([group], penalty=0)
    plain = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10)
    plain.fit(group.options[:, 1] - group.options[:, 0], group.answers)
    scale = np.exp(found.level)
    assert [scale, scale * found.support, scale * found.words] == pytest.approx(plain.coef_[0], rel=0.01)


def test_absent_options_take_no_part_in_a_fit():
    group = made(np.random.default_rng(4), 50, 3, DEFAULT)
    wider = np.full((50, 5, 3), np.nan)
    wider[:, :3] = group.options
    assert log_loss(DEFAULT, dataclasses.replace(group, options=wider)) == pytest.approx(
        log_loss(DEFAULT, group)
    )


def test_without_evidence_the_words_of_the_question_decide(encoder, questions_without):
    with SimilarityRanker(encoder) as ranker:
        (views,) = ranker.views(questions_without, None)
    assert np.array_equal(score_of("weighed", views), words_only(views))


@pytest.fixture
def questions_without():
    from kaggle_rag.data.questions import Questions

    rows = [{"id": 1, "prompt": "Which is a metal?", "A": "iron", "B": "a song", "C": None}]
    return Questions.from_rows(rows, "test")
