"""What a corpus loses on its way to passages, and what in it should not be there.

Numbers and formulae of the source, read roughly (``Reader.source``), are compared with the resulting
sentences. The source is read by separate rules, here and in ``reference_text``: they use none of the
tables of the readers and the cleaning, so that whatever those delete is noticed. Only a hash (about
70 bytes), counts and a few examples are stored per article.
"""

from __future__ import annotations

import dataclasses
import hashlib
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

import sentencex

from kaggle_rag.runtime.console import progress
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted
from kaggle_rag.text.units import Splitter, Unit
from wiki_index.check.language import is_foreign
from wiki_index.corpus import Corpus, Page, Skip
from wiki_index.markup.reference_text import CLOSE, OPEN
from wiki_index.progress import left_out_lines

# A shorter sentence says little; a longer one is truncated by an encoder of 256 tokens.
SHORT, LONG = 20, 1000
_EXAMPLES, _WIDTH = 5, 160
_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"\w+")
_LETTERS = re.compile(r"[^\W\d_]{2}")
# Reference marks, which are removed on purpose: "fact.[12]", "fact.: 37–38".
_LABEL = r"(?:(?:pp?|[Pp]ages?|sec|[Cc]h|[Cc]hapter|§+)\.? ?)?"
_PAGES = rf"{_LABEL}(?:\d{{1,4}}(?:\.\d\d?)?|[ivxl]+)(?:[–-]\d{{1,4}})?"
_MARK = re.compile(
    r"(?:(?<=[a-z]{3})|(?<=[.,;:!?)\"'”\]]))\[(?:\d{1,3}|[a-z]|note \d+)\](?!\w)"
    # Not after a short word, which may be an abbreviation before a figure.
    r"|(?:(?<=\w{4}[.!?])|(?<=[\"”)\]])|(?<=[\"”)\]][.!?])|^)"
    rf"(?:\s?:\s?{_PAGES}(?:, ?{_PAGES})*)+(?=\s+[\"“(]?[A-Z]|\s*\[|\s*$)"
)
_FORMULA = re.compile(rf"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}|(\{{\\displaystyle[^\n]*)")
_BREAK = re.compile(r"\\\\(?:\[[\d.]*\s?[a-z]{2}\])?")
# TeX that shows nothing: environments, sizes, names; and commands, except those that are words.
_UNSEEN = re.compile(
    r"\\(?:begin|end|hspace|vspace|color|label|tag|rule|mspace)\s*\*?\s*\{[^{}]*\}(?:\{[clr| ]*\})?"
    r"|\\(?!(?:sin|cos|tan|cot|csc|sec|log|ln|exp|lim|max|min|sup|inf|det|dim|ker|deg|gcd|arg)\b)[A-Za-z]+"
)
_HEADING = re.compile(r"\s*(={1,6})\s*([^=\s].*?)\s*\1\s*")
# Sections that usually list works and links. Only sentences with a verb and no sign of a cited work
# count there; whether the section was removed does not matter.
_LISTING = re.compile(r"referen|source|citation|bibliograph|footnote|see also|reading|link", re.IGNORECASE)
_SENTENCE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|can|may|must|will|holds?|contains?|causes?|names?|became|"
    r"consists?|shows?)\b[^.!?]*[.!?][\"”)]?\s*$"
)
_WORK = re.compile(
    r"[\"“”«]|\b(?:ISBN|doi|Press|University|ed\.|eds|Vol|pp?\.|Retrieved|Journal|Archive\w*|Trans\w*|"
    r"licen[cs]e\w*|text|website|web site|book|edition|article|page|published)\b"
    r"|\(\d{4}\)|, \d{4}|^[*#:; ]*[A-Z][\w'’-]+, [A-Z]|//"
)
_NOT_ALNUM = re.compile(r"[^0-9A-Za-z]+")
# "a mass of , where": what belongs there was lost before the corpus was made.
_HOLE = re.compile(r"\(\s*[,;]?\s*\)|\(\s*[,;]|\s[,.;](?=\s|$)|[,;]\s*\)")


@dataclasses.dataclass
class Check:
    """One check: how many of how many it applies to, and the first few examples."""

    name: str
    found: int = 0
    of: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)

    def count(self, hit: bool, example: str) -> None:
        self.of += 1
        if hit:
            self.found += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(example if len(example) <= _WIDTH else example[: _WIDTH - 1] + "…")

    @property
    def share(self) -> float:
        return self.found / self.of if self.of else 0.0


