"""Charts as inline SVG, each with a title, a description and the same figures as a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from inference.report.data import ReportData
from inference.run_log import Stage
from kaggle_rag.evaluation.calibration import Bin
from kaggle_rag.evaluation.slices import Slice
from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.errors import show_size

_ROW = 24
# Horizontal places of a bar chart: where bars begin and end; labels are left of them, values right.
_LEFT, _RIGHT, _WIDE = 260, 560, 640
_LABEL = 36


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table with a header row; the first cell of each row is its header. Cells are plain text."""
    head = "".join(f"<th scope=col>{escape(each)}</th>" for each in headers)
    body = "".join(
        f"<tr><th scope=row>{escape(first)}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>\n"
        for first, *rest in rows
    )
    return (
        f'<div class=scroll tabindex=0 role=group aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div>\n"
    )


def reliability_chart(bins: Sequence[Bin]) -> str:
    """Accuracy over confidence; a circle's area grows with its number of questions."""
    most = max(each.count for each in bins)
    marks = [
        '<path class=axis d="M40 340H340M40 340V40"/><path class=even d="M40 340L340 40"/>',
        *(
            f"<text x={40 + 60 * at} y=358 class=mid>{at / 5:.1f}</text>"
            f"<text x=34 y={344 - 60 * at} class=end>{at / 5:.1f}</text>"
            for at in range(6)
        ),
        "<text x=190 y=380 class=mid>confidence</text><text x=40 y=26>accuracy</text>",
    ]
    for each in bins:
        if each.count:
            x, y = 40 + 300 * each.confidence, 340 - 300 * each.accuracy
            radius = 3 + 9 * (each.count / most) ** 0.5
            marks.append(
                f"<circle class=dot cx={x:.1f} cy={y:.1f} r={radius:.1f} />"
                f"<text x={x:.1f} y={y - radius - 4:.1f} class=mid>{each.count:,}</text>"
            )
    rows = [
        (f"{each.low:.1f} to {each.high:.1f}", f"{each.count:,}",
         *((f"{each.confidence:.3f}", f"{each.accuracy:.3f}") if each.count else ("–", "–")))
        for each in bins
    ]  # fmt: skip
    return _figure(
        "reliability", "Reliability", "Accuracy of the likeliest option by its probability, in ten bins; the "
        "number of questions above each. On the diagonal, probabilities are what they claim to be.",
        (400, 390), "".join(marks),
        table(("probability", "questions", "confidence", "accuracy"), rows, "Reliability by bin"),
    )  # fmt: skip


