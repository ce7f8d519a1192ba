"""Select training questions: by specifications of what the test asks, or by a data map."""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.data_maps import REGIONS, Dynamics, ranked, read_data_map
from kaggle_rag.evaluation.difficulty import Suspect, write_suspects
from kaggle_rag.evaluation.duplicates import embedding_texts
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import ConfigError, InputError
from kaggle_rag.runtime.files import existing_part, require_apart, require_new, whole_file
from kaggle_rag.runtime.words import counted
from training.selection.pool import Pool, Rows, Sifted, sift
from training.selection.report import SelectionReport
from training.selection.rules import RULES, Choice, Ranking
from training.selection.search import SEARCHES, Hits
from training.selection.specifications import Specifications, read_specifications

RANDOM = "random"
HOW = (*RULES, RANDOM)
_SCORES = {"vectors": "cosine", "words": "BM25"}
# Questions of which a dry run takes the time.
_PROBE = 64


@dataclasses.dataclass(frozen=True)
class SelectionSettings:
    """What the user requests; see the flags of ``python -m training select``."""

    pool: tuple[Path, ...]
    out: Path
    specifications: tuple[Path, ...] = ()
    data_map: Path | None = None
    keep: str | None = None
    budget: int | None = None
    share: float | None = None
    how: str = "rrf"
    by: str = "vectors"
    least: float = 0.0
    encoder: str = DEFAULT_ENCODER
    device: str | None = None
    exclude: tuple[Path, ...] = ()
    suspects: Path | None = None
    seed: int = 0

    @property
    def _share(self) -> float:
        return 1.0 if self.share is None else self.share

    def budget_of(self, left: int) -> int:
        """How many of so many questions to select."""
        return self.budget or max(1, round(self._share * left))

    @property
    def why(self) -> Path:
        """The file beside OUT that says what each question was chosen by."""
        return self.out.with_name(self.out.stem + ".why.csv")

    def check(self) -> None:
        """Raise ``KitError`` for settings that do not go together, and for an OUT that exists."""
        if bool(self.specifications) == bool(self.data_map) or bool(self.data_map) != bool(self.keep):
            raise ConfigError(
                "choose one way to select: by specifications or by a data map",
                expected="--specifications FILE ..., or --data-map FILE with --keep " + "|".join(REGIONS),
            )
        one = (self.budget is None) != (self.share is None)
        if not one or (self.budget is not None and self.budget < 1) or not 0 < self._share <= 1:
            raise ConfigError(
                "how many questions?", expected="--budget N of 1 or more, or --share X above 0 and at most 1"
            )
        for path in (self.out, self.suspects):
            if path and path.suffix != ".csv":
                raise ConfigError(f"cannot write a table as {path.suffix!r}", where=path, expected=".csv")
        if not math.isfinite(self.least):
            raise ConfigError(f"not a number: {self.least}", where="--least", expected="a score such as 0.3")
        require_apart(self.out, self.why, self.suspects)
        for path in (self.out, self.why, self.suspects):
            if path:
                require_new(path, "a file")


def select(settings: SelectionSettings, *, dry: bool = False) -> SelectionReport:
    """Choose, write OUT and what chose each question beside it, and return what was done.

    Raises
    ------
    KitError : settings that do not go together, files that cannot be used, a pool smaller than the budget, a
        specification that nothing matches.
    """
    settings.check()
    found = read_specifications(settings.specifications)
    pool = Pool.read(settings.pool)
    sifted = sift(pool, found.tables, {str(path): Questions.read(path) for path in settings.exclude})
    if settings.data_map and settings.keep:
        choice, by = _by_data_map(settings, settings.data_map, settings.keep, pool, sifted), settings.keep
        report = SelectionReport(
            pool, sifted, None if dry else choice, (), _MEANING[by], len(choice.rows), 0.0 if dry else None
        )
    else:
        budget = _budget(settings, len(sifted.rows))
        report = SelectionReport(pool, sifted, None, found.names, _SCORES[settings.by], budget)
        if dry:
            return dataclasses.replace(report, seconds=_expected(settings, found, pool, sifted))
        report = dataclasses.replace(
            report, choice=choose(settings, found, pool.questions, sifted.rows, budget)
        )
    if not dry:
        _write(settings, report)
    return report


# What is reported of the questions of a region.
_MEANING = {"ambiguous": "variability", "hard": "confidence", "easy": "confidence"}


def _budget(settings: SelectionSettings, left: int) -> int:
    """How many questions to select of those that are left."""
    budget = settings.budget_of(left)
    if budget > left:
        raise InputError(
            f"the budget is {budget:,}, and {counted(left, 'question')} may be selected",
            where=settings.pool[0],
            expected="a pool of more questions than the budget, without near-duplicates and excluded ones",
            cure="add a table, or lower --budget",
        )  # fmt: skip
    return budget


