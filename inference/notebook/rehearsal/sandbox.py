"""One run of the notebook: its inputs, its limits, and what it left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from inference.notebook.rehearsal.cases import Mounts
from inference.notebook.rehearsal.environment import Environment, site_of
from inference.notebook.rehearsal.machine import CORES, UNSHARE, Means, scope
from inference.notebook.rehearsal.opened import OpenedBundle
from inference.notebook.rehearsal.watch import Caps, Watched, watch
from kaggle_rag.runtime.errors import KitError

_HERE = Path(__file__).parent
# What a run inherits: the user's language, threads and GPU, and the way to systemd.
_INHERITED = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
              "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")  # fmt: skip
_INPUT, _WORKING, _CONTROL, _HOME = "/kaggle/input", "/kaggle/working", "/rehearsal", "/root"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes
    ----------
    watched : what it took.
    error, message : name and text of what the notebook raised; empty if it ended well.
    printed : all that its cells printed.
    changed : an input that it changed; empty if none. Only where inputs are copies.
    working : its working folder.
    caps : what it was allowed.
    """

    watched: Watched
    error: str
    message: str
    printed: str
    changed: str
    working: Path
    caps: Caps


class Sandbox:
    """Runs the notebook of a bundle in folders of their own.

    Parameters
    ----------
    template : an environment as `Environment.make` made it; each run gets a copy.
    folder : where the folders of the runs are made.
    gpu : bytes of the GPU's memory that a run may take.
    """

    def __init__(
        self,
        bundle: OpenedBundle,
        environment: Environment,
        template: Path,
        means: Means,
        gpu: int,
        folder: Path,
    ) -> None:
        self.bundle, self.environment, self.template = bundle, environment, template
        self.means, self.gpu, self.folder = means, gpu, folder

    def run(
        self, name: str, mounted: Mounts, caps: Caps, on_seconds: Callable[[float], object] | None = None
    ) -> Outcome:
        """Run the notebook once.

        Parameters
        ----------
        name : of the case; its folder has the competition's files in ``competition/`` already.
        on_seconds : is given, about once a second, the seconds since its start.
        """
        case = self.folder / name
        run = (_Enclosed if self.means.namespaces else _Copied)(self, case, mounted, caps)
        capped = scope(caps.ram) if self.means.control_group else []
        try:
            run.prepare()
            with (case / "control" / "log.txt").open("wb") as log:
                process = subprocess.Popen(
                    [*capped, *run.command()], env=run.variables(), cwd=case / "control",
                    start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
                watched = watch(process, caps, run.tmp, case / "working", on_seconds)
            return run.outcome(watched)
        finally:
            _clear(case)


# What is kept of a run besides what it wrote and what it was given.
_KEPT = {"executed.ipynb", "log.txt", "outcome.json"}


def _clear(case: Path) -> None:
    """Remove what each run gets anew."""
    inputs = case / "input"
    for folder in [inputs, *inputs.rglob("*")] if inputs.is_dir() else ():
        if folder.is_dir():
            folder.chmod(0o755)
    made = [path for path in (case / "control").iterdir() if path.name not in _KEPT]
    for path in [inputs, case / "root", case / "kaggle", case / "tmp", *made]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class _Run:
    """What both ways of running share."""

    tmp: Path | None = None

    def __init__(self, sandbox: Sandbox, case: Path, mounted: Mounts, caps: Caps) -> None:
        self.sandbox, self.case, self.mounted, self.caps = sandbox, case, mounted, caps
        self.control = case / "control"

    @property
    def inside(self) -> str:
        """The path by which the run knows the folder ``control``."""
        return str(self.control)

    @property
    def home(self) -> str:
        """The user's folder in the run."""
        return str(self.control / "home")

    @property
    def working(self) -> str:
        """The folder that the notebook is run in."""
        return str(self.case / "working")

    def datasets(self) -> Iterator[tuple[str, Path]]:
        """Where below the inputs each dataset of the bundle is mounted, and its folder."""
        for number, folder in enumerate(self.sandbox.bundle.folders, 1):
            yield self.mounted.dataset + (f"-{number}" if number > 1 else ""), folder

    def prepare(self) -> None:
        for name in ("working", "control/home"):
            (self.case / name).mkdir(parents=True)
        shutil.copytree(self.sandbox.template, self.control / "venv", symlinks=True)
        shutil.copy(self.sandbox.bundle.notebook, self.control / "notebook.ipynb")
        shutil.copy(_HERE / "run_cells.py", self.control)
        if stand_ins := self.sandbox.environment.stand_ins:
            shutil.copytree(stand_ins, self.control / "stand_ins")
        job = {
            "python": f"{self.inside}/venv/bin/python",
            "kernel_paths": [str(path) for path in self.sandbox.environment.of_kernel],
            "working": self.working, "cores": CORES if sys.platform == "linux" else 0,
        }  # fmt: skip
        (self.control / "job.json").write_text(json.dumps(job), encoding="utf-8")

    def command(self) -> list[str]:
        return [sys.executable, f"{self.inside}/run_cells.py", self.inside]

    def variables(self) -> dict[str, str]:
        control, means = self.inside, self.sandbox.means
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        made = {
            "HOME": self.home, "IPYTHONDIR": f"{self.home}/.ipython", "JUPYTER_RUNTIME_DIR": control,
            # In a rerun Kaggle sets these two.
            "KAGGLE_IS_COMPETITION_RERUN": "1", "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            # Where this machine's pip looks is no place of Kaggle's.
            "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1",
        }  # fmt: skip
        if self.sandbox.environment.stand_ins:
            made["PIP_FIND_LINKS"] = f"{control}/stand_ins"
        if means.gpu_capped:
            share = min(1.0, self.sandbox.gpu / means.gpu)
            made["PYTORCH_CUDA_ALLOC_CONF"] = f"per_process_memory_fraction:{share:.4f}"
        return {**kept, **made}

    def changed(self) -> str:
        return ""

    def outcome(self, watched: Watched) -> Outcome:
        """What the run left."""
        found: Mapping[str, Any] = {}
        path = self.control / "outcome.json"
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
        elif not watched.ended:
            log = (self.control / "log.txt").read_text(encoding="utf-8", errors="replace")
            raise KitError(
                "\n  ".join(["the rehearsal itself failed:", *log.strip().splitlines()[-6:]]),
                where=self.case, cure="tell us; --keep FOLDER keeps the log",
            )  # fmt: skip
        error, message, printed = (str(found.get(key, "")) for key in ("error", "message", "printed"))
        return Outcome(
            watched, error, message, printed, self.changed(), self.case / "working", self.caps
        )  # fmt: skip


class _Enclosed(_Run):
    """In namespaces: ``/kaggle`` is there, inputs are mounted read-only, and no network."""

    def __init__(self, sandbox: Sandbox, case: Path, mounted: Mounts, caps: Caps) -> None:
        super().__init__(sandbox, case, mounted, caps)
        # An own /tmp that is only weighed lies on disk.
        self.tmp = None if sandbox.means.own_tmp else case / "tmp"

    @property
    def inside(self) -> str:
        return _CONTROL

    @property
    def home(self) -> str:
        return _HOME

    @property
    def working(self) -> str:
        return _WORKING

    def prepare(self) -> None:
        super().prepare()
        for name in ("root", "kaggle"):
            (self.case / name).mkdir()
        shutil.copy(_HERE / "enclose.py", self.control)
        if self.tmp:
            self.tmp.mkdir()

    def command(self) -> list[str]:
        # Notebooks write elsewhere below /kaggle too, such as to /kaggle/temp.
        folders = {_CONTROL: self.control, _HOME: self.control / "home", "/kaggle": self.case / "kaggle"}
        writable = {name: str(folder) for name, folder in folders.items()}
        writable[_WORKING] = str(self.case / "working")
        if self.tmp:
            writable["/tmp"] = str(self.tmp)
        job = {
            "root": str(self.case / "root"), "tmp": self.caps.tmp if self.tmp is None else None,
            "writable": writable, "needed": self._needed(), "cwd": _WORKING, "command": super().command(),
            "readable": {
                **{f"{_INPUT}/{name}": str(folder) for name, folder in self.datasets()},
                f"{_INPUT}/{self.mounted.competition}": str(self.case / "competition"),
            },
        }  # fmt: skip
        return [*UNSHARE, sys.executable, str(self.control / "enclose.py"), json.dumps(job)]

    def _needed(self) -> list[str]:
        """Where the Pythons and their packages are."""
        environment = self.sandbox.environment
        pythons = [Path(sys.executable).resolve(), environment.python.resolve()]
        folders = {
            *(python.parent.parent for python in pythons),
            *environment.packages,
            *environment.of_kernel,
        }
        return sorted({sys.prefix, sys.base_prefix, *map(str, folders)})


class _Copied(_Run):
    """Without namespaces: inputs are copies, found by ``KAGGLE_INPUT``, and compared afterwards."""

    def __init__(self, sandbox: Sandbox, case: Path, mounted: Mounts, caps: Caps) -> None:
        super().__init__(sandbox, case, mounted, caps)
        self.tmp = case / "tmp"
        self.inputs = case / "input"
        self.before: dict[str, tuple[int, int]] = {}

    def prepare(self) -> None:
        super().prepare()
        assert self.tmp
        self.tmp.mkdir()
        for name, folder in self.datasets():
            shutil.copytree(folder, self.inputs / name)
        shutil.copytree(self.case / "competition", self.inputs / self.mounted.competition)
        for path in self.inputs.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        self.before = self._seen()
        site = site_of(self.control / "venv")
        shutil.copy(_HERE / "no_network.py", site / "_rehearsal_no_network.py")
        (site / "rehearsal_network.pth").write_text("import _rehearsal_no_network\n", encoding="utf-8")

    def _seen(self) -> dict[str, tuple[int, int]]:
        paths = {path.relative_to(self.inputs).as_posix(): path.stat() for path in self.inputs.rglob("*")}
        return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in paths.items()}

    def variables(self) -> dict[str, str]:
        folders = {"KAGGLE_INPUT": self.inputs, "KAGGLE_RAG_INPUTS": self.inputs, "TMPDIR": self.tmp}
        made = {name: str(folder) for name, folder in folders.items()}
        # Python would keep compiled files beside its sources, which a read-only input silently refuses.
        made["PYTHONDONTWRITEBYTECODE"] = "1"
        return {**super().variables(), **made, "KAGGLE_WORKING": self.working}

    def changed(self) -> str:
        after = self._seen()
        differing = [name for name in {**self.before, **after} if self.before.get(name) != after.get(name)]
        # A folder changes with what is in it: the deepest name tells more.
        return max(differing, key=lambda name: (name.count("/"), name), default="")
