"""What a program sets before anything heavy is imported: how threads wait, and what libraries may print.

Both are set in the environment, which libraries read once, when they are loaded, and which child
processes inherit.
"""

from __future__ import annotations

import logging
import os
import warnings

# Turns of the loop in which an idle thread of GNU's OpenMP waits before it sleeps. torch and FAISS each
# bring a copy, whose threads wait for some milliseconds. If other processes want the same cores, a
# spinning thread keeps the one it waits for from running, and work of seconds takes a minute. 1,000 is
# the library's own default for a process with more threads than cores; it does not know about other
# processes (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html).
_SPINS = "1000"
# Whoever set one of these has decided how threads wait.
_WAITS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
# Messages of libraries to their developers; what a user needs to know is printed by this kit.
_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    # The default anyway; set explicitly, it keeps tokenizers from warning about every child process.
    "TOKENIZERS_PARALLELISM": "true",
}
# bitsandbytes reports at every import that a package of kernels for CPUs is not installed.
_LOGGERS = ("bitsandbytes", "sentence_transformers")


def prepare() -> None:
    """Set both, unless the user did; called by the packages of the programs, before all else."""
    if not any(name in os.environ for name in _WAITS):
        os.environ["GOMP_SPINCOUNT"] = _SPINS
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
