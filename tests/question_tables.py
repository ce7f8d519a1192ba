"""Question tables of the tests of folds, leaks and slices."""

import numpy as np

from kaggle_rag.data.probabilities import softmax
from kaggle_rag.data.questions import LETTERS, Questions


def table(*rows):
    """``(prompt, options, answer column or None)`` a row."""
    return Questions.from_rows(
        [
            {"id": f"q{n}", "prompt": prompt, "answer": None if answer is None else LETTERS[answer]}
            | {letter: (options[i] if i < len(options) else None) for i, letter in enumerate("ABCDE")}
            for n, (prompt, options, answer) in enumerate(rows)
        ],
        "test",
    )


def altered(questions, rows, prompt=lambda text, rng: text, seed=0):
    """The questions at ``rows`` with changed prompts and their options in another order."""
    rng = np.random.default_rng(seed)
    made = []
    for row in rows:
        there = [o for o in questions.options[row] if o is not None]
        right = questions.options[row][questions.answers[row]]
        options = [there[place] for place in rng.permutation(len(there))]
        made.append((prompt(questions.prompts[row], rng), options, options.index(right)))
    return table(*made)


def first(source, count, path):
    """The first questions of a file with a line a question, in a file of their own."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[: count + 1]), encoding="utf-8")
    return path


def shuffled_words(text, rng):
    words = text.split()
    return " ".join(words[place] for place in rng.permutation(len(words)))


def ranker(right, skill, seed, width=5):
    """Probabilities of a ranker that sees the right option with some skill."""
    noise = np.random.default_rng(seed).standard_normal((len(right), width))
    return softmax(noise + skill * np.eye(width)[right], np.ones((len(right), width), bool))


def questions(count, seed=0):
    return np.random.default_rng(seed).integers(0, 5, count), np.ones((count, 5), bool)


ROWS = [
    {"id": 1, "prompt": "Which is the larger moon of Mars?", "A": "Titan", "B": "Phobos", "C": "Europa"},
    {"id": 2, "prompt": "Name the temperature at which copper melts.",
     "A": "660 °C", "B": None, "C": "1,085 °C",
     "is_question": False},
    {"id": 3, "prompt": "How many eyes has the animal?", "A": "two", "B": "five", "C": "eight",
     "context": "The zorg is an animal. It has eight eyes. It sleeps."},
]  # fmt: skip
