"""A cross-validation that a tiny model learns in thirty steps: each option's context says if it is right."""

import csv
import random

import yaml
from ranker_toys import WORDS, backbone

from kaggle_rag.data.contexts import Context, Evidence, QuestionContexts, lines_as_snippets, write_contexts
from kaggle_rag.data.questions import Questions

LEARN = {"command": "multiple-choice", "epochs": 4, "batch": 10, "learning_rate": 3e-3, "max_tokens": 32,
         "schedule": "constant_with_warmup", "held_out": 0, "device": "cpu"}  # fmt: skip
FOR, AGAINST = WORDS[:2]


def rows(count, seed, width=3):
    """Questions of their own words, which a word-level toy tokenizer does not know."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        options, own = (
            rng.sample(WORDS[2:], width),
            ["".join(rng.choices("bcdfgklmnprst", k=7)) for _ in "ab"],
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


def telling(made):
    """What stands in the context of each option."""
    return [
        [FOR if letter == row["answer"] else AGAINST for letter in "ABCDE" if letter in row] for row in made
    ]


def contexts_of(path, questions, said, articles=None):
    """A contexts file, one sentence an option that is there; an article a question unless told otherwise."""
    found = []
    for number, texts in enumerate(said):
        article = articles[number] if articles else f"a{number}"
        contexts = [
            text
            and Context(
                lines_as_snippets(text),
                (Evidence(article, article, 5 * number + at, text, 0.5, "each", 0.5, "toy"),),
            )
            for at, text in enumerate(texts)
        ]
        found.append(QuestionContexts(None, tuple(contexts)))
    write_contexts(path, Questions.read(questions), found, {})
    return path


def trained(**train):
    """A ranker of solution.yaml that is trained for each fold."""
    return {"kind": "trained", "train": {**LEARN, "model": "tiny", **train}}


def solution(folder, made, said, *, name="solution", rankers=None, articles=None):
    """Questions, contexts (or ``None``), a tiny backbone, and the solution.yaml that names them."""
    questions = write_rows(folder / f"{name}.csv", made)
    if not (folder / "tiny").exists():
        backbone("bert", folder / "tiny")
    path = folder / f"{name}.yaml"
    settings = {"questions": questions.name, "device": "cpu"}
    if said:
        contexts_of(folder / f"{name}.parquet", questions, said, articles)
        settings["contexts_file"] = f"{name}.parquet"
    path.write_text(yaml.safe_dump({**settings, "rankers": rankers or [trained()]}))
    return path
