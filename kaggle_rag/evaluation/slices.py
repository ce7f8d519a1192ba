"""Where a ranking is weak: MAP@3 by slices of the questions, and whether positions bias it."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kaggle_rag.data.probabilities import ranking
from kaggle_rag.data.questions import LETTERS, NO_ANSWER, Questions, id_text, require_answers
from kaggle_rag.evaluation.metrics import Interval, bootstrap
from kaggle_rag.evaluation.nearness import plain
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_NONE_OF = re.compile(
    r"^(none|all|both|neither)( of)?( the)?( above| these| those| choices| options| answers)\b"
)
# Permutations held in memory at once.
_CHUNK = 100
_ALIKE = 0.9
# Characters of an option that are compared: the time grows with their square.
_COMPARED = 2_000


def slices_of(
    questions: Questions, evidence: npt.ArrayLike | None = None, seen: Collection[str] = ()
) -> dict[str, Mask]:
    """The standard slices: a name and an ``(n,)`` mask each, empty ones left out.

    By option count, position of the right option, thirds of prompt length, instruction or question,
    options like "None of the above", near-identical options, evidence if it is given, and whether a model
    was trained on them.

    Parameters
    ----------
    evidence : ``(n,)`` score of each question's best evidence (larger is better), NaN if its context
        is empty.
    seen : ids of questions that a model was trained on.

    Raises
    ------
    InputError : not one evidence score per question.
    """
    counts = questions.present.sum(axis=1)
    masks = {counted(int(count), "option"): counts == count for count in np.unique(counts)}
    masks |= {f"answer {letter}": questions.answers == at for at, letter in enumerate(questions.letters)}
    masks |= _thirds(np.array([len(prompt) for prompt in questions.prompts], dtype=np.float64), "prompt")
    masks["instruction"] = ~questions.is_question
    masks["question"] = questions.is_question
    all_or_none = [[_is_all_or_none(option) for option in row] for row in questions.options]
    masks["none or all of the above"] = np.array([any(row) for row in all_or_none], dtype=bool)
    rights = [at != NO_ANSWER and row[at] for row, at in zip(all_or_none, questions.answers)]
    masks["none or all of the above is right"] = np.array(rights, dtype=bool)
    masks["near-identical options"] = np.array([_has_twins(row) for row in questions.options], dtype=bool)
    if evidence is not None:
        masks |= _by_evidence(np.asarray(evidence, dtype=np.float64), len(questions))
    known = np.array([id_text(key) in seen for key in questions.ids], dtype=bool)
    if known.any():
        masks |= {"trained on by a model": known, "not known to be trained on": ~known}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _thirds(values: Floats, name: str) -> dict[str, Mask]:
    low, high = np.quantile(values, [1 / 3, 2 / 3]) if len(values) else (0.0, 0.0)
    return {
        f"{name} short": values <= low,
        f"{name} middle": (values > low) & (values <= high),
        f"{name} long": values > high,
    }


def _by_evidence(scores: Floats, rows: int) -> dict[str, Mask]:
    if scores.shape != (rows,):
        raise InputError(f"evidence scores of shape {scores.shape}", expected=f"one per question, ({rows},)")
    has_evidence = ~np.isnan(scores)
    middle = np.median(scores[has_evidence]) if has_evidence.any() else 0.0
    return {
        "no evidence": ~has_evidence,
        "weaker evidence": has_evidence & (scores < middle),
        "stronger evidence": has_evidence & (scores >= middle),
    }


def _is_all_or_none(option: str | None) -> bool:
    return option is not None and _NONE_OF.match(plain(option)) is not None


def _has_twins(options: Sequence[str | None]) -> bool:
    """Whether two options share 90 % of their characters, in order (difflib's ratio).

    Of long ones the beginnings are compared.
    """
    texts = [option[:_COMPARED].casefold() for option in options if option is not None]
    for position, text in enumerate(texts):
        matcher = difflib.SequenceMatcher(None, "", text, autojunk=False)
        for other in texts[:position]:
            matcher.set_seq1(other)
            # The cheap upper bounds first: most options differ at a glance.
            bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
            if all(bound() >= _ALIKE for bound in bounds):
                return True
    return False


@dataclasses.dataclass(frozen=True)
class Slice:
    """One slice compared with all other questions.

    Attributes
    ----------
    score, rest : MAP@3 with its bootstrap interval inside; the mean outside (NaN: nothing is outside).
    p_value : two-sided, of a permutation test of the difference, corrected by Holm's method.
    differs : the corrected p-value is below 0.05.
    """

    name: str
    questions: int
    score: Interval
    rest: float
    p_value: float
    differs: bool

    def __str__(self) -> str:
        mark = "  differs from the rest" if self.differs else ""
        against = f"rest {self.rest:.3f}  p {self.p_value:.3f}{mark}"
        return f"{self.name:<34} {self.questions:>6,}  {self.score}  {against}"


def slice_scores(
    values: npt.ArrayLike, slices: Mapping[str, Mask], *, permutations: int = 4999, seed: int = 0
) -> list[Slice]:
    """Each slice's mean of per-question values, and whether it differs from the rest beyond chance.

    Parameters
    ----------
    values : ``(n,)`` such as `kaggle_rag.evaluation.metrics.average_precisions`.
    slices : of `slices_of`, or the caller's own ``(n,)`` masks, none empty.
    """
    values = np.asarray(values, dtype=np.float64)
    names, masks = list(slices), np.array(list(slices.values()), dtype=bool).reshape(-1, len(values))
    # A slice of everything has no rest to differ from, and no part in the correction.
    partial = ~masks.all(axis=1)
    corrected = np.full(len(names), np.nan)
    corrected[partial] = holm(_permutation_p(values, masks[partial], permutations, seed))
    return [
        Slice(
            name, int(mask.sum()), bootstrap(values[mask], seed=seed),
            float(values[~mask].mean()) if not mask.all() else float("nan"),
            float(p), bool(p < 0.05),
        )
        for name, mask, p in zip(names, masks, corrected)
    ]  # fmt: skip


def _permutation_p(values: Floats, masks: Mask, permutations: int, seed: int) -> Floats:
    """Two-sided p-values of the masks' means, ``(s,)``: how often shuffled values lie as far out.

    Source: Phipson & Smyth 2010, https://doi.org/10.2202/1544-6115.1585 (the added one).
    """
    rng = np.random.default_rng(seed)
    shares = (masks / np.maximum(masks.sum(axis=1, keepdims=True), 1)).T
    centred = values - values.mean()
    observed = np.abs(centred @ shares) - 1e-12
    extreme = np.zeros(len(masks))
    for start in range(0, permutations, _CHUNK):
        block = np.tile(centred, (min(_CHUNK, permutations - start), 1))
        extreme += (np.abs(rng.permuted(block, axis=1) @ shares) >= observed).sum(axis=0)
    return np.asarray((extreme + 1) / (permutations + 1), dtype=np.float64)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's step-down corrected p-values, ``(m,)``, in the order given.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


@dataclasses.dataclass(frozen=True)
class PositionBias:
    """The probability each letter is given, compared with how often it is right.

    Attributes
    ----------
    given : ``(k,)`` mean probability of each letter.
    first : ``(k,)`` share of questions where it is ranked first.
    right : ``(k,)`` share of questions where it is right.
    p_value : of the hypothesis that ``given`` and ``right`` agree for every letter.
    """

    letters: str
    given: Floats
    first: Floats
    right: Floats
    p_value: float

    def __str__(self) -> str:
        rows = zip(self.letters, self.given, self.first, self.right)
        lines = [f"{x}: given {g:.3f}, ranked first {f:.3f}, right {r:.3f}" for x, g, f, r in rows]
        finding = "positions bias it" if self.p_value < 0.05 else "no position bias is distinguishable"
        return "\n".join([*lines, f"{finding} (p = {self.p_value:.3f})"])


def position_bias(
    probabilities: npt.ArrayLike, answers: npt.ArrayLike, present: npt.ArrayLike
) -> PositionBias:
    """Test whether the probability a letter is given agrees with how often it is right.

    The test of marginal homogeneity of Stuart 1955 (https://doi.org/10.2307/2333387) and Maxwell 1970
    (https://doi.org/10.1192/bjp.116.535.651), with probabilities in place of hard choices: the sum ``s``
    of ``p - onehot(answer)`` over questions, ``s' V^-1 s`` with ``V`` the sum of the outer products, is
    chi-square with the rank of ``V`` degrees of freedom. For hard choices it is their test, for two
    options McNemar's. It needs a few dozen questions per letter.

    Parameters
    ----------
    probabilities : ``(n, k)``, each row summing to 1.
    answers : ``(n,)`` columns of the right options.
    present : ``(n, k)`` bool.

    Raises
    ------
    InputError : a question without an answer.
    """
    present, answers = np.asarray(present, dtype=bool), np.asarray(answers, dtype=np.int64)
    require_answers(answers)
    table = np.where(present, np.asarray(probabilities, dtype=np.float64), 0.0)
    truth = np.eye(table.shape[1])[answers]
    first = np.eye(table.shape[1])[ranking(table, present)[:, 0]]
    gaps = table - truth
    sums, spread = gaps.sum(axis=0), gaps.T @ gaps
    freedom = int(np.linalg.matrix_rank(spread, hermitian=True, tol=1e-8 * max(1.0, np.trace(spread))))
    statistic = float(sums @ np.linalg.pinv(spread, rcond=1e-8, hermitian=True) @ sums)
    from scipy import stats

    p_value = float(stats.chi2.sf(statistic, freedom)) if freedom else 1.0
    letters = LETTERS[: table.shape[1]]
    return PositionBias(letters, table.mean(axis=0), first.mean(axis=0), truth.mean(axis=0), p_value)
