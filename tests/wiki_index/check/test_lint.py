"""The linter finds what was planted, and nothing in what is whole."""

import json
import sys

import pytest

from kaggle_rag.runtime.errors import run_program
from kaggle_rag.text.mathematics import tex_to_text
from wiki_index import __main__ as program
from wiki_index.check.lint import lint
from wiki_index.corpus import Corpus

GERMAN = (
    "Eisen ist ein chemisches Element mit dem Symbol Fe und der Ordnungszahl sechsundzwanzig in der Reihe. "
    "Es gehört zu den Übergangsmetallen, die im Periodensystem die achte Nebengruppe bilden und glänzen. "
    "Reines Eisen ist relativ weich, und sein Schmelzpunkt liegt höher als derjenige von Kupfer oder Gold. "
)
RUSSIAN = "Железо является элементом восьмой группы четвёртого периода периодической системы элементов. " * 6
DUTCH = (
    "IJzer is een scheikundig element met symbool Fe en atoomnummer zesentwintig in het periodiek systeem. "
    "Het is een grijs metaal en het op drie na meest voorkomende element in de aardkorst, en was al bekend. "
)
ENGLISH = (
    "Iron is a metal that belongs to the first transition series and to group 8 of the periodic table. "
    "It is, by mass, the most common element on Earth, forming much of the outer and inner core of it. "
    "It melts at 1538 degrees, and the price of it fell to 90 dollars in the year of 1998."
)


def checks(texts, tmp_path, **options):
    rows = [{"title": f"T{n}", "text": text} for n, text in enumerate(texts)]
    return found(write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)), **options)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def found(path, **options):
    linter = lint(Corpus.open(path), **options)
    return {name: getattr(linter, name) for name in ("numbers", "formulae", "holes", "short", "long", "empty",
            "duplicates", "foreign")} | {"linter": linter}  # fmt: skip


def dump(path, *wikitexts):
    pages = "".join(
        f"<page><title>T{n}</title><ns>0</ns><id>{n}</id>"
        f"<revision><text>{t.replace('<', '&lt;')}</text></revision></page>"
        for n, t in enumerate(wikitexts, 1)
    )
    return write(path, f"<mediawiki>{pages}</mediawiki>")


def test_a_whole_corpus_has_no_findings(tmp_path):
    result = checks(
        [ENGLISH, "Gold is heavy and dear; it weighs 19.3 grams.\n== References ==\nSmith 1999."], tmp_path
    )
    linter = result.pop("linter")
    assert linter.articles == 2 and all(check.found == 0 for check in result.values())
    assert result["numbers"].of == 3 and result["duplicates"].of == 2


@pytest.mark.parametrize(
    "wikitext, lost",
    [
        ("It melts at {{unknown unit|1811|K}} and boils at 3134 K.", "1811"),
        ("It melts at {{convert|1811|K}} and boils at 3134 K.", None),
        ("It melts at 1811 K.<ref>Smith 1999</ref> It {{citation needed|date=May 2001}} boils.", None),
        ("{{Infobox\n| mass = 55\n}}\nIt melts at 1811 K.", None),
        ("[[File:x.jpg|thumb|in 1850]] It melts at 1811 K.<!-- 7 -->", None),
        ("It melts at 1811 K.\n== References ==\nSmith 1999 has more on it.", None),
        ("Many say so.\n\n{| class=wikitable\n! Name !! K\n|-\n| Iron, a metal || 1811 K\n|}", None),
        ("It weighs {{val|5.5|u=kg}} and {{frac|1|2}} more, {{chem|H|2|O}} too.", None),
    ],
)
def test_numbers_that_the_sentences_lost_are_found(wikitext, lost, tmp_path):
    numbers = found(dump(tmp_path / "a.xml", wikitext))["numbers"]
    assert numbers.found == (lost is not None) and (wikitext.startswith("[[") or numbers.of > 0)
    assert lost is None or numbers.examples[0].startswith(f"T1 (1): {lost} of: It melts at")


