"""Small bundles for rehearsals: a folder with a notebook and its metadata, and questions to answer."""

import csv
import json
import sys
import zipfile

from inference import __main__ as program
from kaggle_rag.runtime.errors import run_program

ID, COMPETITION = "me/science-exam", "exam-of-science"
LETTERS = "ABCDE"

# Finds its inputs in any layout, and answers "A B C".
SOUND = (
    """\
import csv
import os
from pathlib import Path
INPUT = Path(os.environ.get("KAGGLE_INPUT", "/kaggle/input"))
tests = list(INPUT.glob("**/test.csv"))
with tests[0].open(newline="") as file:
    rows = list(csv.DictReader(file))
""",
    """\
with open("submission.csv", "w", newline="") as file:
    csv.writer(file).writerows([("id", "prediction"), *((row["id"], "A B C") for row in rows)])
""",
)


def bundle_of(folder, *cells, files=(), wheels=(), python="", kernel=None, dataset=None):
    """Write a bundle of these code cells; ``files`` are further ones by name and text."""
    (folder / "notebook").mkdir(parents=True)
    for name, text in dict(files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    listed = {
        "kind": "kaggle-rag bundle", "id": ID, "wheels": list(wheels), "python": python,
        "files": {name: {"bytes": len(text.encode())} for name, text in dict(files).items()},
    }  # fmt: skip
    metadata = {
        "id": ID, "title": "science exam", "code_file": "science-exam.ipynb", "language": "python",
        "kernel_type": "notebook", "is_private": True, "enable_gpu": False, "enable_internet": False,
        "dataset_sources": [ID], "competition_sources": [COMPETITION], "kernel_sources": [],
        "model_sources": [], **(kernel or {}),
    }  # fmt: skip
    about = {
        "id": ID, "title": "science exam", "subtitle": "All that the notebook needs",
        "licenses": [{"name": "other"}], **(dataset or {}),
    }  # fmt: skip
    code = [
        {
            "cell_type": "code",
            "id": f"c{n}",
            "metadata": {},
            "source": source,
            "execution_count": None,
            "outputs": [],
        }
        for n, source in enumerate(cells)
    ]
    notebook = {"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    for name, value in {
        "bundle.json": listed, "dataset-metadata.json": about, "notebook/kernel-metadata.json": metadata,
        "notebook/science-exam.ipynb": notebook,
    }.items():  # fmt: skip
        (folder / name).write_text(json.dumps({k: v for k, v in value.items() if v is not None}))
    return folder


def questions_file(path, count=30):
    """Questions with five options, as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", *LETTERS])
        writer.writerows([n, f"What is number {n}?", *(f"{n + k}" for k in range(5))] for n in range(count))
    return path


def wheel_of(folder, name, version, needs=(), tag="py3-none-any", code=""):
    """A wheel of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as file:
        lines = [f"Requires-Dist: {need}" for need in needs]
        metadata = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, ""])
        file.writestr(f"{name}.py", code)
        file.writestr(f"{stem}.dist-info/METADATA", metadata)
        file.writestr(f"{stem}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        file.writestr(f"{stem}.dist-info/RECORD", "")
    return folder / f"{stem}-{tag}.whl"


def call(monkeypatch, *arguments):
    """The program's exit code."""
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, arguments)])
    return run_program(program.main)
