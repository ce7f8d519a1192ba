"""The report as one HTML file: a pure function of its data, without any request to anything."""

from __future__ import annotations

from html import escape

from inference.report.charts import ranker_table, reliability_chart, slice_chart, stage_charts, table
from inference.report.data import ReportData, RunComparison
from inference.report.document import document, own_file
from inference.report.items import questions_html
from kaggle_rag.runtime.words import counted

GENERATOR = "kaggle-rag report"
_KINDS = {"submission": "Submission", "cross-validation": "Cross-validation"}


def page_of(data: ReportData) -> str:
    """The page; the only style and the only script it may use are its own."""
    name = escape(data.name)
    against = _comparison(data.against) if data.against else ""
    body = "".join([_summary(data), against, _charts(data), _questions(data)])
    return document(
        f"{data.name}: evidence report",
        f"<a class=skip href=#questions>Skip to the questions</a>\n"
        f"<header><p>{_KINDS[data.kind]}</p><h1>{name}</h1></header>\n<main>\n{body}</main>\n",
        script=own_file("script.js"), head=f'<meta name=generator content="{GENERATOR}">\n',
    )  # fmt: skip


def _summary(data: ReportData) -> str:
    facts = [("Questions", f"{len(data.questions):,}")]
    if found := data.mix.scores:
        known = f" of {found.questions:,}" if found.questions < len(data.questions) else ""
        facts += [
            (f"MAP@3{known}", str(found.map3)), ("Accuracy", f"{found.accuracy:.3f}"),
            ("Log loss (nats)", f"{found.log_loss:.3f}"), ("Calibration error", str(found.ece)),
        ]  # fmt: skip
    else:
        facts.append(("MAP@3", "the right answers are not known"))
    facts.append(("Chance (MAP@3)", f"{data.chance:.3f}"))
    notes = "".join(f"<li>{escape(note)}</li>" for note in data.notes)
    return (
        f"<section aria-labelledby=scores><h2 id=scores>Scores</h2>{_facts(facts)}"
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}{ranker_table(data)}</section>\n"
    )


def _comparison(found: RunComparison) -> str:
    """This run beside another one, over the questions that both answered."""
    facts = [("First options changed", f"{found.changed:,} of {found.shared:,}")]
    if gap := found.difference:
        facts += [
            (f"MAP@3, this run minus the other, {counted(found.known, 'question')}", str(gap)),
            ("Questions that score more", f"{found.better:,}"),
            ("Questions that score less", f"{found.worse:,}"),
        ]
    rows = [
        (each.name, f"{each.questions:,}", f"{each.score.mean:+.3f}",
         f"{each.score.low:+.3f} to {each.score.high:+.3f}", f"{each.p_value:.3f}",
         "★" if each.differs else "")
        for each in found.slices
    ]  # fmt: skip
    headers = ("slice", "questions", "difference", "95 %", "p (Holm)", "differs")
    slices = table(headers, rows, "Difference of MAP@3 by slice") if rows else ""
    return (
        f"<section aria-labelledby=against><h2 id=against>Against {escape(found.name)}</h2>\n"
        f"{_facts(facts)}{slices}</section>\n"
    )


def _facts(facts: list[tuple[str, str]]) -> str:
    shown = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts)
    return f"<dl class=facts>{shown}</dl>\n"


def _charts(data: ReportData) -> str:
    parts = []
    if data.bins:
        parts.append(reliability_chart(data.bins))
    if data.slices and data.mix.scores:
        parts.append(slice_chart(data.slices, data.mix.scores.map3.mean))
    if data.stages:
        parts.append(stage_charts(data.stages))
    if not parts:
        return ""
    return f"<section aria-labelledby=charts><h2 id=charts>Charts</h2>{''.join(parts)}</section>\n"


def _questions(data: ReportData) -> str:
    return (
        f"<section aria-labelledby=questions><h2 id=questions tabindex=-1>Questions</h2>\n{_controls(data)}"
        f"<div id=list>\n{questions_html(data)}</div></section>\n"
    )


def _controls(data: ReportData) -> str:
    """Search, filter and sort; hidden until the script that they need runs."""
    counts = {flag: sum(flag in each.flags for each in data.questions) for flag in data.flags}
    boxes = "".join(
        f"<label><input type=checkbox name=flag value={flag}> {escape(name)} ({count:,})</label> "
        for (flag, count), (name, _) in zip(counts.items(), data.flags.values())
        if count
    )
    flags = (
        f"<fieldset><legend>Only questions with all of these flags</legend>{boxes}</fieldset>\n"
        if boxes
        else ""
    )
    orders = {"n": "as in the run", "id": "by id", "margin": "smallest margin first"}
    if data.mix.scores:
        orders["wrong"] = "most wrong first"
    choices = "".join(f"<option value={key}>{text}</option>" for key, text in orders.items())
    meanings = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in data.flags.values()
    )
    return (
        f"<details><summary>What the flags mean</summary><dl>{meanings}</dl></details>\n"
        "<form id=controls hidden><label>Search <input type=search id=search></label>\n"
        f"<label>Order <select id=order>{choices}</select></label>\n{flags}"
        f"<p role=status id=count>{counted(len(data.questions), 'question')}</p></form>\n"
    )
