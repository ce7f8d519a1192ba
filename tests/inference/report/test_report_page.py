"""The page of a real run: safe, complete, and with the figures that brute force gives."""

import base64
import csv
import dataclasses
import hashlib
import itertools
import json
import math
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_toys import cli, page_of_run, parsed, synthetic

from inference.report.data import OptionView, QuestionView, RankerView, ReportData, SnippetView
from inference.report.page import page_of
from kaggle_rag.evaluation.calibration import Bin

EVIL = "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>"
ROWS = [
    {"id": "moon", "prompt": "Which is the larger moon of Mars?", "A": "Titan", "B": "Phobos", "C": "Europa",
     "answer": "B"},
    {"id": "melts", "prompt": "Name the temperature at which copper melts.", "A": "660 °C", "B": None,
     "C": "1,085 °C", "answer": "C", "is_question": False},
    {"id": "eyes", "prompt": f"How many eyes has a honey bee? {EVIL}", "A": "two", "B": f"five {EVIL}",
     "C": "none of the above", "answer": "A"},
    {"id": 'q"4', "prompt": "How long do worker bees live in summer?", "A": "for exactly six weeks",
     "B": "for exactly six week", "C": "a year", "answer": "A"},
]  # fmt: skip
TWO = "rankers=[{kind: similarity, weight: 3}, {kind: similarity, options: {score: novel, temperature: 0.3}}]"


@pytest.fixture(scope="module")
def run(facts_index, tmp_path_factory):
    """A submission by two rankers, made by the program."""
    folder = tmp_path_factory.mktemp("run")
    questions = folder / "train.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    words = ["--questions", questions, "--index", facts_index, "--out", folder / "s.csv", "--set", TWO]
    assert cli("submit", *words) == 0
    return folder


@pytest.fixture(scope="module")
def made(run):
    """Its report, made by the program: the page as text and as a tree."""
    out = run / "report.html"
    assert cli("report", run / "s.predictions", "--questions", run / "train.jsonl", "--out", out) == 0
    page = out.read_text(encoding="utf-8")
    return page, parsed(page)


def tables(run):
    """Probabilities by ranker, read from the columns of its file."""
    found = {}
    for name in ("similarity", "similarity-2"):
        columns = pq.read_table(run / "s.predictions" / f"{name}.parquet").to_pydict()
        found[name] = [[columns[f"{name}.{x}"][row] for x in "ABC"] for row in range(len(ROWS))]
    return found


def blended(run):
    """The blend by hand: a mean with weights 3 and 1."""
    first, second = tables(run).values()
    return [[(3 * a + b) / 4 for a, b in zip(*rows)] for rows in zip(first, second)]


def brute_force(table):
    """MAP@3, accuracy and log loss, question by question."""
    points, first, loss = 0.0, 0, 0.0
    for row, cells in zip(ROWS, table):
        order = sorted((x for x in "ABC" if row[x]), key=lambda x: -cells["ABC".index(x)])
        place = order.index(row["answer"])
        points += 1 / (place + 1) if place < 3 else 0
        first += place == 0
        loss -= math.log(cells["ABC".index(row["answer"])])
    return points / len(ROWS), first / len(ROWS), loss / len(ROWS)


def calibration_error(table):
    """By ten lists of how sure it is, and whether it is right."""
    bins = {}
    for row, cells in zip(ROWS, table):
        best = max((x for x in "ABC" if row[x]), key=lambda x: cells["ABC".index(x)])
        sure = cells["ABC".index(best)]
        bins.setdefault(min(int(sure * 10), 9), []).append((sure, best == row["answer"]))
    return sum(abs(sum(right - sure for sure, right in held)) for held in bins.values()) / len(ROWS)


def test_only_the_style_and_the_script_of_the_policy_are_there(made):
    _, root = made
    policy = root.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    for name in ("style", "script"):
        content = root.one(name).text
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules.pop(f"{name}-src") == f"'sha256-{digest}'" and len(content) < 10_000
        # Neither what it holds nor what it stands for asks for anything.
        assert not re.search(r"https?:|url\(|@import|fetch|XMLHttp|import\(|WebSocket", content)
    assert not rules


