"""A cross-validation that a tiny model learns in seconds: the answer stands in the context."""

import csv
import random

import yaml
from ranker_toys import WORDS, backbone

from kaggle_rag.questions import Questions
from kaggle_rag.retrieval.contexts import Context, Evidence, QuestionContexts, write_contexts

LEARN = {"command": "multiple-choice", "epochs": 8, "batch": 16, "learning_rate": 3e-3, "max_tokens": 32,
         "held_out": 0, "device": "cpu"}  # fmt: skip


def rows(count, seed, width=3):
    """Questions of their own words, which a word-level toy tokenizer does not know."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        options, own = (
            rng.sample(WORDS, width),
            ["".join(rng.choices("bcdfgklmnprst", k=7)) for _ in "two"[:2]],
        )
        made.append(
            {"id": f"{seed}-{number}", "prompt": " ".join([*own, "the right ?"])}
            | dict(zip("ABCDE", options))
            | {"answer": rng.choice("ABCDE"[:width])}
        )
    return made


def write_rows(path, made):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, made[0].keys())
        writer.writeheader()
        writer.writerows(made)
    return path


def right_words(made):
    """What stands in each context: the right option."""
    return [row[row["answer"]] for row in made]


def contexts_of(path, questions, said, articles=None):
    """A contexts file; each question has one sentence, of an article of its own unless told otherwise."""
    read = Questions.read(questions)
    found = []
    for number, text in enumerate(said):
        article = articles[number] if articles else f"a{number}"
        evidence = Evidence(article, article, number, text, 0.5, "all", 0.5, "toy")
        found.append(QuestionContexts(Context(text, (evidence,)), ()))
    write_contexts(path, read, found, {})
    return path


def solution(folder, made, said, *, name="solution", rankers=None, articles=None):
    """Questions, contexts, a tiny backbone, and the solution.yaml that names them."""
    questions = write_rows(folder / f"{name}.csv", made)
    contexts_of(folder / f"{name}.parquet", questions, said, articles)
    if not (folder / "tiny").exists():
        backbone("bert", folder / "tiny")
    settings = {
        "questions": questions.name,
        "contexts_file": f"{name}.parquet",
        "device": "cpu",
        "rankers": rankers or [{"kind": "trained", "train": {**LEARN, "model": "tiny"}}],
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path