def choose(
    settings: SelectionSettings, found: Specifications, questions: Questions, rows: Rows, budget: int
) -> Choice:
    """The choice of ``budget`` of the questions at ``rows``, as rows of ``questions``."""
    if settings.how == RANDOM:
        drawn = np.random.default_rng(settings.seed).permutation(rows)[:budget]
        return Choice(drawn, np.full(budget, -1), np.full(budget, np.nan))
    texts = embedding_texts(questions.take(rows))
    encoder = functools.partial(Encoder, settings.encoder, device=settings.device)
    # On the disk of OUT, as the vectors of a large pool may not fit where the system keeps small files.
    disk = existing_part(settings.out.parent)
    with tempfile.TemporaryDirectory(dir=disk, prefix=".select.") as folder:
        search = SEARCHES[settings.by](found.texts, texts, encoder, Path(folder))
        hits = above(search.nearest(budget), settings.least, found.names)
        choice = RULES[settings.how](Ranking(hits, search, len(rows), budget, settings.seed))
    if len(choice.rows) < budget:
        raise InputError(
            f"the budget is {budget:,}, and the specifications match {counted(len(choice.rows), 'question')}",
            where=settings.pool[0], expected="a budget that they can fill",
            cure=f"lower --budget or --least ({settings.least}), or add specifications",
        )  # fmt: skip
    return choice._replace(rows=rows[choice.rows])


def above(hits: Hits, least: float, names: Sequence[str]) -> Hits:
    """The hits with a score above ``least``.

    Raises
    ------
    InputError : a specification that has none.
    """
    kept = (hits.rows >= 0) & (hits.scores > least)
    if (empty := np.flatnonzero(~kept.any(axis=1))).size:
        best = hits.scores[empty[0], 0] if hits.rows[empty[0], 0] >= 0 else 0.0
        others = f"; nor do {empty.size - 1:,} more" if empty.size > 1 else ""
        raise InputError(
            f"the specification {names[empty[0]]} matches no question of the pool: its best score is "
            f"{best:.3f}{others}",
            expected=f"a score above {least}",
            cure="remove it, word it like a question of the pool, or lower --least",
        )  # fmt: skip
    return Hits(hits.scores, np.where(kept, hits.rows, -1))


def _by_data_map(settings: SelectionSettings, path: Path, region: str, pool: Pool, sifted: Sifted) -> Choice:
    """The questions that are left, from the most ambiguous, hard or easy on."""
    found = read_data_map(path, pool.questions)
    _require_told(found, region, path)
    order = ranked(found, region)
    order = order[np.isin(order, sifted.rows)]
    if not len(order):
        raise InputError("none of the remaining questions is in the data map", where=path)
    rows = order[: _budget(settings, len(order))]
    scores = getattr(found, _MEANING[region])[rows]
    return Choice(rows, np.full(len(rows), -1), scores)


def _require_told(found: Dynamics, region: str, path: Path) -> None:
    """Say how many questions a map lacks; raise ``InputError`` where it cannot tell ambiguous ones."""
    known = found.epochs > 0
    if lacking := int((~known).sum()):
        say(
            f"note: {lacking:,} of {counted(len(known), 'question is', 'questions are')} not in the data "
            "map, and cannot be selected"
        )
    if region == "ambiguous" and not (found.variability[known] > 0).any():
        raise InputError(
            "in this data map no question ever changed", where=path, expected="a training of several epochs",
            cure="train with epochs of 2 or more, or --keep hard or easy",
        )  # fmt: skip


def _expected(settings: SelectionSettings, found: Specifications, pool: Pool, sifted: Sifted) -> float:
    """Seconds that the ranking will take, by the time of a few questions."""
    if settings.how == RANDOM or settings.by == "words":
        return 0.0
    texts = embedding_texts(pool.questions.take(sifted.rows[:_PROBE]))
    encoder = Encoder(settings.encoder, device=settings.device)
    encoder.encode_passages(texts)
    start = time.perf_counter()
    encoder.encode_passages(texts)
    each = (time.perf_counter() - start) / len(texts)
    return round(each * (len(sifted.rows) + len(found)), 1)


def _write(settings: SelectionSettings, report: SelectionReport) -> None:
    """Write the questions, and what chose them: neither is there without the other."""
    assert report.choice
    rows, pool = report.choice.rows, report.pool
    table_of = np.repeat(pool.names, pool.sizes)
    with whole_file(settings.out) as aside:
        pool.write(aside, rows)
        with whole_file(settings.why) as other, other.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "set", "chosen_by", "score"])
            for row, by, score in zip(*report.choice):
                chosen_by = report.specifications[by] if by >= 0 else settings.keep or settings.how
                writer.writerow(
                    [pool.id(row), table_of[row], chosen_by, "" if np.isnan(score) else f"{score:.6f}"]
                )
        if settings.suspects:
            write_suspects(settings.suspects, pool.questions, _suspects(report))


def _suspects(report: SelectionReport) -> list[Suspect]:
    """The selected questions whose label another row of the pool contradicts."""
    chosen = set(report.rows.tolist())
    return [
        Suspect(row, "contradiction", each.similarity, f"{other} has another answer")
        for each in report.sifted.within
        for row, other in ((each.row, each.other_id), (each.other_row, each.id))
        if row in chosen
    ]
