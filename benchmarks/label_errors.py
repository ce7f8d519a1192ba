"""How many planted label errors reach the top of the list that ``diagnose`` writes, by the kit's commands.

A share of the labels is changed at random. The top of the list is as long as the number of changed labels;
chance would find that same share of them there.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.common import index_of_texts, kit, parser, report
from kaggle_rag.data.questions import LETTERS, Questions, id_text
from kaggle_rag.data.tables import read_rows
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.sample import ARTICLES, TRAIN

# One epoch: a second one begins to memorise the wrong labels.
_TRAIN = {
    "command": "multiple-choice", "form": "bi-encoder", "snippets": 3, "max_tokens": 64, "epochs": 1,
    "batch": 16, "learning_rate": 5e-5, "held_out": 0,
}  # fmt: skip


def changed_labels(source: Path, out: Path, share: float, rows: int | None, seed: int) -> set[str]:
    """Write the questions with a share of their labels changed; return the ids of those."""
    questions = Questions.read(source)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(questions))[: rows or len(questions)]
    questions = questions.take(np.sort(chosen))
    wrong = set(rng.permutation(len(questions))[: round(share * len(questions))].tolist())
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", *questions.letters, "answer"])
        for row, (key, prompt, options) in enumerate(
            zip(questions.ids, questions.prompts, questions.options)
        ):
            answer = int(questions.answers[row])
            others = [at for at, option in enumerate(options) if option is not None and at != answer]
            label = int(rng.choice(others)) if row in wrong else answer
            writer.writerow([key, prompt, *(option or "" for option in options), LETTERS[label]])
    return {id_text(questions.ids[row]) for row in wrong}


def measure(folder: Path, questions: Path, index: Path, ranker: dict[str, Any], folds: int) -> list[str]:
    """The ids in the list that ``diagnose`` writes, each once, in order."""
    contexts = folder / "contexts.parquet"
    if not contexts.exists():
        settings = ["--set", "contexts.per=option", "--set", "contexts.tokens=64"]
        kit("inference", "contexts", "--questions", questions, "--index", index, "--out", contexts, *settings)
    solution = folder / "solution.yaml"
    told = {"questions": str(questions), "contexts_file": str(contexts), "index": str(index)}
    solution.write_text(yaml.safe_dump({**told, "rankers": [ranker]}), encoding="utf-8")
    run, listed = folder / "run", folder / "suspects.csv"
    kit("training", "cross-validate", solution, "--alike", "words", "--folds", folds, "--out", run)
    kit("training", "diagnose", run, "--withhold", "all", "--out", listed)
    return list(dict.fromkeys(id_text(row["id"]) for row in read_rows(listed)))


def main() -> int:
    flags = parser(str(__doc__))
    flags.add_argument("--questions", type=Path, default=TRAIN, help="with answers (default: the sample)")
    flags.add_argument("--facts", type=Path, help="passages, one per line (default: the encyclopedia)")
    flags.add_argument("--rows", type=int, help="number of questions to draw (default: all)")
    flags.add_argument("--share", type=float, default=0.05, help="share of labels to change (default: 0.05)")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--model", help="an encoder to train for each fold, instead of similarity")
    flags.add_argument("--folds", type=int, default=5)
    arguments = flags.parse_args()
    ranker: dict[str, Any] = {"kind": "similarity"}
    if arguments.model:
        ranker = {"kind": "trained", "train": {**_TRAIN, "model": arguments.model}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noisy = folder / "questions.csv"
        rows = 60 if arguments.quick else arguments.rows
        wrong = changed_labels(arguments.questions, noisy, arguments.share, rows, arguments.seed)
        index = folder / "index"
        if arguments.facts:
            index = index_of_texts(arguments.facts.read_text(encoding="utf-8").splitlines(), folder, "facts")
        else:
            kit("wiki_index", "build", ARTICLES, index)
        listed = measure(folder, noisy, index, ranker, arguments.folds)
        score = json.loads((folder / "run" / "metrics.json").read_text())
    found = len(wrong & set(listed[: len(wrong)]))
    share = found / len(wrong)
    row = {
        "questions": f"{arguments.questions.stem}, {score['questions']:,}",
        "ranker": arguments.model or "similarity",
        "MAP@3": f"{score['scores']['blend']['map@3']['mean']:.3f}",
        "changed": len(wrong),
        "listed": len(listed),
        "found on top": found,
        "share": f"{share:.2f}",
        "times chance": f"{share / (len(wrong) / score['questions']):.1f}",
    }
    note = (
        "On top: among as many first rows of the list as labels were changed. MAP@3 is by the changed labels."
    )
    report("Label errors found", [row], arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
