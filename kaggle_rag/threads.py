"""How threads wait for each other: set in the environment before torch or FAISS start theirs.

Both bring a copy of GNU's OpenMP, whose idle threads spin for some milliseconds before they sleep. On
idle cores that is fast. Where other processes want the same cores, a spinning thread keeps the one it
waits for from running, and work of seconds takes a minute.
"""

from __future__ import annotations

import os

# Turns of the loop in which an idle thread waits before it sleeps. 1,000 is what GNU's OpenMP takes by
# itself as soon as a process has more threads than cores; of other processes it knows nothing
# (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html).
_SPINS = "1000"
# Whoever set one of these has decided how threads wait.
_DECIDED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_briefly() -> None:
    """Let idle threads of this process, and of those it starts, wait briefly, unless the user decided.

    The libraries read it once, when they are loaded: called by the packages of the programs, before
    anything else is imported.
    """
    if not any(name in os.environ for name in _DECIDED):
        os.environ["GOMP_SPINCOUNT"] = _SPINS
