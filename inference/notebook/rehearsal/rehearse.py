"""Rehearse a bundle: look through it, then run its notebook on hidden test sets, under the judge's limits."""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

from inference.notebook.bundle import IMAGE
from inference.notebook.image import Image, read_image
from inference.notebook.rehearsal.cases import Case, chosen, mounts
from inference.notebook.rehearsal.causes import FASTER, fault_of, warnings
from inference.notebook.rehearsal.environment import (
    KERNEL,
    KINDS,
    Environment,
    this_environment,
    wheels_environment,
)
from inference.notebook.rehearsal.hidden import ODD, Visible, hidden, write_competition
from inference.notebook.rehearsal.image_environment import image_environment, known
from inference.notebook.rehearsal.machine import Means, means
from inference.notebook.rehearsal.opened import OpenedBundle, opened
from inference.notebook.rehearsal.report import CaseResult, RehearsalReport
from inference.notebook.rehearsal.sandbox import Sandbox
from inference.notebook.rehearsal.static import look_through
from inference.notebook.rehearsal.timing import STORAGE, Forecast, Pace, pace
from inference.notebook.rehearsal.verdict import ErrorClass, Fault
from inference.notebook.rehearsal.watch import Caps
from kaggle_rag.runtime.console import duration, progress, say
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import require_space
from kaggle_rag.runtime.words import counted

