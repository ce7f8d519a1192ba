"""What readers of files report while they read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from kaggle_rag.runtime.errors import InputError


def _raise(fault: InputError) -> None:
    raise fault


@dataclasses.dataclass(frozen=True)
class Watch:
    """
    Attributes
    ----------
    fault : takes the fault of a CSV row that does not fit its header; if it returns, the row is filled up or
        cut, and cells of columns without a name are left out. By default the fault is raised.
    share : takes the share of the file that has been read, from 0 to 1.
    """

    fault: Callable[[InputError], object] = _raise
    share: Callable[[float], object] = lambda share: None


SILENT = Watch()
