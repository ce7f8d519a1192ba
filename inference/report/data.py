"""Everything that a report shows, as typed data: the page is a function of it alone."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from inference.run_log import Stage
from kaggle_rag.evaluation.calibration import Bin
from kaggle_rag.evaluation.metrics import Comparison, Interval
from kaggle_rag.evaluation.slices import Slice
from kaggle_rag.runtime.words import counted

# Flags of a question by their short names: what the page calls them, and what they mean.
FLAGS = {
    "wrong": ("wrong", "the likeliest option is not the right one"),
    "low-margin": ("low margin", "the two likeliest options are less than 0.1 apart"),
    "disagree": ("rankers disagree", "rankers put different options first"),
    "no-evidence": ("no evidence", "its context holds no passage"),
    "twins": ("near-identical options", "two options share 90 % of their characters"),
    "none-of": ("“none of the above”", "an option speaks of all, none or both of the others"),
    "unanswered": ("not answered", "no ranker answered it: its options are equally likely"),
}
# Those that another run adds.
COMPARED = {
    "changed": ("changed", "the two runs put different options first"),
    "better": ("better", "it scores more than in the other run"),
    "worse": ("worse", "it scores less than in the other run"),
}


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores over the ``questions`` that are answered and whose answer is known.

    ``log_loss`` is in nats, ``ece`` the expected calibration error.
    """

    map3: Interval
    accuracy: float
    log_loss: float
    questions: int
    ece: Interval


@dataclasses.dataclass(frozen=True)
class RankerView:
    """One ranker, or a mix of them.

    Attributes
    ----------
    weight : in the blend; ``None`` where there is none.
    answered : questions that it answered.
    scores : ``None`` if no answer of those questions is known.
    """

    name: str
    weight: float | None
    answered: int
    scores: Scores | None


@dataclasses.dataclass(frozen=True)
class OptionView:
    """An option; ``by_ranker`` has ``None`` where one did not answer; the likeliest is ``chosen``."""

    letter: str
    text: str
    probability: float
    by_ranker: tuple[float | None, ...]
    right: bool
    chosen: bool


@dataclasses.dataclass(frozen=True)
class SnippetView:
    """A snippet; ``options`` are the letters it was found for, empty if for the whole question.

    ``marked`` is the span of the sentence of ``text`` that best supports the chosen option, in at most one
    snippet of a question.
    """

    title: str
    text: str
    score: float | None
    options: str
    marked: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class QuestionView:
    """A question.

    Attributes
    ----------
    margin : probability of the likeliest option minus that of the second.
    rank, wrongness : of the right option, 1-based, and 1 minus its probability; ``None``: it is not known.
    flags : keys of `FLAGS` and `COMPARED`.
    """

    id: str
    prompt: str
    options: tuple[OptionView, ...]
    margin: float
    rank: int | None
    wrongness: float | None
    flags: tuple[str, ...]
    snippets: tuple[SnippetView, ...]


@dataclasses.dataclass(frozen=True)
class RunComparison:
    """A run against another one.

    Attributes
    ----------
    shared : questions that both answered, of which ``changed`` have another option first.
    known : those of them whose answers are known: the others have no part in what follows.
    difference : of MAP@3, this run minus the other; ``None`` if no answer is known.
    better, worse : questions that score more, or less, in this run.
    slices : of the differences by question.
    """

    name: str
    shared: int
    changed: int
    known: int
    difference: Comparison | None
    better: int
    worse: int
    slices: tuple[Slice, ...]

    def __str__(self) -> str:
        found = f"against {self.name}: {self.changed:,} of {self.shared:,} first options changed"
        if self.difference is None:
            return found
        return f"{found}, {self.better:,} better, {self.worse:,} worse, MAP@3 {self.difference}"


@dataclasses.dataclass(frozen=True)
class ReportData:
    """A run.

    Attributes
    ----------
    kind : ``submission`` or ``cross-validation``.
    mix : its combined ranker, whose answers are the run's; its scores are those of the run.
    chance : MAP@3 of a random order.
    rankers : the single ones, in the order of `OptionView.by_ranker`, then other mixes.
    single : how many of ``rankers`` are single ones.
    bins, slices : of the mix, over questions whose answers are known; empty if none is.
    stages : of a submission; empty if they were not recorded.
    notes : what is left out, and why.
    against : another run; its mix is the last of the single ``rankers``.
    """

    name: str
    kind: str
    mix: RankerView
    chance: float
    rankers: tuple[RankerView, ...]
    single: int
    bins: tuple[Bin, ...]
    slices: tuple[Slice, ...]
    stages: tuple[Stage, ...]
    questions: tuple[QuestionView, ...]
    notes: tuple[str, ...]
    against: RunComparison | None = None

    @property
    def flags(self) -> dict[str, tuple[str, str]]:
        """The flags that its questions may have."""
        return {**FLAGS, **COMPARED} if self.against else FLAGS

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON; what is not a number is null."""
        return dict(_plain(dataclasses.asdict(self)))

    def text(self) -> str:
        """The figures at the top of the page."""
        lines = [f"{self.name}: {counted(len(self.questions), 'question')}, chance {self.chance:.3f}"]
        for each in (self.mix, *self.rankers):
            found = f"MAP@3 {each.scores.map3}" if each.scores else "the right answers are not known"
            lines.append(f"  {each.name}: {each.answered:,} answered, {found}")
        counts = {flag: sum(flag in q.flags for q in self.questions) for flag in self.flags}
        flags = ", ".join(f"{self.flags[flag][0]} {count:,}" for flag, count in counts.items() if count)
        lines += [f"  {self.against}"] if self.against else []
        return "\n".join([*lines, f"  flags: {flags or 'none'}", *(f"note: {note}" for note in self.notes)])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
