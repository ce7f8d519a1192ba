"""A task that a tiny model learns in seconds: each question word belongs to one passage word."""

import csv
import random

from model_toys import tiny_model

WORDS = ["amber", "birch", "cedar", "delta", "ember", "frost"]
WORDS += ["grove", "heron", "ivory", "jade", "karst", "lemon"]
KEYS = ["zq", "xv", "wk", "yp", "zu", "xo", "wi", "ya", "zr", "xt", "ws", "yn"]
FILLER = ["one", "two", "six", "ten", "red", "big", "old", "hot"]


def write_table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def questions(path, count, seed, prefix="q", facts=12):
    """``count`` questions a key; the letter and the options are drawn, the fact is one of the first few."""
    rng = random.Random(seed)
    rows = []
    for place, key in enumerate(KEYS):
        for number in range(count):
            options = rng.sample(FILLER, 3)
            cells = (
                f"{prefix}{place}-{number}", f"{key} {rng.choice(FILLER)} {prefix}{number}",
                *options, rng.choice("ABC"), WORDS[place % facts],
            )  # fmt: skip
            rows.append(dict(zip(("id", "prompt", "A", "B", "C", "answer", "fact"), cells)))
    rng.shuffle(rows)
    return write_table(path, rows)


def toy(folder, facts=12):
    """A tiny encoder, questions to learn from, others on the same facts to judge by, and all twelve facts."""
    passages = folder / "facts.txt"
    passages.write_text("\n".join(WORDS) + "\n")
    return {
        "model": str(tiny_model(folder)),
        "questions": questions(folder / "train.csv", 8, 0, facts=facts),
        "validation": questions(folder / "valid.csv", 2, 1, "v", facts),
        "passages": passages,
    }
