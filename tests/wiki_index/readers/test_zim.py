"""A Kiwix archive made here: its pages as text, damage, a missing package."""

from collections import Counter

import pytest
from test_readers import read

from kaggle_rag.runtime.errors import InputError
from wiki_index.corpus import Article, Corpus, Skip
from wiki_index.readers.html import plain


def html(body):
    head = "<head><title>x</title><style>p {margin: 9px}</style></head>"
    return f"<html>{head}<body><h1>x</h1>{body}</body></html>"


HTML = {
    "Iron": (
        '<table class="infobox"><tr><td>Mass 55</td></tr></table>'
        '<p><b>Iron</b> melts at 1811&#160;K.<sup class="reference">[1]</sup></p><h2>Energy<span'
        ' class="mw-editsection">[edit]</span></h2><p>It is <span class="mwe-math-element"><span '
        'style="display:none" class="mwe-math-mathml-a11y"><math alttext="{\\displaystyle E=mc^{2}}">'
        '<mi>E</mi></math></span><img class="mwe-math-fallback-image" alt="{\\displaystyle E=mc^{2}}"></span>'
        " in m<sup>2</sup>.<script>var x = 9</script></p><ul><li>H<sub>2</sub>O</li><li>two</li></ul>"
        '<table class="wikitable"><tr><th>Name</th><th colspan=2>Melts</th></tr><tr><td>Gold</td>'
        "<td>1337 K</td><td>1064 °C</td></tr></table><p>End"
    ),
    "Mercury": '<table id="disambigbox"><tr><td>may be</td></tr></table>',
    "Fe (disambiguation)": "<p>Fe may be</p>",
}
IRON = [
    "Iron melts at 1811 K.",
    "== Energy ==",
    "It is E=mc^2 in m^2.",
    "H2O",
    "two",
    "Name: Gold; Melts: 1337 K; Melts: 1064 °C",
    "End",
]


@pytest.fixture
def zim(tmp_path, capfd):
    writer = pytest.importorskip("libzim.writer")

    class Page(writer.Item):
        def __init__(self, title):
            super().__init__()
            self.title = title

        def get_path(self):
            return self.title

        get_title = get_path

        def get_mimetype(self):
            return "text/html" if self.title in HTML else "text/css"

        def get_contentprovider(self):
            return writer.StringProvider(html(HTML[self.title]) if self.title in HTML else "p {margin: 9px}")

        def get_hints(self):
            return {writer.Hint.FRONT_ARTICLE: True}

    path = tmp_path / "wiki.zim"
    with writer.Creator(path) as creator:
        creator.set_mainpath("Iron")
        for title in (*HTML, "style"):
            creator.add_item(Page(title))
        creator.add_redirection("Fe", "Fe", "Iron", {})
        creator.add_metadata("Title", "test")
    return path


def test_a_zim_file_gives_its_pages_as_text(zim):
    found = [page.article() for page in Corpus.open(zim).pages()]
    (article,) = [item for item in found if isinstance(item, Article)]
    assert article[:3] == ("Iron", "Iron", "\n".join(IRON)) and article.is_rendered
    assert Counter(i.reason for i in found if isinstance(i, Skip)) == {"redirect": 1, "disambiguation": 2}


@pytest.mark.parametrize("cut", [0.001, 0.3, 0.99])
def test_a_cut_or_changed_zim_file_is_refused(zim, cut):
    data = zim.read_bytes()
    zim.write_bytes(data[: int(len(data) * cut)])
    assert "ZIM" in read(zim)[1]
    changed = bytearray(data)
    changed[int(len(data) * cut) + 100] ^= 1
    zim.write_bytes(changed)
    assert read(zim)[0] == []


def test_without_libzim_the_message_names_the_package(zim, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "libzim.reader", None)
    with pytest.raises(InputError, match="pip install 'libzim"):
        list(Corpus.open(zim).articles())


SHOWN = [
    ("<i>a</i><sup>2</sup> + <i>b</i><sup>2</sup>", "a^2 + b^2"),
    ("<i>E</i> = <i>mc</i><sup>2</sup>, 5 <a>km</a><sup>2</sup>", "E = mc^2, 5 km^2"),
    ("10<a></a><sup>3</sup>", "10^3"),
    (
        'SO<span class="template-chem2-su"><span>2−</span><span>4</span></span> is an ion.',
        "SO4^{2−} is an ion.",
    ),
    ('5<span class="frac"><span class="num">1</span>⁄<span class="den">2</span></span> in', "5 1⁄2 in"),
    ('<span style="visibility:hidden">00</span>5 km', "5 km"),
    (
        'A <img class="mwe-math-fallback-image-inline" alt="x_{1}"> and '
        '<img class="mwe-math-fallback-image-inline" alt="x_{2}"> end.',
        "A x_1 and x_2 end.",
    ),
    (
        '<table class="infobox"><tr><td><span class="mwe-math-element"><math alttext="E=mc^{2}"></math>'
        "</span></td></tr></table><p>Iron.</p>",
        "Iron.",
    ),
]  # fmt: skip


def formula(tex, tag="span"):
    return f'<{tag} class="mwe-math-element"><math alttext="{tex}"></math></{tag}>'


ALONE = [
    (f"<p>The energy is</p><dl><dd>{formula('E=mc^{2}')}</dd></dl><p>where c is that of light.</p>",
     "The energy is E=mc^2 where c is that of light."),
    (f"<p>Hence</p>{formula('a=F/m.', 'div')}<p>Then it moves.</p>", "Hence a=F/m.\nThen it moves."),
    (f"<h2>Laws</h2>{formula('a=b', 'div')}<p>It holds.</p>", "== Laws ==\na=b\nIt holds."),
    (f"<p>Of {formula('a')} and</p><dl><dd>{formula('b')}, {formula('c')};</dd></dl>", "Of a and b, c;"),
    (f"<p>It is small ({formula('a')}).</p>", "It is small (a)."),
    (f"<p>Letters:</p><ul><li>{formula('a')}</li><li>{formula('b')}</li></ul>", "Letters:\na\nb"),
    (f"<p>A</p><table><tr><td>{formula('b')}</td></tr></table><p>and so on</p>", "A\nb\nand so on"),
    ("<p>It is</p>" + formula(r"\,", "div") + "<p>Then.</p>", "It is\nThen."),
    (f"<ul><li>One is {formula('a')}.</li><li>Two is {formula('b')}.</li></ul>", "One is a.\nTwo is b."),
]  # fmt: skip


@pytest.mark.parametrize("body, text", ALONE)
def test_a_formula_on_a_line_of_its_own_is_behind_its_sentence(body, text):
    assert plain(html(body)) == text


@pytest.mark.parametrize("body, text", SHOWN)
def test_numbers_keep_their_levels_and_what_is_dropped_stays_out(body, text):
    assert plain(html(body)) == text
