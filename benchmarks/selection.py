"""Whether ``training select`` finds what the test asks, and whether training on that beats a draw.

Questions of one set are hidden in a pool of several; a few others of that set are the specifications, and the
budget is as many questions as are hidden: recall is the share of them that is chosen, beside a draw of the
same size. ``--train TASK`` trains the ranker of benchmarks/ranker_TASK.yaml instead: on a choice from the
task's questions and ARC by a few of the task's, and on a draw of the same size, over the same seeds, and
compares their MAP@3 on the questions that judge the task. A killed run resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import kit, parser, report, seeds_flag, written_rows
from benchmarks.open_book import index_of
from benchmarks.ranker_training import HERE, TASKS, prepared
from benchmarks.what_helps import Bench, changes_of, in_words, training_flags
from kaggle_rag.data.questions import LETTERS, Questions
from kaggle_rag.evaluation.duplicates import embedding_texts
from kaggle_rag.evaluation.metrics import bootstrap, paired_over_seeds
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.vectors import Vectors
from kaggle_rag.runtime.errors import run_program
from training.selection.pool import Pool, sift
from training.selection.rules import RULES, Ranking
from training.selection.search import SEARCHES
from training.selection.specifications import read_specifications

SETS = ("openbookqa_train", "arc_easy_train", "arc_challenge_train", "mmlu_stem_even", "extra_6k")
WAYS = (*(("vectors", rule) for rule in RULES), ("words", "rrf"), ("words", "round-robin"))
# What else is in the pool to train on, and how many of the task's questions say what is asked.
OTHERS, _EXAMPLES = ("arc_easy_train", "arc_challenge_train"), 100
_QUICK = 60


class KeptVectors(Encoder):
    """An encoder that encodes each passage once, however many pools it is in."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Vectors] = {}

    def encode_passages(
        self, texts: Sequence[str], *, on_rows: Callable[[int], object] | None = None
    ) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        self._kept.update(zip(new, super().encode_passages(new, on_rows=on_rows)))
        return np.stack([self._kept[text] for text in texts])


def drawn(data: Path, name: str, count: int, seed: int) -> Questions:
    """A draw of so many questions of a set."""
    questions = Questions.read(data / "mcq" / f"{name}.csv")
    return questions.take(np.random.default_rng(seed).permutation(len(questions))[:count])


def written(questions: Questions, path: Path) -> Path:
    """Their columns alone, five options each: tables of a pool have the same."""
    rows = [
        {
            "id": question.id, "prompt": question.prompt, **dict.fromkeys("ABCDE"),
            **dict(zip(LETTERS, question.options)), "answer": LETTERS[question.answer],
        }
        for question in questions
    ]  # fmt: skip
    return written_rows(rows, path)


def recalls(data: Path, folder: Path, hidden: int, examples: int, seed: int) -> list[dict[str, Any]]:
    """A row a planted set: the share of its questions that each way chooses."""
    draws = {name: drawn(data, name, hidden + examples, seed) for name in SETS}
    tables = [
        written(each.take(range(len(each) - examples)), folder / f"{name}.csv")
        for name, each in draws.items()
    ]
    pool, encoder, rows = Pool.read(tables), KeptVectors(), []
    for name, each in draws.items():
        asking = each.take(range(len(each) - examples, len(each)))
        found = read_specifications([written(asking, folder / "examples.csv")])
        sifted = sift(pool, found.tables, {})
        budget, texts = pool.counts(sifted.rows)[name], embedding_texts(pool.questions.take(sifted.rows))
        row = {
            "asked by": f"{examples} of {name}", "hidden": budget, "pool": len(sifted.rows),
            "a draw": f"{np.mean([_draw(pool, sifted.rows, budget, name, at) for at in range(3)]):.3f}",
        }  # fmt: skip
        for by in SEARCHES:
            with tempfile.TemporaryDirectory(dir=folder) as inner:
                search = SEARCHES[by](found.texts, texts, lambda: encoder, Path(inner))
                hits = search.nearest(budget)
                for rule in (rule for way, rule in WAYS if way == by):
                    choice = RULES[rule](Ranking(hits, search, len(texts), budget, seed))
                    share = pool.counts(sifted.rows[choice.rows])[name] / budget
                    row[f"{by}, {rule}"] = f"{share:.3f}"
        rows.append(row)
    return rows


def _draw(pool: Pool, rows: np.ndarray, budget: int, name: str, seed: int) -> float:
    return pool.counts(np.random.default_rng(seed).permutation(rows)[:budget])[name] / budget


