"""What a submission is worth within 1, 2, 5, 10 and 15 minutes, and how well its plan foresaw it.

Questions of the shared sets, contexts from an index of Wikipedia articles, and three rankers: similarity, a
small causal model made from a config, and MiniLM, the last two trained on other questions and
cross-validated there, which also gives the out-of-fold predictions of the cascade and the weights. Every
limit is a run of its own, by the command that a user types, under ``limits.ram``. A killed benchmark resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, set_seed

from benchmarks.common import kit, parser, report, written_rows
from benchmarks.open_book import rows_of
from inference.cascade import mixed
from kaggle_rag.config import Solution, load
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import average_precisions, bootstrap, paired_bootstrap
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.errors import run_program, show_size
from kaggle_rag.runtime.files import whole_file

HERE = Path(__file__).parent
# Sets that are answered, and those that are learnt from, in like shares: weights that were fitted on other
# questions than those asked are worth nothing. Those of SciQ bring their text, as some competitions' do; the
# others are answered from the index.
ANSWERED = (
    ("extra_6k", "odd", 2127), ("sciq", "odd", 1000), ("extra_500", "all", 500),
    ("mmlu_stem_even", "all", 373),
)  # fmt: skip
LEARNT = (("extra_6k", "even", 0.75), ("sciq", "even", 0.25))
_KEYS = ("id", "prompt", *"ABCDE", "answer", "context")
_CONTEXTS = {"tokens": 64}
# A ranker whose fitted weight is less still runs, so that there is a third stage.
_LEAST_WEIGHT = 0.02
SMALL = {
    "hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1024, "num_attention_heads": 6,
    "vocab_size": 30_522, "max_position_embeddings": 512, "pad_token_id": 0,
}  # fmt: skip
_MINILM = {
    "command": "multiple-choice", "form": "bi-encoder", "max_tokens": 64, "snippets": 2, "epochs": 1,
    "batch": 16, "learning_rate": 5.0e-5, "evaluations": 2,
}  # fmt: skip
_CAUSAL = {
    "command": "causal", "form": "binary", "max_tokens": 160, "snippets": 2, "epochs": 1, "batch": 16,
    "learning_rate": 3.0e-4, "peft": {"method": "full"},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A solution, the questions that it answers, and the same with their answers."""

    solution: Path
    questions: Path
    answers: Path


