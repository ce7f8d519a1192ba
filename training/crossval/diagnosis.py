"""Find hard, mislabelled and repeated questions by their out-of-fold predictions."""

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
from kaggle_rag.evaluation.data_maps import FILE, Dynamics, dynamics_columns, mean_of, read_data_map
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
from kaggle_rag.runtime.files import require_new, whole_file
from kaggle_rag.runtime.words import counted
from training.crossval.experiment import FOLDS, OOF, Experiment, read_run
from training.crossval.mixing import calibrated
from training.crossval.ranker_spec import RankerSpec
from training.crossval.report import CrossValidationReport
from training.crossval.run import cross_validate, out_of_fold
from training.crossval.settings import BLEND, WITHHELD, CrossValidationSettings
from training.crossval.splitting import keep_parts

INFORMATION = "information.parquet"
_NOTHING = "?"
_WIDTH = 150


@dataclasses.dataclass(frozen=True)
class DiagnosisReport:
    """The suspect questions of an experiment; ``bits`` ``(n,)`` is the V-information of every question.

    ``refused`` says why the rankers' own suspicions are not listed, empty if they are. ``dynamics`` is the
    data map of the rankers that were trained with ``data_map: true``, ``None`` if none was. The text shows
    the ``worst`` questions for each reason.
    """

    questions: Questions
    suspects: list[Suspect]
    bits: npt.NDArray[np.float64]
    withheld: str
    refused: str = ""
    worst: int = 5
    dynamics: Dynamics | None = None

    def as_json(self) -> dict[str, Any]:
        """Counts and means."""
        reasons = [suspect.reason for suspect in self.suspects]
        return {
            "questions": len(self.questions),
            "withheld": self.withheld,
            "bits": round(float(self.bits.mean()), 4),
            "refused": self.refused,
            "suspects": {reason: reasons.count(reason) for reason in REASONS if reason in reasons},
            **({"data map": _means(self.dynamics)} if self.dynamics else {}),
        }

    def text(self) -> str:
        """Counts and means, and the worst questions for each reason."""
        lines = [
            f"{counted(len(self.questions), 'question')}; V-usable information "
            f"{self.bits.mean():.3f} bits per "
            f"question (withheld: {self.withheld}, {WITHHELD[self.withheld].partition(' (')[0]})"
        ]
        if self.dynamics:
            means = ", ".join(f"{name} {value:.3f}" for name, value in _means(self.dynamics).items())
            lines.append(f"data map of the trainings, in the mean: {means}")
        if self.refused:
            lines.append(f"label errors and hard questions are not listed: {self.refused}")
        for reason, count in self.as_json()["suspects"].items():
            lines += ["", f"{reason}: {count:,} ({REASONS[reason]})"]
            for suspect in [each for each in self.suspects if each.reason == reason][: self.worst]:
                key = id_text(self.questions.ids[suspect.row])
                text = textwrap.shorten(shown(self.questions, suspect.row), _WIDTH, placeholder=" ...")
                detail = suspect.detail + self._trained(suspect.row)
                lines += [f"  {suspect.score:6.3f}  {key}: {detail}", f"          {text}"]
        return "\n".join(lines)

    def _trained(self, row: int) -> str:
        """What the trainings said of the label of a question, if they were recorded."""
        if self.dynamics is None or not self.dynamics.epochs[row]:
            return ""
        confidence, variability, correctness, _ = (column[row] for column in self.dynamics)
        return f"; in training {confidence:.2f} ± {variability:.2f}, right in {correctness:.0%} of the epochs"


def _means(found: Dynamics) -> dict[str, float]:
    counted = found.take(np.flatnonzero(found.epochs > 0))
    return {name: round(float(getattr(counted, name).mean()), 4) for name in Dynamics._fields[:3]}


def find_suspects(
    settings: CrossValidationSettings, withhold: str | None = None, ranker: str | None = None
) -> DiagnosisReport:
    """Cross-validate with and without the input, reusing existing results, and list the suspects.

    The model without the input is the same ranker, trained on the same folds with something withheld.
    Ethayarajh et al. 2022 withhold the whole input, which leaves only the frequency of each label. Here
    options are exchangeable, so that model knows nothing (``all``). A competitor wants to know whether the
    contexts help (``contexts``), or whether options give themselves away (``question``).

    Raises
    ------
    KitError : as `cross_validate`; no such ranker; nothing to withhold; a ranker that cannot be without.
    """
    experiment = Experiment.open(settings)
    withheld = withhold or ("contexts" if experiment.contexts is not None else "question")
    if withheld == "contexts" and experiment.contexts is None:
        raise ConfigError("there are no contexts to withhold", where="--withhold", expected="question or all")
    names = [spec.name for spec in experiment.specs]
    if ranker is not None and ranker not in names:
        raise ConfigError(f"no ranker {ranker!r}", where="--ranker", expected="one of " + ", ".join(names))
    if withheld != "all":
        _check_blind(experiment, ranker)
    report = cross_validate(dataclasses.replace(settings, fold=None))
    assert isinstance(report, CrossValidationReport)
    weights = {ranker: 1.0} if ranker else report.weights.by_ranker()
    predictions = Predictions.read(experiment.folder / OOF)
    seen = predictions.tables[ranker or BLEND]
    blind = _blind(experiment, predictions.folds, weights, withheld)
    questions = experiment.questions
    bits = pointwise_information(seen, blind, questions.answers)
    refused = _refused(seen, bits, questions, withheld)
    suspects = diagnose(questions, None if refused else seen, blind, keep_parts(experiment).pairs)
    recorded = _dynamics(experiment)
    _write_bits(experiment.folder / INFORMATION, questions, seen, bits, recorded)
    return DiagnosisReport(questions, suspects, bits, withheld, refused, dynamics=recorded)


