"""What a program sets before anything heavy is imported: how threads wait, and what libraries may say.

Both stand in the environment, where libraries look once, when they are loaded, and from where processes
that a program starts have them too.
"""

from __future__ import annotations

import logging
import os
import warnings

# Turns of the loop in which an idle thread of GNU's OpenMP waits before it sleeps. torch and FAISS bring
# a copy each, whose threads wait for some milliseconds. Where other processes want the same cores, a
# thread that spins keeps the one it waits for from running, and work of seconds takes a minute. 1,000 is
# what the library takes by itself for a process of more threads than cores; of other processes it knows
# nothing (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html).
_SPINS = "1000"
# Whoever set one of these has decided how threads wait.
_WAITS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
# Said by libraries to their developers; what a user needs to know is said by this kit.
_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    # As it is anyway; said aloud, it keeps tokenizers from warning of every process that is started.
    "TOKENIZERS_PARALLELISM": "true",
}
# Of bitsandbytes: that a package of kernels for CPUs is not installed, at every import.
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
