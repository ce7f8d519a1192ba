"""The report as one HTML file: a pure function of its data, without any request to anything."""

from __future__ import annotations

from html import escape

from inference.report.charts import ranker_table, reliability_chart, slice_chart, stage_charts
from inference.report.data import FLAGS, ReportData
from inference.report.document import document, own_file
from inference.report.items import questions_html

GENERATOR = "kaggle-rag report"
_KINDS = {"submission": "Submission", "cross-validation": "Cross-validation"}


def page_of(data: ReportData) -> str:
    """The page; the only style and the only script it may use are its own."""
    name = escape(data.name)
    body = "".join([_summary(data), _charts(data), _questions(data)])
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
            ("Log loss (nats)", f"{found.log_loss:.3f}"),
        ]  # fmt: skip
    else:
        facts.append(("MAP@3", "the right answers are not known"))
    facts.append(("Chance (MAP@3)", f"{data.chance:.3f}"))
    shown = "".join(f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in facts)
    notes = "".join(f"<li>{escape(note)}</li>" for note in data.notes)
    return (
        f"<section aria-labelledby=scores><h2 id=scores>Scores</h2><dl class=facts>{shown}</dl>\n"
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}{ranker_table(data)}</section>\n"
    )


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
    counts = {flag: sum(flag in each.flags for each in data.questions) for flag in FLAGS}
    boxes = "".join(
        f"<label><input type=checkbox name=flag value={flag}> {escape(FLAGS[flag][0])} ({count:,})</label> "
        for flag, count in counts.items()
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
    meanings = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in FLAGS.values())
    return (
        f"<details><summary>What the flags mean</summary><dl>{meanings}</dl></details>\n"
        "<form id=controls hidden><label>Search <input type=search id=search></label>\n"
        f"<label>Order <select id=order>{choices}</select></label>\n{flags}"
        f"<p role=status id=count>{len(data.questions):,} questions</p></form>\n"
    )
