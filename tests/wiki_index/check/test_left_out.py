"""What the page shows stays; what goes is counted and told; the linter reads for itself."""

import ast
import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT

from kaggle_rag.text.cleaning import paragraphs
from kaggle_rag.text.units import Splitter, Unit
from wiki_index.check import lint as linter_module
from wiki_index.check.lint import lint
from wiki_index.corpus import Corpus, Skip
from wiki_index.markup import reference_text as rough
from wiki_index.markup.site import site
from wiki_index.markup.wikitext import plain
from wiki_index.progress import Seen, left_out_lines


def dump(path, text, language="en", names="", title="T", ns="<ns>0</ns>"):
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    path.write_text(
        f'<mediawiki xml:lang="{language}"><siteinfo>{names}</siteinfo>'
        f"<page><title>{title}</title>{ns}<id>1</id>"
        f"<revision><text>{text}</text></revision></page></mediawiki>",
        encoding="utf-8",
    )
    return path


def sentences(path, language="en"):
    split = Splitter(Unit("sentence"), language)
    return [s for a in Corpus.open(path).articles() for s in split(a.text, a.is_rendered)]


def test_a_section_goes_for_what_it_holds():
    prose = "== Sources ==\nMost of the lead in the river was found to come from 12 mines upstream.\n"
    works = "== Sources ==\nMiller, Ann (1987). Lead in Rivers. Delta Press. ISBN 0-00-000000-0.\n"
    counts = Counter()
    assert paragraphs(prose) == ["Most of the lead in the river was found to come from 12 mines upstream."]
    assert paragraphs(works, left_out=counts) == [] and counts == {"section Sources": 1}


def test_a_quantity_among_works_stays():
    works = [
        "Miller, Ann (1987). Lead in Rivers. Delta Press.",
        "Poe, J. (1990). Ores. Oxford University Press.",
    ]
    for heading in ("Sources", "Further reading"):
        lines = [f"== {heading} ==", works[0], "Raw oysters: 16.6 mg of zinc", works[1]]
        counts = Counter()
        assert paragraphs("\n".join(lines), left_out=counts) == ["Raw oysters: 16.6 mg of zinc"]
        assert counts == {f"section {heading}": 2}


@pytest.mark.parametrize(
    "mark", ["page 6", "Chapter 5", "§§ 5A(2), 26(1)", "Ch 9.1", "pages 76–8", "pp. 3–4, 9"]
)
def test_a_page_goes_that_a_word_calls_one(mark):
    counts = Counter()
    text = f"It was ruled by a governor general.: {mark} Ohio also joined in 1961."
    assert paragraphs(text, left_out=counts) == [text.replace(f": {mark}", "")]
    assert counts == {"marks of pages": 1}


@pytest.mark.parametrize(
    "text",
    [
        "El.: 1,240 m at the pass.",
        "Min. depth approx.: 30 K was reached.",
        "benzo[a]pyrene and x[3] = 7",
        "list[0] is F[X]",
    ],
)
def test_figures_and_indexes_are_no_marks(text):
    assert paragraphs(text) == [text]


def test_shown_code_is_unescaped_once(tmp_path):
    path = dump(
        tmp_path / "a.xml",
        "Write <code>&lt;em&gt;</code> or <nowiki><ref>7</ref></nowiki>, and &amp;gt; for it.",
    )
    assert sentences(path) == ["Write <em> or <ref>7</ref>, and &gt; for it."]


def test_an_export_has_one_layer_of_escaping():
    assert paragraphs("The &lt;i&gt; tag &amp;lt; <i>it</i>") == ["The <i> tag &lt; it"]


def test_namespaces_have_the_names_of_the_dump_and_of_their_language(tmp_path):
    names = '<namespaces><namespace key="14">Flokkur X</namespace></namespaces>'
    text = "[[Mynd:a.jpg|thumb]] Járn er málmur. [[Flokkur X:Málmar]] [[Flokkur:Málmar]] [[sci:fi]]"
    assert sentences(dump(tmp_path / "a.xml", text, "is", names), "is") == ["Járn er málmur.", "sci:fi"]
    page = next(Corpus.open(dump(tmp_path / "b.xml", "x y", "fi", title="Luokka:Metallit", ns="")).pages())
    assert page.article() == Skip("namespace")


@pytest.mark.parametrize(
    "wikitext, text",
    [
        ("{{date de décès|1|3|1850}} au {{s2|XVIII|e|XIX|e}}", "1er mars 1850 au XVIIIe et XIXe siècles"),
        ("{{unité|7|kg||m|-3}} {{2e|armée}} {{XVe siècle}}", "7 kg⋅m^-3 2e armée XVe siècle"),
        (
            "{{sp-|XI|e|et au|XII|e}} {{-sp|III|e|-|I|er|s}}",
            "XIe et au XIIe siècle IIIe - Ier siècles av. J.-C.",
        ),
        ("{{1er mai}} {{IIIe siècle av. J.-C.}} {{heure|7|5}}", "1er mai IIIe siècle av. J.-C. 7 h 5"),
        ("{{japonais|Fuji|富士||mont}} {{Mme}} {{s|10 кг}}", "Fuji (富士, mont) Mme 10 кг"),
        ("{{lien|trad=Ore|lang=en|fr=minerai|texte=minerais}}", "minerais"),
        ("{{fecha|3|5|1901}} {{siglo|V|a|s}} {{siglo|XX}}", "3 de mayo de 1901 siglo V a. C. XX"),
        ("9{{esd}}°C {{ac|siglo I}}", "9 °C siglo I a. C."),
        ("{{bd|1901年|1月2日|1999年|3月4日}} {{读|x}}", "1901年1月2日－1999年3月4日"),
        ("{{дата|9|5|1945}} {{нп5|Title|слово|en}}", "9 мая 1945 слово"),
        ("{{M|5|k|m}} {{enS|iron}}", "5 km englisch iron"),
        ("{{tag|ref}}, {{tag|br|s}} and {{code|<i>}}", "<ref>…</ref>, <br /> and <i>"),
        ("<!-- <nowiki> -->a <nowiki><!-- 5 --></nowiki>, <pre>7 <!-- 8", "a <!-- 5 -->, 7 8"),
        ("{{не переведено|есть=:en:ore|надо=руда|текст=|язык=en}}", "руда"),
        ("{{M|5|k|m}} {{M|7.5|u=°C}} {{enS|iron}}", "5 km 7.5 °C englisch iron"),
        ("a {{1/2}} size in {{music|time|3|4}} of {{langx|it|violino}}", "a 1/2 size in 3/4 of violino"),
        ("__FILE__ and __NOTOC__{{tl|cite web}}", "__FILE__ and {{cite web}}"),
    ],
)
def test_templates_of_other_wikis_show(wikitext, text):
    assert plain(wikitext) == text


