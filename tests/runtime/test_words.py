"""Counts in words, and that messages which can count to one use them."""

import re

from conftest import ROOT

from kaggle_rag.runtime.words import all_counted, counted

# What a run on a file of one question, or a folder of one file, has one of.
_NOUNS = "questions|rows|files|articles|passages|predictions|steps|examples|options|ids|columns|cells"
# A count in an f-string before such a noun, unless it is "at most N" or "N of M", where M is told otherwise.
_BARE = re.compile(r"\{[^{}]*:,\} " + f"(?:{_NOUNS})" + r"\b(?! and folders)")
# Counts of two or more.
_MANY = ("near-duplicates of each other", "are linked by key", "vectors for", "keys for", "embedding has",
         "one number for each")  # fmt: skip


def test_one_is_singular_with_its_verb():
    assert [counted(n, "question") for n in (0, 1, 1200)] == ["0 questions", "1 question", "1,200 questions"]
    assert counted(1, "row is", "rows are") + " left" == "1 row is left"
    assert counted(2, "row is", "rows are") == "2 rows are"
    notes = {"questions": 1, "excluded": 0, "passages ranked": 1, "examples": 2}
    assert all_counted(notes) == "1 question, 0 excluded, 1 passage ranked, 2 examples"


def test_no_message_counts_to_one_in_the_plural():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for package in ("kaggle_rag", "inference", "training", "wiki_index")
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if _BARE.search(line) and not any(words in line for words in _MANY)
    ]
    assert not found, "\n".join(found)