def test_a_formula_that_the_text_lost_is_found(tmp_path, monkeypatch):
    formulae = (
        "Force is <math>F=\\frac{m}{2}\\cdot a^{10}</math> and <math>\\mathbb{R}^n \\to \\sin x</math> there."
    )
    path = dump(tmp_path / "a.xml", formulae)
    assert (found(path)["formulae"].found, found(path)["formulae"].of) == (0, 2)
    monkeypatch.setattr(
        "wiki_index.markup.wikitext.tex_to_text", lambda tex: "" if "frac" in tex else tex_to_text(tex)
    )
    again = found(path)["formulae"]
    assert again.found == 1 and "frac" in again.examples[0]


def test_formulae_of_a_plain_export_are_checked_too(tmp_path):
    exploded = "\n  \n    \n      F\n      2\n    \n    {\\displaystyle F={\\tfrac {m}{2}}a}\n  "
    text = f"Force is {exploded}, for a mass of 5 kg."
    result = checks([text], tmp_path)
    assert (result["formulae"].found, result["formulae"].of, result["numbers"].found) == (0, 1, 0)


@pytest.mark.parametrize("hole", ["a mass of , where", "iron () is hard", "iron (; Fe) melts", "the end ."])
def test_holes_that_came_with_the_corpus_are_counted(hole, tmp_path):
    assert checks([f"It has {hole}"], tmp_path)["holes"].found == 1


def test_repeated_articles_are_found_whatever_their_titles_case_and_spaces(tmp_path):
    result = checks([ENGLISH, "Gold is heavy.", ENGLISH.upper().replace(" ", "  "), ENGLISH], tmp_path)
    assert result["duplicates"].found == 2 and result["duplicates"].examples == ["T2 (2)", "T3 (3)"]


def test_articles_in_another_language_are_found_and_lists_of_names_are_not(tmp_path):
    result = checks([ENGLISH, GERMAN, RUSSIAN, "Kurz.", "\n".join(["Anna Schmidt"] * 50)], tmp_path)[
        "foreign"
    ]
    assert result.examples == ["T1 (1)", "T2 (2)"]
    (tmp_path / "de").mkdir()
    assert checks([GERMAN, ENGLISH], tmp_path / "de", language="de")["foreign"].examples == ["T1 (1)"]


def test_short_long_and_missing_passages_are_counted(tmp_path):
    result = checks(["It rusts.", "word " * 300, "== Only a heading ==", ENGLISH], tmp_path)
    assert [result[name].found for name in ("short", "long", "empty")] == [1, 1, 1]


def test_every_nth_page_alone_is_read(tmp_path):
    assert checks([ENGLISH, GERMAN] * 10, tmp_path, every=2)["linter"].articles == 10


def call(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wiki_index", "check", *map(str, arguments)])
    return run_program(program.main)


def test_the_command_prints_a_table_and_writes_json(tmp_path, monkeypatch, capsys):
    path = dump(tmp_path / "a.xml", "It melts at {{x|1811}} K.", "#REDIRECT [[a]]")
    assert call("--corpus", path, "--json", tmp_path / "out.json", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert "1 article; left out: 1 redirect" in said and "100.00%" in said and "1811 of" in said
    written = json.loads((tmp_path / "out.json").read_text())
    numbers = next(check for check in written["checks"] if "number" in check["name"])
    assert (numbers["found"], numbers["of"], numbers["share"]) == (1, 1, 1.0)
    assert written["articles"] == 1 and written["skipped"] == {"redirect": 1}


@pytest.mark.parametrize(
    "flags, said",
    [(["--every", "0"], "--every"), (["--every", "9"], ""), (["--json", "x"], "check --corpus")],
)
def test_flags_that_cannot_work_are_one_message(flags, said, tmp_path, monkeypatch, capsys):
    corpus = dump(tmp_path / "a.xml", "#REDIRECT [[a]]")
    where = [tmp_path / "index"] if "--json" in flags else ["--corpus", corpus]
    assert call(*where, *flags, monkeypatch=monkeypatch) == 2
    said_there = capsys.readouterr().err
    assert said in said_there and said_there.count("error:") == 1
