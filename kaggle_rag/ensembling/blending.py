"""Blend the probabilities of several rankers into one table, with given or fitted weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import require_answers
from kaggle_rag.evaluation.metrics import Comparison, average_precisions, paired_bootstrap
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.words import counted


def by_probability(table: Probabilities) -> npt.NDArray[np.float64]:
    """The probabilities themselves: a confident ranker counts for more than an unsure one."""
    return table.astype(np.float64)


def by_rank(table: Probabilities) -> npt.NDArray[np.float64]:
    """Reciprocal ranks: only the order counts, so differently calibrated rankers mix evenly."""
    from scipy.stats import rankdata

    return np.asarray(1.0 / rankdata(-table, axis=1, method="average"), dtype=np.float64)


def by_logit(table: Probabilities) -> npt.NDArray[np.float64]:
    """Log-probabilities: their mean is a geometric one, in which a ranker that rules an option out is heard.

    Source: Genest & Zidek 1986, https://doi.org/10.1214/ss/1177013825 (logarithmic pools).
    """
    return np.log(np.maximum(table.astype(np.float64), _FLOOR))


RULES: dict[str, Callable[[Probabilities], npt.NDArray[np.float64]]] = {
    "probabilities": by_probability,
    "ranks": by_rank,
    "logits": by_logit,
}
# What turns the mean of a rule into numbers that sum to 1 when divided by their sum.
_BACK: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {"logits": np.exp}
# A confident and wrong ranker costs at most -ln(1e-4) = 9.2 per question, and is outvoted.
_FLOOR = 1e-4


def blend(
    tables: Sequence[Probabilities],
    weights: Sequence[float],
    present: npt.NDArray[np.bool_],
    rule: str = "probabilities",
) -> Probabilities:
    """Weighted mean of the rankers' tables under a rule, absent options at 0, each row summing to 1.

    Parameters
    ----------
    tables : one ``(n, k)`` float32 table per ranker; NaN in the rows of questions that it has not answered,
        which are a mean over the others. A row that none answered has equal probabilities.
    weights : one number per ranker, none negative, not all zero.
    present : ``(n, k)`` bool.
    rule : a key of ``RULES``.
    """
    if rule not in RULES:
        raise ConfigError(f"no blending rule {rule!r}", expected="one of " + ", ".join(RULES))
    if len(tables) != len(weights) or min(weights) < 0 or sum(weights) <= 0:
        raise ConfigError(
            f"weights {list(weights)} for {len(tables)} rankers",
            expected="one weight per ranker, none negative, not all zero",
        )
    summed, heard = np.zeros(present.shape, dtype=np.float64), np.zeros((len(present), 1))
    for table, weight in zip(tables, weights):
        answered = np.isfinite(table).all(axis=1, keepdims=True)
        values = RULES[rule](np.where(present & answered, table, -1.0))
        summed += weight * np.where(present & answered, values, 0.0)
        heard += weight * answered
    means = np.where(heard > 0, summed / np.where(heard > 0, heard, 1), 0.0)
    mixed = np.where(present & (heard > 0), _BACK.get(rule, np.asarray)(means), 0.0)
    total = mixed.sum(axis=1, keepdims=True)
    even = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.where(total > 0, mixed / np.where(total > 0, total, 1), even), dtype=np.float32)


# Questions needed per free weight before a fit is tried: with fewer, even the best weights are noise.
LEAST_QUESTIONS = 30
_FOLDS = 5
# A ranker with less than this part of an equal share is dropped: it changes next to nothing, and costs a
# notebook the time and memory of an entire model.
_SPARE = 0.1


@dataclasses.dataclass(frozen=True)
class FittedWeights:
    """Weights of the rankers, and the evidence for them.

    Attributes
    ----------
    weights : ``(m,)``, summing to 1: those to use, equal ones if the fit was rejected.
    tried : ``(m,)`` the fitted ones, even if rejected; ``None``: too few questions to fit.
    score, loss : held-out MAP@3 and log loss of fitted against equal weights, ``None`` as above; a
        negative difference of the loss is a gain.
    refused : why the weights stayed equal; empty if they are the fitted ones.
    held_out : ``(n, k)`` the blend with those weights; if fitted, each fold with weights fitted on the
        other folds.
    """

    weights: tuple[float, ...]
    tried: tuple[float, ...] | None
    score: Comparison | None
    loss: Comparison | None
    refused: str
    held_out: Probabilities = dataclasses.field(repr=False, compare=False)


def fit_weights(
    tables: Sequence[Probabilities],
    answers: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    rule: str = "probabilities",
    *,
    folds: npt.NDArray[np.int64] | None = None,
    seed: int = 0,
) -> FittedWeights:
    """Fit the weights of a blend on out-of-fold predictions, and keep them only if they are better.

    Better means a distinguishable gain in MAP@3, or one in log loss without a distinguishable drop in MAP@3:
    log loss uses every probability, and so separates good rankers from bad ones on far fewer questions.

    The log loss of the right option is minimised by ``scipy.optimize`` (SLSQP) over the simplex. MAP@3
    itself is a step function: its gradient is zero almost everywhere, and its optimum on few questions
    is an accident of their ties. An L2 penalty towards equal weights, ``m^2 / (2 n)`` times the squared
    distance, is a normal prior with standard deviation ``1/m`` per weight, and fades with more questions.
    A ranker with less than a tenth of an equal share is dropped, and the others are fitted again.
    Whether the weights are better is measured on questions that did not fit them, fold by fold.

    Parameters
    ----------
    tables : one ``(n, k)`` table of out-of-fold probabilities per ranker.
    answers : ``(n,)`` columns of the right options.
    present : ``(n, k)`` bool.
    rule : a key of ``RULES``.
    folds : ``(n,)`` fold of each question (`kaggle_rag.evaluation.folds.group_folds`); default: five random
        ones, valid only if no questions are near-duplicates.

    Raises
    ------
    ConfigError : no such rule, or no table.
    InputError : a question without an answer, or a table of a different shape.
    """
    check_tables(tables, answers, present)
    equal = (1 / len(tables),) * len(tables)
    least = LEAST_QUESTIONS * (len(tables) - 1)
    even = blend(tables, equal, present, rule)
    if len(tables) == 1:
        return FittedWeights(equal, None, None, None, "one ranker needs no weights", even)
    if len(answers) < least:
        too_few = f"{counted(len(answers), 'question')}: too few for {counted(len(tables), 'weight')}"
        reason = f"{too_few} (at least {least:,})"
        return FittedWeights(equal, None, None, None, reason, even)
    fitted = _held_out(tables, answers, present, rule, folds_or_random(len(answers), seed, folds))
    score = paired_bootstrap(
        average_precisions(fitted, answers, present), average_precisions(even, answers, present), seed=seed
    )
    loss = paired_bootstrap(_losses(fitted, answers), _losses(even, answers), seed=seed)
    tried = _minimise([_share(table, present, rule) for table in tables], answers)
    gain = score.difference.mean if score.distinguishable else 0.0
    if gain > 0 or (gain == 0 and loss.distinguishable and loss.difference.mean < 0):
        return FittedWeights(tried, tried, score, loss, "", fitted)
    refused = f"held-out MAP@3 of fitted weights less that of equal ones: {score}; log loss: {loss}"
    return FittedWeights(equal, tried, score, loss, refused, even)


def folds_or_random(
    rows: int, seed: int, folds: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """``folds``, checked, or by default five random ones for ``rows`` questions."""
    if folds is None:
        return np.asarray(np.random.default_rng(seed).permutation(rows) % _FOLDS, dtype=np.int64)
    if folds.shape != (rows,) or len(np.unique(folds)) < 2:
        raise InputError(
            f"{len(np.unique(folds))} folds, of shape {folds.shape}",
            expected=f"at least two folds, one number for each of the {rows:,} questions",
        )
    return folds


def check_tables(
    tables: Sequence[Probabilities], answers: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]
) -> None:
    """Raise if there is no table, a table of a different shape or not finite, or a missing answer."""
    if not tables:
        raise ConfigError("no ranker to blend", expected="at least one table of probabilities")
    for number, table in enumerate(tables, 1):
        if table.shape != present.shape:
            raise InputError(f"table {number} has the shape {table.shape}", expected=str(present.shape))
        if not (table >= 0).all() or not (np.where(present, table, 0).sum(axis=1) > 0).all():
            raise InputError(
                f"table {number} contains a negative number or NaN, or a row without a positive one",
                expected="probabilities of the present options in every row",
            )
    if answers.shape != present.shape[:1]:
        raise InputError(f"{counted(len(answers), 'answer')} for {counted(len(present), 'question')}")
    require_answers(answers)


def _held_out(
    tables: Sequence[Probabilities],
    answers: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    rule: str,
    folds: npt.NDArray[np.int64],
) -> Probabilities:
    """The blend of each fold with weights fitted on the other folds, ``(n, k)``."""
    mixed = np.empty(present.shape, dtype=np.float32)
    for fold in np.unique(folds):
        out = folds == fold
        shares = [_share(table[~out], present[~out], rule) for table in tables]
        weights = _minimise(shares, answers[~out])
        mixed[out] = blend([table[out] for table in tables], weights, present[out], rule)
    return mixed


def _share(table: Probabilities, present: npt.NDArray[np.bool_], rule: str) -> npt.NDArray[np.float64]:
    """A ranker's part of the blend; each row sums to 1, so the loss is convex in the weights."""
    return blend([table], [1.0], present, rule).astype(np.float64)


