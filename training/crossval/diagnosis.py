"""Which questions are hard, labelled wrongly or there twice: by what out-of-fold predictions say of them."""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions, id_text
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.evaluation.difficulty import (
    REASONS,
    Suspect,
    diagnose,
    normalised_margin,
    pointwise_information,
    read_suspects,
    write_suspects,
)
from kaggle_rag.evaluation.fold_table import Folds, write_folds
from kaggle_rag.evaluation.leaks import shown
from kaggle_rag.evaluation.metrics import chance_map_at_k, map_at_k, ranks_of_answers
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.files import whole_file
from training.crossval.experiment import FOLDS, Experiment, read_run
from training.crossval.ranker_spec import RankerSpec
from training.crossval.report import BLEND, OOF
from training.crossval.run import cross_validate, out_of_fold
from training.crossval.settings import WITHHELD, CrossValidationSettings
from training.crossval.splitting import keep_parts

INFORMATION = "information.parquet"
_NOTHING = "?"
_WIDTH = 150


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that speaks against the questions of an experiment; ``bits`` ``(n,)`` is their V-information.

    ``refused`` says why the rankers' own word against questions is not listed; empty where it is.
    """

    questions: Questions
    suspects: list[Suspect]
    bits: npt.NDArray[np.float64]
    withheld: str
    refused: str = ""


def find_suspects(
    wish: CrossValidationSettings, withhold: str | None = None, ranker: str | None = None
) -> Findings:
    """Cross-validate with the input and without it, what is there being taken up, and list the suspects.

    The model without the input is the same ranker, trained on the same folds with something withheld.
    Ethayarajh et al. 2022 withhold all of the input, and what is left is how often each label is right. The
    options of a question are exchangeable, so that model knows nothing (``all``). What a competitor asks
    is whether the contexts help (``contexts``), or whether options give themselves away (``question``).

    Raises
    ------
    KitError : as `cross_validate`; no such ranker; nothing to withhold.
    """
    experiment = Experiment.open(wish)
    withheld = withhold or ("contexts" if experiment.contexts is not None else "question")
    if withheld == "contexts" and experiment.contexts is None:
        raise ConfigError("there are no contexts to withhold", where="--withhold", expected="question or all")
    names = [spec.name for spec in experiment.specs]
    if ranker is not None and ranker not in names:
        raise ConfigError(f"no ranker {ranker!r}", where="--ranker", expected="one of " + ", ".join(names))
    metrics = cross_validate(dataclasses.replace(wish, fold=None))
    weights = {ranker: 1.0} if ranker else metrics["weights"]["weights"]
    found = Predictions.read(experiment.folder / OOF)
    seen = found.tables[ranker or BLEND]
    blind = _blind(experiment, found.folds, weights, withheld)
    questions = experiment.questions
    bits = pointwise_information(seen, blind, questions.answers)
    refused = _refused(seen, bits, questions, withheld)
    suspects = diagnose(questions, None if refused else seen, blind, keep_parts(experiment).pairs)
    _keep(experiment.folder / INFORMATION, questions, seen, bits)
    return Findings(questions, suspects, bits, withheld, refused)


def _refused(seen: Probabilities, bits: npt.NDArray[np.float64], questions: Questions, withheld: str) -> str:
    """Why rankers cannot judge labels: what they read makes their answers no better than nothing read.

    To drop questions by the word of such rankers would be to drop them by chance.
    """
    if bits.mean() <= 0:
        more = f"{bits.mean():+.3f} bits a question"
        return f"with {withheld} the rankers find the right options no more likely ({more})"
    ranks = ranks_of_answers(seen, questions.answers, questions.present)
    chance = chance_map_at_k(questions.present.sum(axis=1))
    if map_at_k(ranks) <= chance:
        return f"the rankers' MAP@3 of {map_at_k(ranks):.3f} is no better than chance ({chance:.3f})"
    return ""


def check_out(path: Path) -> None:
    """Raise ``ConfigError``, before anything is learnt, where no list can be written."""
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"cannot write a list as {path.suffix!r}", where=path, expected=".csv or .parquet")


def wish_of(folder: Path) -> CrossValidationSettings:
    """What a run folder was asked for, so that its name alone is enough."""
    told = read_run(folder)["wish"]
    questions, contexts = (told[key] and Path(told[key]) for key in ("questions", "contexts"))
    return CrossValidationSettings(
        Path(told["solution"]), questions, contexts, out=folder, folds=told["folds"], seed=told["seed"],
        alike=told["alike"], against=tuple(map(Path, told["against"])), stack=told["stack"],
        changes=tuple(told["changes"]),
    )  # fmt: skip


def _blind(experiment: Experiment, folds: Folds, weights: dict[str, float], withheld: str) -> Probabilities:
    """Out-of-fold probabilities of the same rankers without the input, ``(n, k)``."""
    present = experiment.questions.present
    if withheld == "all":
        return np.asarray(present / present.sum(axis=1, keepdims=True), dtype=np.float32)
    say(f"without {withheld}:")
    wanted = tuple(spec for spec in experiment.specs if weights.get(spec.name))
    tables = out_of_fold(_withheld(experiment, folds, withheld, wanted), folds)
    return blend(
        list(tables.values()), [weights[name] for name in tables], present, experiment.solution.blend
    )


def _withheld(
    experiment: Experiment, folds: Folds, withheld: str, specs: tuple[RankerSpec, ...]
) -> Experiment:
    """The same experiment with something withheld, in a folder inside of its own."""
    folder = experiment.folder / f"without-{withheld}"
    place, questions = experiment.place._replace(folder=folder, contexts=None), experiment.questions
    if withheld == "question":
        nothing = tuple(_NOTHING for _ in questions.prompts)
        questions = dataclasses.replace(questions, prompts=nothing)
        place = place._replace(questions=folder / "questions.parquet", folds=folder / FOLDS)
        _write_questions(place.questions, questions)
        write_folds(place.folds, questions, folds)
        specs = tuple(_with_list(spec, experiment.questions, questions, folder) for spec in specs)
    wish = dataclasses.replace(experiment.wish, fold=None)
    return dataclasses.replace(
        experiment, wish=wish, place=place, specs=specs, questions=questions, contexts=None
    )


def _with_list(spec: RankerSpec, known: Questions, blanked: Questions, folder: Path) -> RankerSpec:
    """Its list of questions to drop names them by a hash, which is another where the prompt is blank."""
    if "drop" not in spec.train:
        return spec
    path = folder / f"drop-{spec.name}.csv"
    write_suspects(path, blanked, read_suspects(spec.train["drop"], known))
    return dataclasses.replace(spec, train={**spec.train, "drop": str(path)})


def _write_questions(path: Path, questions: Questions) -> None:
    columns = {
        "id": pa.array(map(id_text, questions.ids), pa.string()),
        "prompt": pa.array(questions.prompts, pa.string()),
        **{x: pa.array([row[at] for row in questions.options]) for at, x in enumerate(questions.letters)},
        "answer": pa.array([questions.letters[at] for at in questions.answers], pa.string()),
    }
    with whole_file(path) as aside:
        pq.write_table(pa.table(columns), aside)


def _keep(path: Path, questions: Questions, seen: Probabilities, bits: npt.NDArray[np.float64]) -> None:
    """Every question's V-information and margin, the hardest first."""
    order = np.argsort(bits, kind="stable")
    margins = normalised_margin(seen, questions.answers, questions.present)
    marks = questions.fingerprints()
    table = pa.table(
        {
            "id": [id_text(questions.ids[row]) for row in order],
            "question": [marks[row] for row in order],
            "bits": bits[order],
            "margin": margins[order],
        }
    )
    with whole_file(path) as aside:
        pq.write_table(table, aside)