def test_nothing_in_the_page_loads_anything(made):
    _, root = made
    names = {each.name for each in root.all()}
    assert not names & {"link", "img", "iframe", "object", "embed", "base", "audio", "video", "use", "image"}
    assert not [each for each in root.all("meta") if each.attributes.get("http-equiv") == "refresh"]
    for each in root.all():
        for key, value in each.attributes.items():
            assert not key.startswith("on") and key not in ("style", "src", "srcset", "action", "ping")
            assert key not in ("href", "xlink:href") or value == "#questions"
            assert key in ("title", "aria-label", "data-id") or "://" not in (value or "")


def test_markup_in_a_question_is_shown_as_text(made):
    page, root = made
    assert "<script>alert" not in page and page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3
    question = root.one("details", data_id="eyes")
    assert question.one("p", class_="prompt").text == ROWS[2]["prompt"]
    assert f"five {EVIL}" in question.all("th", scope="row")[1].text
    assert root.one("details", data_id='q"4')


@pytest.mark.parametrize("number", [0, 1, 2], ids=["blend", "similarity", "similarity-2"])
def test_the_figures_are_those_of_brute_force(run, made, number):
    _, root = made
    table = [blended(run), *tables(run).values()][number]
    score, right, loss = brute_force(table)
    cells = [cell.text for cell in root.all("table")[0].all("tr")[1 + number].all("td")]
    assert cells[0] == ["–", "3.000", "1.000"][number] and cells[-1] == "4 of 4"
    low, high = map(float, re.fullmatch(rf"{score:.3f} \[(.+), (.+)\]", cells[1]).groups())
    assert low <= score + 5e-4 and score - 5e-4 <= high and low < high
    assert cells[2:4] == [f"{right:.3f}", f"{loss:.3f}"]
    assert cells[4].startswith(f"{calibration_error(table):.3f} [")
    if number == 0:
        facts = {
            each.one("dt").text: each.one("dd").text for each in root.one("dl", class_="facts").all("div")
        }
        # Three options: (1 + 1/2 + 1/3) / 3; two: (1 + 1/2) / 2.
        assert facts.pop("Chance (MAP@3)") == f"{(3 * 11 / 18 + 3 / 4) / 4:.3f}"
        assert list(facts.values()) == ["4", *cells[1:5]]


