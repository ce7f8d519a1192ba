"""Wikitext to text: what a page shows stays, what it does not show goes, nothing hangs."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_rag.text.cleaning import paragraphs
from kaggle_rag.text.mathematics import tex_to_text
from wiki_index.markup.reference_text import rough_html, rough_wikitext
from wiki_index.markup.wikitext import plain


def numbers(text):
    return re.findall(r"\d+", text)


# What MediaWiki shows, from the documentation of each template.
SHOWN = [
    ("{{convert|5|km|mi}}", "5 km"),
    ("{{convert|5|to|7|km|mi|1}}", "5 to 7 km"),
    ("{{convert|2|x|4|ft}}", "2 × 4 ft"),
    ("{{convert|5|ft|10|in|cm|abbr=on}}", "5 ft 10 in"),
    ("{{cvt|1,200.5|km2|0}}", "1,200.5 km^2"),
    ("{{convert|-40|C|F}}", "-40 °C"),
    ("{{convert|5+1/2|in|mm}}", "5 1/2 in"),
    ("{{val|1.2|0.3|e=-5|u=kg}}", "(1.2±0.3)×10^-5 kg"),
    ("{{val|6.67430|(15)|e=-11|u=m3.kg-1}}", "6.67430(15)×10^-11 m^3.kg-1"),
    ("{{val|299792458|ul=m|upl=s}}", "299792458 m/s"),
    ("{{frac|1|2}}", "1/2"),
    ("{{frac|1|2|3}}", "1 2/3"),
    ("{{frac|3}}", "1/3"),
    ("{{sfrac|''n'' + 1|2}}", "(n + 1)/2"),
    ("6{{e|24}} kg", "6×10^24 kg"),
    ("{{chem|H|2|SO|4}}", "H2SO4"),
    ("{{chem|NH|4|+}}", "NH4^+"),
    ("{{chem2|2 H2O}}", "2 H2O"),
    ("{{math|''E'' {{=}} ''mc''{{sup|2}}}}", "E = mc^2"),
    ("{{nowrap|1=a = 5}}", "a = 5"),
    ("{{lang|de|Eisen}} {{lang-fr|fer}}", "Eisen fer"),
    ("{{abbr|AU|astronomical unit}}", "AU"),
    ("{{angbr|a}}", "⟨a⟩"),
    ("1990{{ndash}}95", "1990–95"),
    ("iron ({{IPAc-en|ˈ|aɪ|ər|n}})", "iron"),
    ("iron ({{IPA|ɪ}}; Fe)", "iron (Fe)"),
    ("{{as of|2014|5}} it", "As of May 2014 it"),
    ("{{US$|5 million}}", "$5 million"),
    ("{{SimpleNuclide|Uranium|235}}", "Uranium-235"),
    ("{{ frac_|1|2}}", "1/2"),
    ("{{Infobox element|number=26}}Iron", "Iron"),
    ("iron{{sfn|Smith|1999|p=5}}{{citation needed|date=May 2015}}", "iron"),
    ("[[Iron (metal)|irons]], [[gold]]s and [[Silver (metal)|]]", "irons, golds and Silver"),
    ("a[[File:x.jpg|thumb|A [[red]] 5 {{convert|1|m}} thing]]b [[Category:X]][[de:Eisen]]", "ab"),
    ("[http://x.org/5 the 6 things] and [//y.org]", "the 6 things and"),
    ("fact<ref name=\"a>b\">Smith {{cite|5}}</ref> and <ref name=x /> more", "fact and more"),
    ("a<!-- 5 --> b", "a b"),
    ("'''Iron''' is ''l''''or''", "Iron is l'or"),
    ("10<sup>−3</sup> m<sup>2</sup>, H<sub>2</sub>O, T<sub>max</sub>", "10^−3 m^2, H2O, T_max"),
    ("the 19<sup>th</sup>; <sup>235</sup>U", "the 19th; 235U"),
    ("<math>\\frac{1}{2}mv^2</math>", "1/2mv^2"),
    ("<math>a<b|c}}]]</math>", "a<b|c]]"),
    ("<chem>2H2 + O2 -> 2H2O</chem>", "2H2 + O2 → 2H2O"),
    ("<nowiki>{{frac|1|2}}</nowiki>", "{{frac|1|2}}"),
    ("5&nbsp;km &lt; 6", "5 km < 6"),
    ("* one\n** two 2\n# three\n; term : it", "one\ntwo 2\nthree\nterm : it"),
    ("== ''A'' [[b]] ==\ntext", "== A b ==\ntext"),
    ("Forces:\n* <math>F</math>\n* <math>G</math>", "Forces:\nF\nG"),
    ("The force is\n\n<math display=\"block\">F=ma.</math>\n\nIt acts.", "The force is F=ma.\nIt acts."),
    ("The force is\n: <math>F=ma</math>,\nwhere ''a'' is 5.", "The force is F=ma, where a is 5."),
    ("__NOTOC__text<br/>more", "text more"),
]  # fmt: skip


SCRIPTS = [
    ("101<sub>2</sub> is 5<sub>10</sub>", "101_2 is 5_10"),
    ("log<sub>10</sub>1000, H<sub>2</sub>O, (OH)<sub>2</sub>", "log_{10}1000, H2O, (OH)2"),
    ("<sup>14</sup><sub>6</sub>C and <sup>235</sup>U", "14_6C and 235U"),
    ("2<sup>3</sup>3", "2^{3}3"),
    ("e<sup>−x<sup>2</sup></sup>", "e^{−x^2}"),
    ("10<sup><small>−19</small></sup> J, 10<sup><span class='nowrap'>6</span></sup>", "10^−19 J, 10^6"),
    ("5<sup>1</sup>⁄<sub>2</sub> inches", "5 1/2 inches"),
    ("{{val|12|to|15|u=kg}}, {{val|5|-|7|u=m}}, {{val|3|x|4}}", "12 to 15 kg, 5–7 m, 3 × 4"),
    ("{{val|1.2|0.3|e=5|u=kg}}", "(1.2±0.3)×10^5 kg"),
    ("{{reign|1558|1603}}, {{circa|1500|1510}}, {{fl.|1432}}", "r. 1558–1603, c. 1500–1510, fl. 1432"),
    ("{{radic|2|3}}, {{radic|2}}", "3√(2), √(2)"),
    ('<span style="display:none">005</span>5 km, <span style="visibility: hidden">0</span>7', "5 km, 7"),
    ("It is<includeonly> [[not]]</includeonly> iron.", "It is iron."),
    ("The set {{1}, {2}} has members.", "The set {{1}, {2}} has members."),
]


@pytest.mark.parametrize("wikitext, text", SCRIPTS)
def test_scripts_ranges_and_hidden_digits_keep_their_numbers(wikitext, text):
    assert plain(wikitext) == text


@pytest.mark.parametrize("wikitext, text", SHOWN)
def test_wikitext_becomes_what_the_page_shows(wikitext, text):
    assert plain(wikitext) == text


TABLE = """{| class="wikitable" style="width: 50%"
|+ Metals of 2 kinds
|-
! rowspan=2 | Name !! colspan="2" | Melting point !! rowspan=2 | Symb.
|-
! K !! °C
|-
| rowspan="2" | [[Iron]]
| align=right | 1811 || 1538 || Fe
|-
| 1812 || 1539 || Fe
|-
! Gold
| 1337 || {{val|1064.18|u=C}} || Au
|}"""


def test_a_table_is_a_line_a_row_with_the_names_of_the_columns():
    assert plain(f"Before.\n{TABLE}\nAfter.").split("\n") == [
        "Before.",
        "Metals of 2 kinds",
        "Name: Iron; Melting point K: 1811; Melting point °C: 1538; Symb: Fe",
        "Name: Iron; Melting point K: 1812; Melting point °C: 1539; Symb: Fe",
        "Name: Gold; Melting point K: 1337; Melting point °C: 1064.18 C; Symb: Au",
        "After.",
    ]


def test_a_table_inside_a_table_keeps_its_rows():
    inner = "{|\n! a !! b\n|-\n| 1 || 2\n|-\n| 3 || 4\n|}"
    assert plain(f"{{|\n| left 5\n{inner}\n| right 6\n|}}").split("\n") == [
        "left 5; right 6",
        "a: 1; b: 2",
        "a: 3; b: 4",
    ]


@pytest.mark.parametrize("kind", ["infobox", "navbox", "infobox geography vcard"])
def test_boxes_written_as_tables_go(kind):
    assert plain(f'{{| class="{kind}"\n| Mass || 5 kg\n|}}\nIron.') == "Iron."


def test_heads_without_rows_beneath_are_content():
    assert plain("{|\n! Only !! 5\n|}") == "Only; 5"
    assert plain("{|\n! A !! 800 BC\n|-\n| [[File:a.svg]] || [[File:b.svg]]\n|}") == "A; 800 BC"


OPENINGS = [
    "{{", "{{convert|", "{{Infobox\n| a = ", "[[", "[[File:x.jpg|", "<ref>", "<ref name=x ", "<!--", "{|\n",
    "{|\n| ", "{| class=infobox\n|", "<math>", "<nowiki>", "<gallery>", "<b>", "''", "[http://x.org ",
    "{{a|[[b|<ref>", "<references>", "<math", "{{{", "<pre>",
]  # fmt: skip


@pytest.mark.parametrize("opening", OPENINGS)
def test_markup_that_never_closes_swallows_no_later_sentence(opening):
    text = plain(
        f"Iron. {opening}x\n\n== Next ==\nGold [[melts]] at {{{{convert|1337|K}}}}<ref>Smith 5</ref>.\n"
    )
    assert text.split("\n")[-1] == "Gold melts at 1337 K." and text.startswith("Iron.")


@pytest.mark.parametrize("ending", ["}}", "]]", "</ref>", "-->", "|}", "</math>", "]", "}}}}]]|}"])
def test_an_end_without_a_beginning_swallows_nothing(ending):
    assert "7" in plain(f"Iron 7 {ending} melts.") and "melts" in plain(f"Iron 7 {ending} melts.")


PIECES = [
    *OPENINGS, "}}", "]]", "</ref>", "-->", "|}", "|-", "</math>", "|", "=", "\n", "\n\n", "==", "!", "!!",
    "||", "*", ":", "7", "word ", "<sup>", "</sup>", "&nbsp;", "\\frac", "rowspan=9|", "#REDIRECT", "\x00",
    "\x03", "\x0e1\x02", "é",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@settings(max_examples=200)
def test_broken_wikitext_never_raises_and_leaves_no_stand_in(wikitext):
    text = plain(wikitext)
    assert not re.search(r"[\x00-\x08\x0e-\x1f]", text) and all(
        line.strip() for line in text.split("\n") if text
    )
    paragraphs(text)


WRAPPED = st.builds(
    lambda wrap, number: wrap % number,
    st.sampled_from([
        "%s", "'''%s'''", "[[%s]]", "[[Page|%s]]", "{{nowrap|%s}}", "{{convert|%s|km|mi}}", "<b>%s</b>",
        "(%s)", "<math>%s</math>", "{{lang|en|{{small|%s}}}}", "\n* %s\n", "\n{|\n| %s\n|}\n",
        "m<sup>%s</sup>", "{{val|%s}}", "<span style='a:b'>%s</span>", "[http://x.org %s]",
        "<nowiki>%s</nowiki>",
    ]),
    st.integers(1, 9999),
)  # fmt: skip
DROPPED = st.sampled_from(
    ["<ref>11</ref>", "<!-- 22 -->", "{{cite web|33}}", "[[File:a|44]]", "word", "\n\n"]
)


@given(st.lists(st.one_of(WRAPPED, DROPPED), max_size=12).map(" ".join))
@settings(max_examples=150)
def test_numbers_inside_any_markup_stay_in_order(wikitext):
    shown = re.sub(r"<ref>11</ref>|<!-- 22 -->|\{\{cite web\|33\}\}|\[\[File:a\|44\]\]", "", wikitext)
    assert numbers(plain(wikitext)) == numbers(shown)


@pytest.mark.parametrize(
    "unit", ["{{a|", "[[a|", "<ref>", "<!--", "{|\n|a\n", "[mailto:a", "<math>\\frac{", "{{a\n==b==\n"]
)
def test_what_never_closes_takes_no_longer_than_its_length(unit):
    """mwparserfromhell needs 8 s for 20 kB of the first; squares of it would be hours."""

    def seconds(size):
        text = (unit * size)[:size]
        start = time.process_time()
        paragraphs(plain(text))
        paragraphs(text)
        rough_wikitext(text)
        rough_html(text)
        return time.process_time() - start

    # Of the processor, which other work does not lengthen much; a square would be 64 times as long.
    assert seconds(160_000) < 32 * max(seconds(20_000), 0.05)


@pytest.mark.parametrize("depth, shows", [(50, True), (100_000, False)])
def test_nested_templates_show_or_at_least_end(depth, shows):
    text = plain("{{nowrap|" * depth + "7" + "}}" * depth + " and more")
    assert text.endswith("and more") and (not shows or text == "7 and more")


def test_a_table_cannot_repeat_a_long_cell_into_gigabytes():
    rows = "|rowspan=99|" + "y" * 5000 + "\n" + "|-\n|x\n" * 1000
    assert len(plain("{|\n!" + "h" * 5000 + "\n|-\n" + rows + "|}")) < 100_000


@pytest.mark.parametrize(
    "tex, text",
    [
        (r"\gcd(a,q)=1", "gcd(a,q)=1"),
        (r"a \bmod 5", "a mod 5"),
        (r"a\equiv b\pmod{7}", "a≡b(mod 7)"),
        (r"[\mbox{H}^+]", "[H^+]"),
        (r"x=50{\tfrac {1}{2}}", "x=50 1/2"),
        (r"{a \over b}", "a/b"),
        (r"A \xrightarrow{5 K} B", "A →(5 K) B"),
        (r"\dim W=\det A", "dim W=det A"),
    ],
)
def test_tex_keeps_what_the_linter_found_lost(tex, text):
    assert tex_to_text(tex) == text