def prepared(folder: Path, data: Path, index: Path, learnt: int, answered: int | None) -> Prepared:
    """Make the tables, train the rankers, and write the solution; what exists is reused."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = [row for name, rows, most in ANSWERED for row in _rows(name, data, rows, answered or most)]
    answers = written_rows(asked, folder / "answers.csv")
    hidden = [{key: cell for key, cell in row.items() if key != "answer"} for row in asked]
    questions = written_rows(hidden, folder / "test.csv")
    known = [row for name, rows, part in LEARNT for row in _rows(name, data, rows, round(part * learnt))]
    train = written_rows(known, folder / "train.csv")
    contexts = folder / "train.parquet"
    changes = [word for key, value in _CONTEXTS.items() for word in ("--set", f"contexts.{key}={value}")]
    kit("inference", "contexts", "--questions", train, "--index", index, "--out", contexts, *changes)
    return Prepared(_solution(folder, train, contexts, questions, index), questions, answers)


def _rows(name: str, data: Path, rows: str, most: int) -> list[dict[str, Any]]:
    """The first rows of a set, in one layout."""
    found = rows_of(name, data, rows, most).values()
    named = [{**row, "id": f"{name}-{row['id']}", "context": row.get("support")} for row in found]
    return [{key: row.get(key) for key in _KEYS} for row in named]


def _solution(folder: Path, train: Path, contexts: Path, questions: Path, index: Path) -> Path:
    """Cross-validate the rankers, train them on everything, and write how they are blended."""
    # MiniLM is asked last, since it has more weights.
    recipes = (
        {**_CAUSAL, "model": str(small_model(folder / "small"))}, {**_MINILM, "model": DEFAULT_ENCODER}
    )  # fmt: skip
    config, run = folder / "experiment.yaml", folder / "experiment"
    trained = [{"kind": "trained", "train": each} for each in recipes]
    wanted = {
        "questions": train.name, "contexts_file": contexts.name,
        "rankers": [{"kind": "similarity"}, *trained],
    }  # fmt: skip
    config.write_text(yaml.safe_dump(wanted), encoding="utf-8")
    kit("training", "cross-validate", config, "--folds", "2", "--out", run, "--against", questions)
    fitted = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["weights"]
    stored = Predictions.read(run / "oof.parquet")
    tables = {name: stored.tables[name] for name in fitted["weights"]}
    dataclasses.replace(stored, tables=tables).write(folder / "out_of_fold.parquet")
    rankers: list[dict[str, Any]] = [
        {"kind": "trained", "weight": max(weight, _LEAST_WEIGHT), "temperature": fitted["temperatures"][name]}
        for name, weight in fitted["weights"].items()
    ]
    rankers[0]["kind"] = "similarity"
    for ranker, recipe, name in zip(rankers[1:], recipes, [*tables][1:]):
        ranker["options"] = {"folder": f"final/{name}"}
        _train(recipe, folder / "final" / name, train, contexts, questions)
    made = {
        "index": str(index.absolute()), "contexts": _CONTEXTS, "rankers": rankers,
        "out_of_fold": "out_of_fold.parquet",
    }  # fmt: skip
    return _written(made, folder / "solution.yaml")


def _train(recipe: dict[str, Any], out: Path, train: Path, contexts: Path, questions: Path) -> None:
    """Train on all questions but the near-duplicates of those that are answered."""
    given = {key: value for key, value in recipe.items() if key != "command"}
    out.parent.mkdir(exist_ok=True)
    config = _written(given, out.with_name(f"{out.name}.yaml"))
    kit(
        "training", recipe["command"], "--config", config, "--questions", train, "--contexts-file", contexts,
        "--exclude", questions, "--out", out,
    )  # fmt: skip


def _written(settings: dict[str, Any], path: Path) -> Path:
    with whole_file(path) as aside:
        aside.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def small_model(folder: Path) -> Path:
    """A Llama-shaped model of random weights with MiniLM's tokenizer."""
    if not (folder / "config.json").exists():
        set_seed(0)
        AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(resolve(DEFAULT_ENCODER).path)
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        tokenizer.save_pretrained(folder)
    return folder


def submit(made: Prepared, out: Path, limit: str, ram: str) -> tuple[float, dict[str, Any]]:
    """Run a submission from nothing; its seconds and its run.json."""
    shutil.rmtree(_predictions(out), ignore_errors=True)
    out.unlink(missing_ok=True)
    start = time.perf_counter()
    kit(*_command(made, out, limit, ram))
    seconds = time.perf_counter() - start
    return seconds, json.loads((_predictions(out) / "run.json").read_text())


def _command(made: Prepared, out: Path, limit: str, ram: str) -> list[Any]:
    return [
        "inference", "submit", "--config", made.solution, "--questions", made.questions, "--out", out,
        "--time", limit, "--ram", ram,
    ]  # fmt: skip