def test_a_score_tells_how_sure_the_answers_were(run, tmp_path, capsys):
    capsys.readouterr()
    assert cli("score", run / "s.csv", run / "train.jsonl", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ece"]["mean"] == pytest.approx(calibration_error(blended(run)), abs=1e-5)
    assert sum(each["count"] for each in told["reliability"]) == len(ROWS)
    # A submission that these probabilities would not give, or without any beside it.
    rows = list(csv.DictReader((run / "s.csv").open(newline="")))
    shutil.copytree(run / "s.predictions", tmp_path / "s.predictions")
    for name in ("s.csv", "other.csv"):
        lines = [f"{row['id']},{' '.join(row['prediction'].split()[::-1])}\n" for row in rows[:1]]
        lines += [f'"{row["id"].replace(chr(34), chr(34) * 2)}",{row["prediction"]}\n' for row in rows[1:]]
        (tmp_path / name).write_text("id,prediction\n" + "".join(lines), encoding="utf-8")
        assert cli("score", tmp_path / name, run / "train.jsonl", "--json") == 0
        assert json.loads(capsys.readouterr().out)["ece"] is None


def test_every_question_is_there_with_every_probability(run, made):
    _, root = made
    items = root.one(id="list").children
    items = [each for each in items if not isinstance(each, str)]
    assert [each.attributes["data-id"] for each in items] == [row["id"] for row in ROWS]
    columns = [blended(run), *tables(run).values()]
    for number, (item, row) in enumerate(zip(items, ROWS)):
        present = [x for x in "ABC" if row[x]]
        rows = item.one("tbody").all("tr")
        assert len(rows) == len(present) and item.one("p", class_="prompt").text == row["prompt"]
        for letter, each in zip(present, rows):
            head = each.one("th").text
            assert head.startswith(f"{letter} {row[letter]}") and ("right" in head) == (
                letter == row["answer"]
            )
            expected = [table[number]["ABC".index(letter)] for table in columns]
            assert [cell.text for cell in each.all("td")] == [f"{value:.3f}" for value in expected]
            assert ("chosen" in head) == (expected[0] == max(columns[0][number]))
        order = sorted(columns[0][number])
        assert float(item.attributes["data-margin"]) == pytest.approx(order[-1] - order[-2], abs=1e-4)


def test_the_sentence_that_supports_the_choice_is_marked(made):
    _, root = made
    marks = {each.attributes["data-id"]: each.all("mark") for each in root.all("details", class_="q")}
    assert [each.text for each in marks["moon"]] == ["Phobos is the larger moon of Mars."]
    assert [each.text for each in marks["melts"]] == ["Copper melts at 1,085 °C."]
    assert all(len(each) <= 1 for each in marks.values())


def test_snippets_have_their_title_and_score(run, made):
    _, root = made
    rows = pq.read_table(run / "s.predictions" / "contexts.parquet").to_pylist()
    assert len(rows) == len(ROWS)
    for row in rows:
        item = root.one("details", data_id=row["id"])
        shown = [each.text for each in item.one("ol").all("li")]
        assert len(shown) == len(row["snippets"]) > 0
        for text, snippet in zip(shown, row["snippets"]):
            assert text.startswith(f"{snippet['title']} score {snippet['score']:.3f}")
            assert snippet["text"].split()[-1] in text


def test_stages_are_those_of_the_run(run, made):
    _, root = made
    stages = json.loads((run / "s.predictions" / "run.json").read_text())["stages"]
    table = next(each for each in root.all("table") if "peak RAM" in each.text)
    rows = [
        [cell.text for cell in [each.one("th"), *each.all("td")]] for each in table.one("tbody").all("tr")
    ]
    assert [row[0] for row in rows] == ["contexts", "rank: similarity", "rank: similarity-2"]
    for row, stage in zip(rows, stages):
        assert row[2] == f"{stage['seconds']:.1f} s" and row[1] == "4"
        assert float(row[3].split()[0]) == pytest.approx(stage["ram_peak"] / 1e9, abs=0.006)
    chart = root.one("svg", aria_labelledby="seconds-title seconds-text")
    widths = [float(each.attributes["width"]) for each in chart.all("rect")]
    most = max(stage["seconds"] for stage in stages)
    assert widths == pytest.approx([300 * stage["seconds"] / most for stage in stages], abs=0.1)


def test_charts_have_a_title_a_description_and_a_table(made):
    _, root = made
    charts = [each for each in root.all("svg") if each.attributes.get("role") == "img"]
    assert len(charts) == 4
    for each in charts:
        ids = each.attributes["aria-labelledby"].split()
        assert [each.one("title").attributes["id"], each.one("desc").attributes["id"]] == ids
        assert each.one("title").text and each.one("desc").text
    for figure in root.all("figure")[:2]:
        assert len(figure.one("tbody").all("tr")) > 1
    hidden = [each for each in root.all("svg") if each not in charts]
    assert hidden and all(each.attributes["aria-hidden"] == "true" for each in hidden)
    every = [each.attributes["id"] for each in root.all() if "id" in each.attributes]
    assert len(every) == len(set(every))


def test_the_page_can_be_used_by_keyboard(made):
    _, root = made
    skip = next(each for each in root.one("body").all() if each.name == "a")
    assert skip.attributes["href"] == "#questions" and root.one(id="questions").name == "h2"
    assert root.one("html").attributes["lang"] == "en" and len(root.all("h1")) == len(root.all("main")) == 1
    levels = [int(each.name[1]) for each in root.all() if re.fullmatch("h[1-6]", each.name)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for each in [*root.all("input"), *root.all("select")]:
        assert any(each in label.all() for label in root.all("label"))
    # What needs the script is not shown without it.
    assert "hidden" in root.one(id="controls").attributes


def test_the_flags_can_be_filtered_by_and_are_counted(made):
    _, root = made
    counts = {}
    for item in root.all("details", class_="q"):
        for flag in filter(None, item.attributes["data-flags"].split(" ")):
            counts[flag] = counts.get(flag, 0) + 1
    boxes = {each.one("input").attributes["value"]: each.text for each in root.one("fieldset").all("label")}
    assert boxes.keys() == counts.keys() and {"twins", "none-of", "wrong"} <= counts.keys()
    for flag, text in boxes.items():
        assert text.strip().endswith(f"({counts[flag]})")


def luminance(colour):
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_have_the_contrast_that_wcag_asks_for(made):
    _, root = made
    themes = re.findall(r":root \{(.*?)\}", root.one("style").text, re.S)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme))

        def contrast(one, other, colours=colours):
            light, dark = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
            return (light + 0.05) / (dark + 0.05)

        for ink in ("ink", "soft", "accent", "good", "warn"):
            assert contrast(ink, "page") >= 4.5, ink
        if "mark" in colours:
            assert contrast("mark-ink", "mark") >= 4.5 and contrast("line", "page") >= 3
            assert contrast("soft", "box") >= 4.5 and contrast("accent", "box") >= 3


