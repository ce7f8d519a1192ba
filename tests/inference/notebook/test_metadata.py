"""The metadata files and the notebook obey Kaggle's rules and the notebook format's."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.notebook.metadata import Names, dataset_metadata, kernel_metadata
from inference.notebook.notebook import notebook
from kaggle_rag.runtime.errors import KitError
from kaggle_rag.runtime.faults import Gathered


def refused(names):
    """The flags that are refused."""
    gathered = Gathered()
    names.check(gathered)
    return [fault.where for fault in gathered.faults]


@pytest.mark.parametrize(
    "names, flags",
    [
        (Names("me", "science-exam"), []),
        (Names("me", "abc", "A title"), []),
        (Names("me", "abc"), ["--title"]),
        (Names("me", "ab", "A title"), ["--slug"]),
        (Names("me", "a" * 50, "A title"), []),
        (Names("me", "a" * 51, "A title"), ["--slug"]),
        (Names("me", "Science-Exam"), ["--slug"]),
        (Names("me", "science_exam"), ["--slug"]),
        (Names("me", "science--exam"), ["--slug"]),
        (Names("me", "science-exam-"), ["--slug"]),
        (Names("me", "science-exam", "short"), ["--title"]),
        (Names("me", "science-exam", "x" * 50), []),
        (Names("me", "science-exam", "x" * 51), ["--title"]),
        (Names("", "science-exam"), ["--owner"]),
        (Names("me/you", "science-exam"), ["--owner"]),
        (Names("me", "science-exam", "", "https://www.kaggle.com/c/exam"), ["--competition"]),
        (Names("me!", "x", "y"), ["--owner", "--slug", "--title"]),
    ],
)
def test_names_outside_the_limits_are_refused(names, flags):
    assert refused(names) == flags


def test_a_refusal_says_what_is_expected():
    gathered = Gathered()
    Names("me", "x", "A title").check(gathered)
    with pytest.raises(KitError, match="expected: 3 to 50 lower-case letters, digits and single dashes"):
        gathered.tell()


WORDS = st.text("abcxyz0189", min_size=1, max_size=12)
SLUGS = st.lists(WORDS, min_size=1, max_size=8).map("-".join)


@given(slug=SLUGS.filter(lambda slug: 3 <= len(slug) <= 50), gpu=st.booleans())
def test_metadata_of_any_slug_is_within_the_limits(slug, gpu):
    names = Names("me", slug, "A title of the data", "exam")
    assert refused(names) == []
    dataset, kernel = dataset_metadata(names), kernel_metadata(names, [names.id], gpu=gpu)
    assert dataset["id"] == f"me/{slug}" and dataset["title"] == "A title of the data"
    assert len(dataset["licenses"]) == 1 and 20 <= len(dataset["subtitle"]) <= 80
    assert len(kernel["title"]) >= 5
    # Kaggle makes the notebook's address of its title; another one than in the id makes another notebook.
    assert "me/" + re.sub("[^a-z0-9]+", "-", kernel["title"].lower()) == kernel["id"]
    fixed = {
        "language": "python", "kernel_type": "notebook", "is_private": True, "enable_internet": False,
        "dataset_sources": [f"me/{slug}"], "competition_sources": ["exam"], "kernel_sources": [],
        "model_sources": [], "docker_image_pinning_type": "original", "enable_gpu": gpu,
    }  # fmt: skip
    assert {key: kernel[key] for key in fixed} == fixed
    assert kernel.get("machine_shape") == ("NvidiaTeslaT4" if gpu else None)
    assert kernel["code_file"] == kernel["id"].removeprefix("me/") + ".ipynb"


def test_a_notebook_without_a_competition_names_none():
    names = Names("me", "science-exam")
    assert kernel_metadata(names, [names.id], gpu=True)["competition_sources"] == []


def test_the_notebook_has_the_structure_of_its_format():
    """Required keys of nbformat 4.5: https://nbformat.readthedocs.io/en/latest/format_description.html."""
    made = notebook(Names("me", "science-exam", "", "exam"), ["--time", "8.5h"])
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5) and made.keys() == {
        "cells", "metadata", "nbformat", "nbformat_minor",
    }  # fmt: skip
    ids = [cell["id"] for cell in made["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", each) for each in ids)
    assert made["metadata"]["kernelspec"].keys() == {"display_name", "language", "name"}
    for cell in made["cells"]:
        more = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | more
        if cell["cell_type"] == "code":
            compile(cell["source"], cell["id"], "exec")
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert [cell["cell_type"] for cell in made["cells"]] == ["markdown"] + ["code"] * 4
    assert "'--time', '8.5h'" in made["cells"][3]["source"]


def test_the_notebook_is_valid_for_the_library_of_its_format():
    nbformat = pytest.importorskip("nbformat")
    made = notebook(Names("me", "science-exam"), [])
    assert nbformat.validator.isvalid(made)
    assert not nbformat.validator.isvalid({**made, "cells": [{"cell_type": "code"}]})