def foreseen(made: Prepared, out: Path, limit: str, ram: str) -> dict[str, Any]:
    """The plan of the same command."""
    command = [sys.executable, "-m", *map(str, _command(made, out, limit, ram)), "--dry-run", "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def by_limit(made: Prepared, folder: Path, minutes: Sequence[float], ram: str) -> list[dict[str, Any]]:
    """A row a limit: what was answered, and its score."""
    questions = Questions.read(made.answers)
    rows, before = [], None
    for limit in minutes:
        out = folder / f"within-{limit:g}m.csv"
        seconds, run = submit(made, out, f"{limit:g}m", ram)
        solution, tables = answered(made, out, questions)
        mix = mixed(solution, tables, questions.present)
        scores = average_precisions(mix, questions.answers, questions.present)
        rows.append(
            {
                "limit": duration(limit * 60), "took": duration(seconds),
                **{stage["name"]: f"{stage['questions']:,}" for stage in run["stages"]},
                "MAP@3": str(bootstrap(scores)),
                "against less time": None if before is None else str(paired_bootstrap(scores, before)),
                "peak RAM": show_size(max(stage["ram_peak"] for stage in run["stages"])),
            }
        )  # fmt: skip
        before = scores
    return rows


def answered(made: Prepared, out: Path, questions: Questions) -> tuple[Solution, list[Probabilities]]:
    """The tables of a run's rankers, in the order of the solution; NaN where one was not asked."""
    solution = load(made.solution)
    folder = _predictions(out)
    tables = []
    for ranker in solution.rankers:
        name = Path(ranker.options.get("folder", ranker.kind)).name
        path = folder / f"{name}.parquet"
        nothing = np.full(questions.present.shape, np.nan, np.float32)
        tables.append(Predictions.read(path).tables[name] if path.is_file() else nothing)
    return solution, tables


def plan_rows(plan: dict[str, Any], seconds: float, run: dict[str, Any]) -> list[dict[str, Any]]:
    """What was foreseen and what happened, by stage."""
    took = {stage["name"]: stage for stage in run["stages"]}
    rows = [
        {
            "stage": stage["name"], "foreseen": f"{stage['seconds']:.0f} s",
            "took": f"{took[stage['name']]['seconds']:.0f} s",
            "took / foreseen": f"{took[stage['name']]['seconds'] / max(stage['seconds'], 1e-9):.2f}",
            "questions foreseen": f"{stage['questions']:,}",
            "questions": f"{took[stage['name']]['questions']:,}",
            "RAM foreseen": show_size(stage["ram_peak"]), "RAM": show_size(took[stage["name"]]["ram_peak"]),
        }
        for stage in plan["stages"]
    ]  # fmt: skip
    whole = {
        "stage": "all", "foreseen": f"{plan['seconds']:.0f} s", "took": f"{seconds:.0f} s",
        "took / foreseen": f"{seconds / plan['seconds']:.2f}",
    }  # fmt: skip
    return [*rows, whole]


def _predictions(out: Path) -> Path:
    return out.with_name(out.stem + ".predictions")


def main() -> int:
    flags = parser(__doc__ or "")
    flags.add_argument("--index", type=Path, required=True, help="index of Wikipedia articles")
    flags.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data", help="shared data")
    flags.add_argument("--runs", type=Path, default=Path("runs/time_limits"), help="folder for all outputs")
    flags.add_argument("--minutes", type=float, nargs="+", default=[1, 2, 5, 10, 15], metavar="N")
    flags.add_argument("--learnt", type=int, default=2400, metavar="N", help="questions to train on")
    flags.add_argument("--ram", default="4GB", metavar="SIZE", help="limits.ram (default: 4GB)")
    arguments = flags.parse_args()
    quick, folder = arguments.quick, arguments.runs
    minutes = sorted([0.5, 1.0] if quick else arguments.minutes)
    learnt, asked = (60, 15) if quick else (arguments.learnt, None)
    made = prepared(folder, arguments.data, arguments.index, learnt, asked)
    longest = folder / f"within-{minutes[-1]:g}m.csv"
    _by_limit(made, longest, minutes, arguments)
    return 0


def _by_limit(made: Prepared, longest: Path, minutes: Sequence[float], arguments: argparse.Namespace) -> None:
    """Run within each limit, and print what was answered, and how well the longest was foreseen."""
    plan = foreseen(made, longest, f"{minutes[-1]:g}m", arguments.ram)
    rows = by_limit(made, longest.parent, minutes, arguments.ram)
    count = len(Questions.read(made.answers))
    note = f"{count:,} questions; limits.ram {arguments.ram}; 95 % bootstrap intervals; paired differences."
    report("A submission by the time it is given", rows, arguments.json, note)
    run = json.loads((_predictions(longest) / "run.json").read_text())
    rows = plan_rows(plan, run["seconds"], run)
    report("The plan against what happened", rows, None, f"Limit {minutes[-1]:g} minutes; {note}")


if __name__ == "__main__":
    sys.exit(run_program(main))