def test_json_holds_what_the_page_shows(run, capsys):
    words = ["report", run / "s.predictions", "--questions", run / "train.jsonl", "--out", run / "j.html"]
    assert cli(*words, "--json", "--limit", 2) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in found["questions"]] == ["moon", "melts"]
    assert found["mix"]["scores"]["map3"]["mean"] == pytest.approx(
        np.mean([1 / each["rank"] for each in found["questions"]])
    )
    assert found["notes"] == ["only the first 2 of 4 questions (--limit)"]
    assert len(parsed((run / "j.html").read_text()).all("details", class_="q")) == 2


def test_without_answers_there_are_no_scores_and_every_question(run, tmp_path):
    with (run / "test.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "prompt", "A", "B", "C", "is_question"])
        writer.writeheader()
        writer.writerows([{k: v for k, v in row.items() if k != "answer"} for row in ROWS])
    words = ["--questions", run / "test.csv", "--without-contexts", "--out", tmp_path / "t.csv"]
    assert cli("submit", *words) == 0
    data, root = page_of_run(tmp_path / "t.html", tmp_path / "t.predictions", run / "test.csv", None)
    assert data.mix.scores is None and not data.bins and not data.slices
    assert "the right answers are not known" in root.one("dl", class_="facts").text and not root.all(
        class_="right"
    )
    assert len(root.all("details", class_="q")) == 4 and not root.all("ol")
    assert "wrong" not in {flag for each in data.questions for flag in each.flags}
    # The same run with the train file: now the answers are known.
    scored, _ = page_of_run(tmp_path / "t.html", tmp_path / "t.predictions", run / "train.jsonl", None)
    assert scored.mix.scores.questions == 4 and scored.notes == (
        "the run does not name any contexts: no evidence is shown",
    )


@pytest.mark.slow
def test_a_page_of_1500_questions_is_under_10_mb(tmp_path):
    inputs = synthetic(tmp_path, 1500)
    data, root = page_of_run(tmp_path / "r.html", *inputs)
    assert 3e6 < (tmp_path / "r.html").stat().st_size < 10e6
    assert len(root.all("details", class_="q")) == len(data.questions) == 1500
    assert all(1 <= len(each.all("li")) <= 20 for each in root.all("ol"))
    # Longer contexts do not make it grow.
    longer = tuple(
        dataclasses.replace(
            each, snippets=tuple(dataclasses.replace(s, text=s.text * 30) for s in each.snippets)
        )
        for each in data.questions
    )
    page = page_of(dataclasses.replace(data, questions=longer))
    assert len(page.encode()) < 10e6 and page.count("more snippets are in the contexts file") == 1500


def data_of(text):
    """A report of one question in which every text is this one."""
    view = RankerView(text, 1.0, 1, None)
    options = tuple(OptionView(letter, text, 0.5, (0.5,), letter == "A", letter == "A") for letter in "AB")
    snippets = (SnippetView(text, text, 1.0, "A", (0, len(text))), SnippetView(text, text, None, ""))
    question = QuestionView(text, text, options, 0.0, 1, 0.5, ("low-margin",), snippets)
    return ReportData(
        text, "submission", view, 0.5, (view,), 1, (Bin(0.5, 0.6, 1, 0.5, 1.0),), (), (), (question,), (text,)
    )


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80))
def test_no_text_becomes_markup(text):
    root, plain = parsed(page_of(data_of(text))), parsed(page_of(data_of("x")))
    names = [each.name for each in root.all()]
    assert names == [each.name for each in plain.all()]
    assert [sorted(each.attributes) for each in root.all()] == [sorted(x.attributes) for x in plain.all()]
    assert root.one("p", class_="prompt").text == root.one("mark").text == root.one("h1").text == text
    assert root.one("details", class_="q").attributes["data-id"] == text


def test_long_texts_are_cut_or_folded_and_say_so():
    root = parsed(page_of(data_of("word " * 2000)))
    question = root.one("details", class_="q")
    assert "(7,000 more characters)" in question.one("p", class_="prompt").text
    assert "(9,400 more characters)" in question.all("th", scope="row")[0].text
    second = question.all("li")[1]
    assert second.one("details").one("summary").text == "more" and len(second.text) >= 10_000
