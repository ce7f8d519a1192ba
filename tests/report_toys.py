"""Runs to report, and a reader of pages that knows nothing of how they are written."""

import json
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from question_tables import ranker

from inference import __main__ as program
from inference.predictions import PredictionStore
from inference.report.build import report
from kaggle_rag.config import RankerSettings
from kaggle_rag.data.contexts import Context, Evidence, QuestionContexts, Snippet, write_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.files import sha256

_EMPTY = {"meta", "input", "link", "img", "br", "hr", "base", "path", "circle", "rect"}


class Element:
    """An element with its attributes, and its children: elements and texts."""

    def __init__(self, name, attributes):
        self.name, self.attributes, self.children = name, attributes, []

    @property
    def text(self):
        return "".join(each if isinstance(each, str) else each.text for each in self.children)

    def all(self, name=None, **attributes):
        """Every element below, in order, with this name and these attributes (``class_`` is class)."""
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        found = []
        for each in self.children:
            if isinstance(each, Element):
                fits = all(each.attributes.get(key) == value for key, value in wanted.items())
                found += [each] if name in (None, each.name) and fits else []
                found += each.all(name, **attributes)
        return found

    def one(self, name=None, **attributes):
        (found,) = self.all(name, **attributes)
        return found


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag, attributes):
        element = Element(tag, dict(attributes))
        self.open[-1].children.append(element)
        if tag not in _EMPTY:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.open[-1].children.append(Element(tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parsed(page):
    """A page as a tree; every element that has to be closed is."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    (root,) = reader.open
    return root


def cli(*words):
    """The exit code of ``python -m inference`` with these words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["inference", *map(str, words)])
        return run_program(program.main)


def synthetic(folder, count, sentences=20, rankers=3, words=14, seed=0):
    """A finished run of invented questions; gives the arguments of `report`, without ``out``."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array(["".join(rng.choice(list("abcdefghijklmnop"), 7)) for _ in range(3000)])

    def text(length):
        return " ".join(rng.choice(vocabulary, length)).capitalize()

    rows = [
        {"id": n, "prompt": f"{text(25)}?", "answer": "ABCDE"[n % 5], **{x: text(6) for x in "ABCDE"}}
        for n in range(count)
    ]
    questions = Questions.from_rows(rows, "made")
    files = folder / "questions.jsonl", folder / "contexts.parquet"
    files[0].write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for n in range(count):
        texts = [f"{text(words)}." for _ in range(sentences)]
        evidence = tuple(Evidence(f"a{n}", "T", at, t, 0.5, "all", 0.9, "toy") for at, t in enumerate(texts))
        snippets = tuple(Snippet(f"Title {at}", t, 0.9, (at,)) for at, t in enumerate(texts))
        found.append(QuestionContexts(Context(snippets, evidence), ()))
    write_contexts(files[1], questions, found, {})
    store = PredictionStore(folder / "made.predictions", questions, {"contexts": sha256(files[1])})
    with store.work.claimed():
        for number in range(rankers):
            store.save(f"ranker-{number}", ranker(questions.answers, 1.5, number), {}, RankerSettings())
    return store.work.folder, *files


def page_of_run(out, *inputs, **options):
    """The data of a report, and its page as a tree."""
    data = report(*inputs, out, **options)
    return data, parsed(out.read_text(encoding="utf-8"))