@pytest.mark.parametrize(
    "language, wikitext, text",
    [
        ("en", "3.2{{e|8}} and {{sp}}x", "3.2×10^8 and x"),
        ("fr", "3.2×10{{e|8}} à {{refnec|5 km}}, {{p.|12}}", "3.2×10^8 à 5 km, p. 12"),
        ("fr", "en {{av JC|52}} au {{s mini-|IX|e}}", "en 52 av. J.-C. au IXe"),
        ("de", "{{FormatNum|5000}} m und {{SortKey|05|fünf}}", "5000 m und fünf"),
        ("ru", "около {{s|20 кг}}", "около 20 кг"),
    ],
)
def test_a_template_shows_what_it_means_on_its_wiki(language, wikitext, text):
    assert plain(wikitext, site(language)) == text


def test_variants_of_a_script_show_one_and_other_wikis_show_what_is_written():
    assert plain("-{zh-cn:软件; zh-tw:軟體}-是-{H|x}-好", site("zh")) == "软件是好"
    assert plain("a -{x}- b", site("en")) == "a -{x}- b"


def test_no_attribute_of_a_cell_is_text_and_shown_code_is_none():
    table = (
        '{|\n! A !! B\n|-\n| rowspan=2 nowrap {{won}} || <code>id="x"</code>\n'
        "|-\n| bgcolor=red {{odd one|7}} || width = 5 m\n|}"
    )
    text = plain(table)
    assert 'A: Won; B: id="x"' in text and "width = 5 m" in text
    assert [w for w in ("rowspan", "nowrap", "bgcolor") if w in text] == []


def test_what_is_left_out_is_counted_and_survives_a_shard(tmp_path):
    counts = Counter()
    plain("It was {{odd one|7}} long.<gallery>a</gallery>\n\n{{Infobox x}}\n", left_out=counts)
    assert counts == {"{{odd one}}": 1, "<gallery>": 1, "{{infobox x}} (block)": 1}
    seen = Seen()
    seen.leave_out(counts)
    again = Seen.of_notes({key.encode(): value.encode() for key, value in seen.notes().items()}, tmp_path)
    again.leave_out({"{{odd one}}": 1})
    assert "left out, templates in sentences: {{odd one}} 2 times" in left_out_lines(again.left_out)


def test_the_linter_imports_nothing_of_what_it_checks():
    judged = ("cleaning", "works", "markup", "template", "mathematics", "wikitext", "wikitables", "site")
    for module in (linter_module, rough):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            name = getattr(node, "module", None) if isinstance(node, ast.ImportFrom) else None
            assert not (
                name
                and name.startswith(("kaggle_rag", "wiki_index"))
                and name.split(".")[-1].startswith(judged)
            )
            if name == "kaggle_rag.text.units":
                assert {alias.name for alias in node.names} <= {"Splitter", "Unit"}


def test_the_linter_reports_a_section_that_a_rule_deletes(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text(
        json.dumps(
            {"title": "T", "text": "Iron is a metal.\n== Sources ==\nEach mine holds 4711 tons of it."}
        )
    )
    assert lint(Corpus.open(path)).numbers.found == 0
    monkeypatch.setattr("kaggle_rag.text.cleaning.prose_lines", lambda lines, kind: [])
    assert lint(Corpus.open(path)).numbers.found == 1


@pytest.mark.parametrize(
    "case, language, wanted, unwanted",
    [
        ("02-sources-section", "en", ["83 μg", "6 μg", "80 %", "347 U.S. 483"], []),
        ("03-shown-tags", "en", ["<b>", "<sup>", "&lt;.", "<ref>Smith, page 5</ref>", "{{reflist}}"], []),
        ("04-namespace-names", "sv", ["atomnummer 26"], ["Kategori", "Fil:"]),
        (
            "05-french-templates",
            "fr",
            ["17 octobre 1973", "21 mars 1977", "XIXe siècle", "2000 m", "1er", "6000"],
            [],
        ),
        ("08-page-rule", "en", ["291,826", "2,640", "39 °C", "800 mm", "12 g"], ["37–38"]),
        ("15-table-attributes", "en", ["Season 1: Main"], ["colspan", "style"]),
    ],
)
def test_the_cases_end_right(case, language, wanted, unwanted):
    folder = ROOT / "../shared/cases" / case / "in"
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    text = "\n".join(sentences(folder, language))
    assert [w for w in wanted if w not in text] == [] and [u for u in unwanted if u in text] == []
