"""Builds in tests: a plan, the command line, and folders compared byte by byte."""

import filecmp
import sys

from conftest import write_corpus

from kaggle_rag.runtime.errors import run_program
from kaggle_rag.text.units import Unit
from wiki_index import __main__ as program
from wiki_index.corpus import Corpus
from wiki_index.plan import Plan


def plan_of(texts, tiny, tmp_path, **more):
    corpus = Corpus.open(write_corpus(tmp_path / "corpus.jsonl", texts))
    return Plan(corpus, tmp_path / "out", {"minilm": tiny}, Unit("sentence"), **more)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def same(left, right):
    files = [name for name in names(left) if (left / name).is_file()]
    return names(left) == names(right) and filecmp.cmpfiles(left, right, files, False)[0] == files


def call(*arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wiki_index", *map(str, arguments)])
    return run_program(program.main)