def _dynamics(experiment: Experiment) -> Dynamics | None:
    """The data map of all folds of all rankers that recorded one; in its own fold a question is not."""
    paths = [
        path
        for spec in experiment.specs
        for path in sorted((experiment.folder / spec.name).glob(f"fold-*/{FILE}"))
    ]
    return mean_of([read_data_map(path, experiment.questions) for path in paths]) if paths else None


def _refused(seen: Probabilities, bits: npt.NDArray[np.float64], questions: Questions, withheld: str) -> str:
    """Why the rankers cannot judge labels (their answers are no better for the input), empty if they can.

    Dropping questions on the word of such rankers would be dropping them at random.
    """
    if bits.mean() <= 0:
        gain = f"{bits.mean():+.3f} bits per question"
        return f"with {withheld}, the rankers give the right options no higher probability ({gain})"
    ranks = ranks_of_answers(seen, questions.answers, questions.present)
    chance = chance_map_at_k(questions.present.sum(axis=1))
    if map_at_k(ranks) <= chance:
        return f"the rankers' MAP@3 of {map_at_k(ranks):.3f} is no better than chance ({chance:.3f})"
    return ""


def check_out(path: Path) -> None:
    """Raise ``KitError``, before any training, for a list that cannot be written.

    One that is there may have been worked on by hand: it is not overwritten.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"cannot write a list as {path.suffix!r}", where=path, expected=".csv or .parquet")
    require_new(path, "a file")


def settings_of(folder: Path) -> CrossValidationSettings:
    """The settings of a run folder, so that its path alone is enough."""
    run = read_run(folder)
    # Folders of an earlier version have them under the old key.
    stored = run["settings"] if "settings" in run else run["wish"]
    questions, contexts = (stored[key] and Path(stored[key]) for key in ("questions", "contexts"))
    return CrossValidationSettings(
        Path(stored["solution"]), questions, contexts, out=folder, folds=stored["folds"], seed=stored["seed"],
        alike=stored["alike"], against=tuple(map(Path, stored["against"])), stack=stored["stack"],
        changes=tuple(stored["changes"]), calibration=stored.get("calibration", "temperature"),
    )  # fmt: skip


def _check_blind(experiment: Experiment, ranker: str | None) -> None:
    """Raise ``ConfigError``, before any training, for a ranker that cannot be trained without contexts."""
    for spec in experiment.specs:
        if spec.command is None or ranker not in (None, spec.name):
            continue
        # A fault of its settings is told as such.
        spec.run(experiment.paths, None)
        try:
            spec.untaught().run(experiment.paths._replace(contexts=None), None)
        except ConfigError as error:
            raise ConfigError(
                f"the ranker {spec.name!r} cannot be trained without contexts", where="--withhold",
                expected="rankers that can also answer from the question alone",
                cure="--withhold all, for which nothing more is trained, or --ranker ANOTHER",
            ) from error  # fmt: skip


def _blind(experiment: Experiment, folds: Folds, weights: dict[str, float], withheld: str) -> Probabilities:
    """Out-of-fold probabilities of the same rankers without the input, ``(n, k)``."""
    present = experiment.questions.present
    if withheld == "all":
        return np.asarray(present / present.sum(axis=1, keepdims=True), dtype=np.float32)
    say(f"without {withheld}:")
    specs = tuple(spec for spec in experiment.specs if weights.get(spec.name))
    tables = out_of_fold(_withheld(experiment, folds, withheld, specs), folds)
    alike = [*calibrated(experiment, folds, tables).values()]
    return blend(alike, [weights[name] for name in tables], present, experiment.solution.blend)


def _withheld(
    experiment: Experiment, folds: Folds, withheld: str, specs: tuple[RankerSpec, ...]
) -> Experiment:
    """The same experiment with something withheld, in a subfolder of its own.

    No ranker has its teacher there, who knew what is withheld.
    """
    folder = experiment.folder / f"without-{withheld}"
    paths, questions = experiment.paths._replace(folder=folder, contexts=None), experiment.questions
    specs = tuple(spec.untaught() for spec in specs)
    if withheld == "question":
        nothing = tuple(_NOTHING for _ in questions.prompts)
        questions = dataclasses.replace(questions, prompts=nothing)
        paths = paths._replace(questions=folder / "questions.parquet", folds=folder / FOLDS)
        _write_questions(paths.questions, questions)
        write_folds(paths.folds, questions, folds)
        specs = tuple(_with_list(spec, experiment.questions, questions, folder) for spec in specs)
    settings = dataclasses.replace(experiment.settings, fold=None)
    return dataclasses.replace(
        experiment, settings=settings, paths=paths, specs=specs, questions=questions, contexts=None
    )


def _with_list(spec: RankerSpec, known: Questions, blanked: Questions, folder: Path) -> RankerSpec:
    """Rewrite its list of questions to drop, which names them by a hash that a blank prompt changes."""
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


def _write_bits(
    path: Path,
    questions: Questions,
    seen: Probabilities,
    bits: npt.NDArray[np.float64],
    recorded: Dynamics | None,
) -> None:
    """Write every question's V-information, margin and, if recorded, its data map, hardest first."""
    order = np.argsort(bits, kind="stable")
    margins = normalised_margin(seen, questions.answers, questions.present)
    marks = questions.fingerprints()
    table = pa.table(
        {
            "id": [id_text(questions.ids[row]) for row in order],
            "question": [marks[row] for row in order],
            "bits": bits[order],
            "margin": margins[order],
            **(dynamics_columns(recorded.take(order)) if recorded else {}),
        }
    )
    with whole_file(path) as aside:
        pq.write_table(table, aside)