class Linter:
    """Takes pages one by one; ``checks`` and ``skipped`` hold the findings so far."""

    def __init__(self, language: str = "en") -> None:
        self.language = language
        self.articles = 0
        self.skipped: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.numbers = Check("sentences of the source that lost a number")
        self.formulae = Check("formulae of the source that were lost")
        self.holes = Check("sentences with a hole")
        self.short = Check(f"sentences under {SHORT} characters")
        self.long = Check(f"sentences over {LONG:,} characters")
        self.empty = Check("articles without a sentence")
        self.duplicates = Check("articles that repeat another")
        self.foreign = Check("articles in another language")
        self._hashes: set[int] = set()
        self._split = Splitter(Unit("sentence"), language)

    @property
    def checks(self) -> list[Check]:
        return [value for value in vars(self).values() if isinstance(value, Check)]

    def read(self, page: Page) -> None:
        article = page.article()
        if isinstance(article, Skip):
            self.skipped[article.reason] += 1
            return
        self.articles += 1
        name = f"{article.title} ({article.id})"
        left_out = Counter(article.left_out)
        passages = self._split(article.text, article.is_rendered, left_out)
        self.left_out.update(left_out)
        self.empty.count(not passages, name)
        if not passages:
            return
        self._of_article(name, passages)
        for passage in passages:
            self.holes.count(bool(_HOLE.search(passage)), f"{name}: {passage}")
            self.short.count(len(passage) < SHORT, f"{name}: {passage}")
            self.long.count(len(passage) > LONG, f"{name}: {passage}")
        self._against_source(name, passages, page.reader.source(page.record))

    def _of_article(self, name: str, passages: list[str]) -> None:
        words = " ".join(_WORD.findall(" ".join(passages).lower()))
        digest = int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big")
        self.duplicates.count(digest in self._hashes, name)
        self._hashes.add(digest)
        self.foreign.count(is_foreign(passages, self.language), name)

    def _against_source(self, name: str, passages: list[str], source: str) -> None:
        remaining = Counter(number for passage in passages for number in _NUMBER.findall(passage))
        squeezed = ""
        for line in _prose_lines(source):
            for sentence in sentencex.segment(self.language, line):
                # "1." and the like number an item.
                if _LETTERS.search(sentence) and (numbers := _NUMBER.findall(sentence)):
                    remaining.subtract(numbers)
                    lost = [number for number in numbers if remaining[number] < 0]
                    self.numbers.count(bool(lost), f"{name}: {', '.join(lost)} of: {sentence}")
            for formula in _FORMULA.finditer(line):
                tex = formula[1] or formula[2] or ""
                squeezed = squeezed or _squeezed(" ".join(passages))
                if signature := _squeezed(_UNSEEN.sub(" ", _BREAK.sub(" ", tex.replace("\\bmod", "mod")))):
                    self.formulae.count(signature not in squeezed, f"{name}: {tex}")


def _squeezed(text: str) -> str:
    """Letters and digits only, ``ℝ`` as ``R``: the part of a formula that no notation changes."""
    return _NOT_ALNUM.sub("", unicodedata.normalize("NFKD", text))


def _prose_lines(source: str) -> Iterator[str]:
    """Lines of the source; in a list of works or links, only those that are full sentences."""
    listing = 0
    for line in html.unescape(source).split("\n"):
        if heading := _HEADING.fullmatch(line):
            if not listing or len(heading[1]) <= listing:
                listing = len(heading[1]) if _LISTING.search(heading[2]) else 0
        # An export holds a formula once as symbols, one per line, and once as TeX.
        elif (not line.startswith("    ") or "\\displaystyle" in line) and not (listing and _is_listed(line)):
            yield _MARK.sub("", line)


def _is_listed(line: str) -> bool:
    return bool(_WORK.search(line)) or not _SENTENCE.search(line)


def lint(corpus: Corpus, language: str = "en", every: int = 1) -> Linter:
    """Check every ``every``-th page of a corpus.

    Raises
    ------
    InputError : the corpus cannot be read, or holds no article.
    """
    linter = Linter(language)
    with progress(corpus.size, "check", "B", unit_scale=True, mininterval=1) as bar:
        for page in corpus.pages(bar.update):
            if page.number % every == 0:
                linter.read(page)
    if not linter.articles:
        raise InputError("no article among the pages read", where=corpus.path)
    return linter


def as_table(linter: Linter) -> str:
    """The findings, one check per line, each followed by an example if it has one."""
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(linter.skipped.items()))
    lines = [f"{counted(linter.articles, 'article')}" + (f"; left out: {skipped}" if skipped else ""), ""]
    width = max(len(check.name) for check in linter.checks)
    lines.append(f"{'':{width}}  {'found':>11}  {'of':>11}    share")
    for check in linter.checks:
        lines.append(f"{check.name:{width}}  {check.found:11,}  {check.of:11,}  {check.share:7.2%}")
        lines += [f"    {example}" for example in check.examples[:1]]
    return "\n".join([*lines, *filter(None, ["", left_out_lines(linter.left_out)])])


def as_json(linter: Linter, corpus: Corpus, every: int) -> dict[str, Any]:
    """All findings, for ``--json``."""
    return {
        "corpus": str(corpus.path),
        "files": len(corpus.files),
        "every": every,
        "language": linter.language,
        "articles": linter.articles,
        "skipped": dict(sorted(linter.skipped.items())),
        "left_out": dict(linter.left_out.most_common()),
        "checks": [{**dataclasses.asdict(check), "share": round(check.share, 6)} for check in linter.checks],
    }