def _losses(mixed: Probabilities, answers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return -np.log(mixed[np.arange(len(answers)), answers].astype(np.float64) + _FLOOR)


def _minimise(shares: Sequence[npt.NDArray[np.float64]], answers: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """Weights on the simplex with the least log loss, exactly 0 for dropped rankers."""
    weights = _least_loss(shares, answers)
    remaining = [number for number, weight in enumerate(weights) if weight >= _SPARE / len(shares)]
    if len(remaining) == len(shares):
        return weights
    refitted = dict(zip(remaining, _minimise([shares[number] for number in remaining], answers)))
    return tuple(refitted.get(number, 0.0) for number in range(len(shares)))


def _least_loss(
    shares: Sequence[npt.NDArray[np.float64]], answers: npt.NDArray[np.int64]
) -> tuple[float, ...]:
    """Weights on the simplex with the least log loss; the problem is convex, so they are unique."""
    rows = np.arange(len(answers))
    right = np.stack([share[rows, answers] for share in shares], axis=1)
    count = len(shares)
    penalty = count**2 / (2 * len(answers))

    def cost(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        mixed, offset = right @ weights + _FLOOR, weights - 1 / count
        loss = -np.log(mixed).mean() + penalty * (offset @ offset)
        return float(loss), -(right / mixed[:, None]).mean(axis=0) + 2 * penalty * offset

    from scipy.optimize import minimize

    result = minimize(
        cost, np.full(count, 1 / count), jac=True, method="SLSQP", bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
    )  # fmt: skip
    weights = np.clip(result.x, 0, 1)
    return tuple((weights / weights.sum()).tolist())
