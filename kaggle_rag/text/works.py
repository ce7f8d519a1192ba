"""Sections that list works and links, recognised by their content and not by their heading alone.

A heading such as "Sources" may introduce books, or the foods that contain a vitamin. So a line
below it is dropped if it reads as a work or a link, and kept if it reads as a sentence.
"""

from __future__ import annotations

import re

# Sections of links: whatever is not a sentence in them is a link.
_LINKS = {"external links", "see also", "further reading"}
_WORKS = {
    "references", "bibliography", "notes and references", "citations", "sources", "footnotes",
}  # fmt: skip
# One of these marks a work; of the weaker ones it takes two.
_STRONG = re.compile(
    r"\b(?:ISBN|ISSN|OCLC|PMID|PMC|JSTOR|LCCN|Bibcode|S2CID|arXiv)\b|\bdoi:|https?://|\bwww\.|\bet al\b"
    r"|\b(?:Retrieved|Accessed|Archived)\b.{0,40}\d{4}|\bpp\.\s?\d|\(eds?\.|\beds?\.\)|\bno\.\s?\d+,? pp?\b"
    r"|\bincorporates text|\bLicensed under\b|\bText taken from\b|\bOfficial (?:web)?site\b"
    r"|\bat Project Gutenberg\b"
    # "Odyssey XI, 467–540", and what catalogues of links write: "Kerpic.org - A website on ...".
    r"|(?-i:\b[IVXLC]+, (?:[ivxlc]+, )?\d+(?:[–-]\d+)?\b"
    r"|^\W?[A-Z][^.!?;:]{2,80}(?: [-–—]|–) ?(?:[A-Z]\w|an? |the ))"
    r"|\b\d+\s?\(\d+\):\s?\w?\d+|\bVol\.\s?\d|\b(?:18|19|20)\d\d;\s?\d+|^\^|↑"
    r"|^[\w.' -]{2,60}(?:, | )\(?(?:1[5-9]|20)\d\d[a-z]?\)?[.,;]?(?: pp?\. ?[\d–-]+\.?)?$",
    re.IGNORECASE,
)
_WEAK = re.compile(
    r"\((?:[^()]{0,30}\b)?(?:1[5-9]|20)\d\d[a-z]?\)|^[\w'’-]+, (?:[A-Z]\.|[A-Z][a-z]+\b)"
    r"|\b(?:[A-Z]\. ?){1,3}[A-Z][a-z]+"
    r"|\b(?:Press|Publish\w+|Verlag|Books|Editions?|Journal|Proceedings|Review|Magazine|University|"
    r"Encyclop\w+|Reprint(?:ed)?|Translated|Transl?\.|ed\.|edition|Times|Nature|Science|Oxford|Cambridge|"
    r"London|New York)\b"
    r"|[\"“][^\"”]{8,}[\"”]|\bp\.\s?\d|[,.:;] (?:1[5-9]|20)\d\d\.?$|\b[A-Z][a-z]+: [A-Z]"
)
# In a section of links a sentence has one of these.
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|has|have|had|can|could|may|might|must|will|would|should|do|does|did|"
    r"became|becomes?|contains?|consists?|includes?|means|refers?|uses?|makes?|made|shows?)\b"
)
_END = re.compile(r"[.!?:][\"”’')\]]*$")
_WORDS = re.compile(r"[^\W\d_]{2,}")
# Words that are common in sentences and rare in titles.
_SMALL = {
    "the", "a", "an", "of", "in", "to", "is", "are", "was", "were", "be", "been", "it", "its", "this",
    "that", "these", "those", "as", "by", "with", "from", "at", "has", "have", "had", "which", "or", "not",
    "can", "may", "also", "such", "when", "where", "than", "more", "most", "there", "into", "during",
    "between", "they", "he", "she", "his", "her", "their", "one", "two", "on", "for", "causes", "holds",
    "contains",
}  # fmt: skip
# "Beef liver: 83 μg": content of a line that does not name a work.
_QUANTITY = re.compile(
    r"\d ?(?:[%‰°]|(?:[kcmnMGμµ]?(?:g|m|l|L|J|W|Hz|Pa|mol|eV)|km|cal|kcal|IU|ppm|ppb|ha|tons?|tonnes?|"
    r"hours?|days?|percent|million|billion)\b)"
)
_FIGURE = re.compile(r"\d")
_YEAR = re.compile(r"\b(?:1[0-9]|20)\d\d(?:s|–\d+|-\d+)?\b")


def kind_of_section(heading: str) -> str:
    """``links`` or ``works`` for a heading that usually introduces them; else an empty string."""
    name = heading.strip(" \t=").lower()
    return "links" if name in _LINKS else "works" if name in _WORKS else ""


def prose_lines(lines: list[str], kind: str) -> list[str]:
    """The lines of such a section, cleaned, that are neither works nor links.

    A list is dropped whole, with the sentences that introduce it or follow its items: a section of
    links unless most of its lines are sentences, one of works if works outnumber sentences.
    A quantity stays in either, since works and links contain none.
    """
    classes = [_class_of(line) for line in lines]
    if kind == "links":
        classes = [
            line_class if line_class == "quantity" or _VERB.search(line) else "other"
            for line, line_class in zip(lines, classes)
        ]
    works, sentences = classes.count("work"), classes.count("sentence") + classes.count("quantity")
    figures = any(map(_has_figure, lines))
    is_list = works > sentences or (sentences == 0 and not (figures and kind == "works" and not works))
    if is_list or (kind == "links" and sentences * 2 <= len(lines)):
        prose = {"quantity"}
    else:
        prose = {"quantity", "sentence", "other"} if kind == "works" else {"quantity", "sentence"}
    return [line for line, line_class in zip(lines, classes) if line_class in prose]


def _class_of(line: str) -> str:
    if _STRONG.search(line) or len(_WEAK.findall(line)) >= 2:
        return "work"
    if _QUANTITY.search(line) and not _WEAK.search(line):
        return "quantity"
    words = _WORDS.findall(line)
    small = sum(word.lower() in _SMALL for word in words)
    # A line with one weak mark is a sentence if it has the words of one.
    required = 3 if _WEAK.search(line) else 2 if _FIGURE.search(line) else 1
    if len(words) >= 4 and _END.search(line) and small >= required - (len(words) < 8):
        return "sentence"
    return "other"


def _has_figure(line: str) -> bool:
    return bool(_FIGURE.search(_YEAR.sub("", line)))