def summary(found: Findings) -> dict[str, Any]:
    """Counts and means, as plain JSON."""
    reasons = [suspect.reason for suspect in found.suspects]
    return {
        "questions": len(found.questions),
        "withheld": found.withheld,
        "bits": round(float(found.bits.mean()), 4),
        "refused": found.refused,
        "suspects": {reason: reasons.count(reason) for reason in REASONS if reason in reasons},
    }


def text(found: Findings, worst: int) -> str:
    """The summary, and the worst of each reason with its question."""
    told = summary(found)
    lines = [
        f"{told['questions']:,} questions; V-usable information {told['bits']:.3f} bits a question "
        f"(withheld: {found.withheld}, {WITHHELD[found.withheld].partition(' (')[0]})"
    ]
    if found.refused:
        lines.append(f"label errors and hard questions are not listed: {found.refused}")
    for reason, count in told["suspects"].items():
        lines += ["", f"{reason}: {count:,} ({REASONS[reason]})"]
        for suspect in [each for each in found.suspects if each.reason == reason][:worst]:
            key = id_text(found.questions.ids[suspect.row])
            asked = textwrap.shorten(shown(found.questions, suspect.row), _WIDTH, placeholder=" ...")
            lines += [f"  {suspect.score:6.3f}  {key}: {suspect.detail}", f"          {asked}"]
    return "\n".join(lines)