# The judge's machine without and with GPUs (Kaggle, 2026-11), in bytes.
RAM, RAM_WITH_GPU, GPU_MEMORY = 30 * 10**9, 29 * 10**9, 15 * 10**9
TMP, WORKING = 5 * 10**9, 20 * 10**9
LIMIT = 9 * 3600.0
# Hidden questions for each visible one, as in the LLM Science Exam.
_EXPECTED = 20
# What an environment and the files of a run take, in bytes; wheels are unpacked to about three times theirs.
_RUN, _UNPACKED = 200 * 10**6, 3


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be rehearsed, and how.

    Attributes
    ----------
    environment : a key of `KINDS`; ``None``: ``image`` if one is given, else ``this``.
    image : the image's ``pip freeze``; ``None``: the one in the bundle, if there is one.
    cases : names; ``None`` for all.
    ram, gpu, tmp, working : caps in bytes; ``ram`` ``None``: what the notebook's machine has.
    limit : seconds that the competition allows.
    expected : hidden questions (default: 20 times the visible ones).
    storage : bytes a second of the input's disk.
    top : letters that the competition takes per question.
    keep : a folder for the files of the runs; ``None`` removes them.
    images : a folder that keeps the image's environment for the next rehearsal.
    """

    bundle: Path
    questions: Path | None
    environment: str | None = None
    image: Path | None = None
    python: str | None = None
    cases: tuple[str, ...] | None = None
    quick: bool = False
    ram: int | None = None
    gpu: int = GPU_MEMORY
    tmp: int = TMP
    working: int = WORKING
    limit: float = LIMIT
    expected: int | None = None
    storage: float = STORAGE
    top: int = 3
    seed: int = 0
    keep: Path | None = None
    images: Path | None = None
    dry_run: bool = False


def rehearse(wanted: Wanted, able: Means | None = None) -> RehearsalReport:
    """Rehearse a bundle, or with ``dry_run`` say how it would be.

    Parameters
    ----------
    able : what this machine can enforce; ``None`` finds out.

    Raises
    ------
    KitError : no bundle, no test file, no image, not enough disk; before anything is run.
    """
    bundle, visible, image, cases = _read(wanted)
    able = able or means(wanted.tmp)
    _require_mounts(bundle, able)
    ram = wanted.ram or (RAM_WITH_GPU if bundle.gpu else RAM)
    caps = Caps(wanted.limit, ram, wanted.tmp, wanted.working)
    found = look_through(bundle, image, len(visible.rows))
    if not wanted.dry_run:
        # What runs for an hour tells first what it knows already.
        for fault in found.faults:
            say(fault.text())
    kind = wanted.environment or ("image" if wanted.image else "this")
    report = RehearsalReport(
        bundle.id, f"{kind}: {KINDS[kind]}", tuple(found.faults),
        tuple((case, _size(case, visible)) for case in cases), (),
        able.lines(ram, wanted.tmp, wanted.working, wanted.gpu), (*found.notes, *_renamed(visible, bundle)),
    )  # fmt: skip
    if kind == "image":
        known(image)
    if wanted.dry_run:
        return report
    _require_space(wanted, bundle, able)
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        scratch = Path(folder)
        environment = _environment(kind, bundle, image, wanted, scratch)
        environment.make(scratch / "environment")
        place = (wanted.keep or scratch / "runs").absolute()
        sandbox = Sandbox(bundle, environment, scratch / "environment", able, wanted.gpu, place)
        runs = _Runs(sandbox, visible, caps, wanted)
        results = runs.all(cases)
    forecast = runs.forecast()
    return dataclasses.replace(
        report, results=tuple(results), forecast=forecast, overrun=_overrun(forecast),
        notes=(*report.notes, *environment.notes), kept=wanted.keep,
    )  # fmt: skip


def _read(wanted: Wanted) -> tuple[OpenedBundle, Visible, Image | None, list[Case]]:
    """Everything that is given; all that is wrong with it at once."""
    gathered, bundle, visible, image, cases = Gathered(), None, None, None, list[Case]()
    with gathered.check():
        bundle = opened(wanted.bundle)
    with gathered.check():
        visible = Visible.read(_questions(wanted.questions))
    with gathered.check():
        image = _image_of(wanted, bundle)
    with gathered.check():
        cases = chosen(wanted.cases, quick=wanted.quick)
    if not wanted.dry_run:
        with gathered.check():
            _require_kernel()
    if wanted.keep:
        with gathered.check():
            _require_free(wanted.keep)
    gathered.tell()
    assert bundle and visible
    return bundle, visible, image, cases


def _image_of(wanted: Wanted, bundle: OpenedBundle | None) -> Image | None:
    """The image that is given, or the one for which the bundle was made."""
    if wanted.image:
        return read_image(wanted.image, wanted.python)
    if bundle and (own := bundle.at(IMAGE)).is_file():
        return read_image(own, wanted.python or bundle.listed.get("python"))
    return None


def _questions(path: Path | None) -> Path:
    if path is None:
        raise InputError(
            "a bundle holds no test file",
            expected="--questions test.csv, the competition's visible test file",
            cure="kaggle competitions download -c COMPETITION -f test.csv",
        )  # fmt: skip
    return path


def _require_kernel() -> None:
    missing = [name for name in ("nbclient", KERNEL) if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"a rehearsal runs notebooks, and {', '.join(missing)} is not installed",
            cure=f"pip install {' '.join(missing)} (the extra: rehearsal)",
        )


def _require_free(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ArtifactError(
            "something is there already",
            where=folder,
            expected="a new or empty folder",
            cure="choose another --keep",
        )


def _require_mounts(bundle: OpenedBundle, able: Means) -> None:
    if not able.namespaces and "/kaggle/" in bundle.source and "KAGGLE_INPUT" not in bundle.source:
        raise ConfigError(
            "this machine cannot mount /kaggle/input (it allows no user namespaces), and the notebook does "
            "not read the variable KAGGLE_INPUT instead", where=bundle.notebook,
            cure="rehearse on Linux, where `unshare -rmn true` works",
        )  # fmt: skip


def _require_space(wanted: Wanted, bundle: OpenedBundle, able: Means) -> None:
    wheels = sum(path.stat().st_size for path in (bundle.folder / "wheels").glob("*.whl"))
    copies = 0 if able.namespaces else bundle.bytes
    require_space(wanted.keep or Path(tempfile.gettempdir()), _RUN + _UNPACKED * wheels + copies)


def _environment(
    kind: str, bundle: OpenedBundle, image: Image | None, wanted: Wanted, scratch: Path
) -> Environment:
    if kind == "image":
        return image_environment(bundle, image, (wanted.images or scratch / "image").absolute())
    return (this_environment if kind == "this" else wheels_environment)(bundle, scratch)


def _size(case: Case, visible: Visible) -> int:
    return case.factor * len(visible.rows) + (len(ODD) if case.odd else 0)


class _Runs:
    """The cases one after the other, and what they took so far."""

    def __init__(self, sandbox: Sandbox, visible: Visible, caps: Caps, wanted: Wanted) -> None:
        self.sandbox, self.visible, self.caps, self.wanted = sandbox, visible, caps, wanted
        self.name = _name_of(visible, sandbox.bundle)
        self.sizes: list[int] = []
        self.seconds: list[float] = []
        self.last: Pace | None = None

    def all(self, cases: Sequence[Case]) -> list[CaseResult]:
        """Run them; one that would pass the time limit by what the others took is not run."""
        results = []
        for number, case in enumerate(cases):
            count, so_far = _size(case, self.visible), self.pace()
            left = self._expected([_size(each, self.visible) for each in cases[number:]])
            ahead = f", about {duration(left)} to go" if left else ""
            say(f"case {number + 1} of {len(cases)}: {case.name}, {counted(count, 'question')}{ahead}")
            if so_far and so_far.seconds(count) > self.caps.seconds:
                results.append(CaseResult(case, count, None, _too_long(so_far, count, self.caps.seconds)))
            else:
                results.append(self._run(case))
            fault = results[-1].fault
            say(f"  {fault.text()}" if fault else "  passed")
        return results

    def _run(self, case: Case) -> CaseResult:
        draw = self.wanted.seed + sum(map(ord, case.name))
        questions = hidden(self.visible, case.factor, odd=case.odd, seed=draw)
        write_competition(self.sandbox.folder / case.name / "competition", self.name, self.visible, questions)
        owner, slug = self.sandbox.bundle.id.split("/")
        mounted = mounts(case.layout, owner, slug, self.sandbox.bundle.competition)
        with progress(self._expected([len(questions)]), f"case {case.name}", "second") as bar:
            outcome = self.sandbox.run(
                case.name, mounted, self.caps,
                lambda passed: bar.update(min(passed, bar.total or passed) - bar.n),
            )  # fmt: skip
        fault = fault_of(outcome, questions.ids, self.visible.letters, self.wanted.top)
        self.last = Pace(0.0, outcome.watched.seconds / len(questions))
        if fault is None and not case.odd:
            self.sizes.append(len(questions))
            self.seconds.append(outcome.watched.seconds)
        return CaseResult(case, len(questions), outcome.watched, fault, tuple(warnings(outcome)))

    def _expected(self, sizes: Sequence[int]) -> float | None:
        """Seconds for these numbers of questions; by the last case alone, it is more than they will take."""
        line = self.pace() or self.last
        return sum(map(line.seconds, sizes)) if line else None

    def pace(self) -> Pace | None:
        """The line through the cases that passed."""
        return pace(self.sizes, self.seconds)

    def forecast(self) -> Forecast | None:
        """What the real rerun will take, if the cases tell it."""
        line, bundle = self.pace(), self.sandbox.bundle
        expected = self.wanted.expected or _EXPECTED * len(self.visible.rows)
        if line is None:
            return None
        storage, limit = self.wanted.storage, self.caps.seconds
        return Forecast(line, expected, bundle.bytes, storage, limit, bundle.own_limit)


def _name_of(visible: Visible, bundle: OpenedBundle) -> str:
    """What the test file is called: as it is, if the notebook looks for that, else test.csv and the like."""
    name = visible.path.name
    is_plain = visible.path.suffix == visible.ending
    return name if is_plain and name in bundle.source else f"test{visible.ending}"


def _renamed(visible: Visible, bundle: OpenedBundle) -> list[str]:
    """A note on a test file that has another name in the rehearsal."""
    name = _name_of(visible, bundle)
    if name == visible.path.name:
        return []
    return [
        f"{visible.path.name} stands there as {name}, which the notebook looks for: a competition whose file "
        "has another name fails where this passes"
    ]


def _too_long(line: Pace, count: int, limit: float) -> Fault:
    cause = (
        f"{counted(count, 'question')} would take {duration(line.seconds(count))}, and {duration(limit)} "
        "are allowed"
    )
    return Fault(ErrorClass.TIMEOUT, cause, FASTER)


def _overrun(forecast: Forecast | None) -> Fault | None:
    if forecast is None or not forecast.overruns:
        return None
    cause = (
        f"{counted(forecast.questions, 'question')} would take {duration(forecast.slow_seconds)} with a "
        f"slow start and slow storage, and {duration(forecast.limit)} are allowed"
    )
    return Fault(ErrorClass.TIMEOUT, cause, FASTER)