def trainings(arguments: argparse.Namespace, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """A row for the draw and a row a rule, each trained with the same seeds, and a note."""
    quick, task = arguments.quick, TASKS[arguments.train]
    learnt, judged, contexts = prepared(task, arguments.data, folder, None, _QUICK if quick else None)
    tables = [
        learnt,
        *(
            written(drawn(arguments.data, name, _QUICK if quick else 100_000, 0), folder / f"{name}.csv")
            for name in OTHERS
        ),
    ]
    pool = folder / "pool.csv"
    if not pool.exists():
        kit("training", "mix", *tables, "--out", pool, "--exclude", judged)
    examples = folder / "examples.csv"
    written(Questions.read(learnt).take(range(10 if quick else _EXAMPLES)), examples)
    budget, seeds = 40 if quick else arguments.budget, 2 if quick else arguments.seeds
    index = index_of(task.judged.name, arguments.data, folder, None)
    bench = Bench(
        folder, HERE / f"ranker_{arguments.train}.yaml", learnt, contexts[learnt], judged, contexts[judged],
        seeds, None, changes_of(arguments),
    )  # fmt: skip

    def values(how: str) -> np.ndarray:
        """``(seeds, n)``; a draw is another one for each seed."""
        found = []
        for seed in range(seeds):
            name = f"{how}-{budget}"
            table = folder / f"{name}-of-{seed if how == 'random' else 0}.csv"
            if not table.exists():
                words = ["--specifications", examples, "--exclude", judged, "--budget", budget, "--how", how]
                kit("training", "select", pool, *words, "--seed", seed, "--out", table)
            ready = table.with_suffix(".parquet")
            changes = [word for change in task.contexts for word in ("--set", change)]
            kit("inference", "contexts", "--questions", table, "--index", index, "--out", ready, *changes)
            own = dataclasses.replace(bench, learnt=table, contexts=ready)
            found.append(bench.values(bench.answers(own.trained(name, seed, ()))))
        return np.stack(found)

    base = values("random")
    rows = [_trained("random", base, None)]
    for how in arguments.how:
        ours = values(how)
        rows.append(_trained(how, ours, str(paired_over_seeds(ours, base))))
    note = (
        f"{budget:,} questions of {len(Questions.read(pool)):,}, asked by {len(Questions.read(examples))} of "
        f"{learnt.stem}; {len(Questions.read(judged)):,} judged; {seeds} seeds, and as many draws"
        f"{in_words(bench.settings)}. Differences over seeds and questions (Student's t), 95 % intervals."
    )
    return rows, note


def _trained(how: str, values: np.ndarray, against: str | None) -> dict[str, Any]:
    return {
        "chosen by": how, "MAP@3": str(bootstrap(values.mean(axis=0))),
        "by seed": " ".join(f"{mean:.3f}" for mean in values.mean(axis=1)), "against a draw": against,
    }  # fmt: skip


def main() -> int:
    flags = parser(str(__doc__))
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument(
        "--hidden", type=int, default=500, metavar="N", help="questions of each set (default: 500)"
    )
    flags.add_argument("--examples", type=int, default=50, metavar="N", help="specifications (default: 50)")
    flags.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    flags.add_argument("--train", choices=("openbookqa", "sciq"), help="train on choice and draws: hours")
    training_flags(flags)
    flags.add_argument("--how", nargs="+", default=["rrf"], choices=list(RULES), help="rules to train by")
    flags.add_argument(
        "--budget", type=int, default=1_000, metavar="N", help="questions to train on (default: 1000)"
    )
    seeds_flag(flags)
    flags.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    flags.add_argument("--runs", type=Path, default=Path("runs/selection"), help="folder for the trainings")
    arguments = flags.parse_args()
    if arguments.train:
        folder = arguments.runs / (arguments.train + ("-quick" if arguments.quick else ""))
        rows, note = trainings(arguments, folder)
        report(f"Trained on a selection and on draws: {arguments.train} and ARC", rows, arguments.json, note)
        return 0
    hidden, examples = (40, 10) if arguments.quick else (arguments.hidden, arguments.examples)
    with tempfile.TemporaryDirectory() as name:
        rows = recalls(arguments.data, Path(name), hidden, examples, arguments.seed)
    note = (
        f"{', '.join(SETS)}: {hidden} questions of each, without near-duplicates. The share of the hidden "
        "questions that is chosen when as many are chosen as are hidden."
    )
    report("What a selection finds", rows, arguments.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
