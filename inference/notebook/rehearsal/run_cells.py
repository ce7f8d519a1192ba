"""Run a notebook in its environment, as the judge does: all cells, until one raises an error.

Run by its path, within the sandbox, with the standard library, nbformat and nbclient alone; it is given a
folder with ``job.json``, and leaves ``executed.ipynb`` and ``outcome.json`` there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

# A start from slow storage takes long, and is no fault.
_STARTUP_SECONDS = 600
_KERNEL = """\
import sys
sys.path += {paths!r}
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    if job["cores"]:
        # As many as the judge has; the kernel and what it starts inherit it.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["cores"]])
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    os.environ["JUPYTER_PATH"] = _kernel_spec(folder, job)
    # Sockets of the file system need no network.
    manager = AsyncKernelManager(
        kernel_name="rehearsal", transport="ipc", connection_file=str(folder / "kernel.json"),
        ip=str(folder / "ipc"),
    )  # fmt: skip
    client = NotebookClient(
        notebook, km=manager, timeout=None, startup_timeout=_STARTUP_SECONDS,
        resources={"metadata": {"path": job["working"]}},
    )  # fmt: skip
    outcome = {"error": "", "message": "", "cell": 0}
    try:
        client.execute()
    except CellExecutionError as error:
        outcome |= {"error": error.ename, "message": error.evalue}
    except DeadKernelError:
        outcome |= {"error": "DeadKernelError", "message": "the notebook's process died"}
    finally:
        nbformat.write(notebook, folder / "executed.ipynb")  # type: ignore[no-untyped-call]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outcome["cell"] = sum(cell.execution_count is not None for cell in code)
    outcome["printed"] = "".join(_printed(cell) for cell in code)
    (folder / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")


def _kernel_spec(folder: Path, job: dict[str, Any]) -> str:
    """Write how the kernel is started; return the folder to look in."""
    spec = folder / "jupyter" / "kernels" / "rehearsal"
    spec.mkdir(parents=True)
    start = folder / "start_kernel.py"
    start.write_text(_KERNEL.format(paths=job["kernel_paths"]), encoding="utf-8")
    argv = [job["python"], str(start), "-f", "{connection_file}"]
    text = json.dumps({"argv": argv, "display_name": "rehearsal", "language": "python"})
    (spec / "kernel.json").write_text(text, encoding="utf-8")
    return str(folder / "jupyter")


def _printed(cell: Any) -> str:
    """What a cell printed; a traceback is no part of it, for it shows lines that did not run."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