def slice_chart(slices: Sequence[Slice], overall: float) -> str:
    """MAP@3 of each slice with its interval; a line marks that of all questions."""

    def across(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * value

    high = 30 + _ROW * len(slices)
    marks = [
        f'<path class=even d="M{across(overall):.1f} 20V{high}"/>',
        f"<text x={across(overall):.1f} y=14 class=mid>all {overall:.3f}</text>",
    ]
    for number, each in enumerate(slices):
        y = 40 + _ROW * number
        low, top = across(each.score.low), across(each.score.high)
        marks.append(
            f"<text x={_LEFT - 10} y={y + 4} class=end>{_short(each.name)}</text>"
            f'<path class=span d="M{low:.1f} {y}H{top:.1f}"/>'
            f"<circle class=dot cx={across(each.score.mean):.1f} cy={y} r=5 />"
            f"<text x={_WIDE} y={y + 4} class=end>{each.score.mean:.3f}{' *' if each.differs else ''}</text>"
        )
    rows = [
        (each.name, f"{each.questions:,}", str(each.score), _number(each.rest), _number(each.p_value),
         "yes" if each.differs else "no")
        for each in slices
    ]  # fmt: skip
    headers = ("slice", "questions", "MAP@3", "MAP@3 of the rest", "p (Holm)", "differs")
    return _figure(
        "slices", "MAP@3 by slice", "The mean of each slice of the questions with its 95 % interval; a star "
        "marks those that differ from the rest beyond chance.", (_WIDE + 10, high + 10), "".join(marks),
        table(headers, rows, "Scores by slice"),
    )  # fmt: skip


def stage_charts(stages: Sequence[Stage]) -> str:
    """Seconds and peak memory of each stage."""
    names = [each.name for each in stages]
    gpu = [each.gpu_peak for each in stages]
    rows = [
        (each.name, f"{each.questions:,}", f"{each.seconds:.1f} s", show_size(each.ram_peak),
         show_size(each.gpu_peak) if each.gpu_peak else "–", each.failure or each.note or "–")
        for each in stages
    ]  # fmt: skip
    headers = ("stage", "questions", "seconds", "peak RAM", "peak GPU memory", "notes")
    charts = [
        _bars("seconds", "Seconds by stage", names, [s.seconds for s in stages],
              [duration(s.seconds) for s in stages]),
        _bars("memory", "Peak RAM by stage", names, [float(s.ram_peak) for s in stages],
              [show_size(s.ram_peak) for s in stages]),
        *([_bars("gpu", "Peak GPU memory by stage", names, list(map(float, gpu)), list(map(show_size, gpu)))]
          if any(gpu) else []),
    ]  # fmt: skip
    return "".join(charts) + _folded(table(headers, rows, "Stages"))


def _bars(key: str, title: str, names: Sequence[str], values: Sequence[float], shown: Sequence[str]) -> str:
    most = max(values) or 1.0
    marks = "".join(
        f"<text x={_LEFT - 10} y={20 + _ROW * n} class=end>{_short(name)}</text>"
        f"<rect class=dot x={_LEFT} y={8 + _ROW * n} width={(_RIGHT - _LEFT) * value / most:.1f} height=16 />"
        f"<text x={_WIDE} y={20 + _ROW * n} class=end>{escape(text)}</text>"
        for n, (name, value, text) in enumerate(zip(names, values, shown))
    )
    longest = names[int(np.argmax(values))]
    return _figure(
        key, title, f"One bar per stage; the longest is that of {longest}.",
        (_WIDE + 10, 10 + _ROW * len(names)), marks, "",
    )  # fmt: skip


def _figure(key: str, title: str, text: str, size: tuple[int, int], marks: str, rows: str) -> str:
    width, height = size
    kind = " class=wide" if width > _WIDE else ""
    return (
        f"<figure><figcaption><h3>{escape(title)}</h3><p>{escape(text)}</p></figcaption>\n"
        f'<div class=scroll tabindex=0 role=group aria-label="{escape(title)}: chart">'
        f'<svg role=img{kind} aria-labelledby="{key}-title {key}-text" viewBox="0 0 {width} {height}" '
        f"width={width} height={height}><title id={key}-title>{escape(title)}</title>"
        f"<desc id={key}-text>{escape(text)}</desc>{marks}</svg></div>\n"
        f"{_folded(rows) if rows else ''}</figure>\n"
    )


def _folded(content: str) -> str:
    return f"<details><summary>As a table</summary>{content}</details>\n"


def ranker_table(data: ReportData) -> str:
    """The mix and its rankers: weight, scores and coverage."""
    rows = []
    for each in (data.mix, *data.rankers):
        found = each.scores
        rows.append((
            each.name, "–" if each.weight is None else f"{each.weight:.3f}",
            str(found.map3) if found else "–", f"{found.accuracy:.3f}" if found else "–",
            f"{found.log_loss:.3f}" if found else "–", str(found.ece) if found else "–",
            f"{each.answered:,} of {len(data.questions):,}",
        ))  # fmt: skip
    headers = ("ranker", "weight", "MAP@3 [95 %]", "accuracy", "log loss", "ECE [95 %]", "answered")
    return table(headers, rows, "Rankers: weights, scores and coverage")


def _short(name: str) -> str:
    return escape(name if len(name) <= _LABEL else name[: _LABEL - 1] + "…")


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"
