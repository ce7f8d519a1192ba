"""What a training, or its dry run, tells of itself when it ends."""

from __future__ import annotations

import json
from typing import Any

from kaggle_rag.runtime.console import duration
from kaggle_rag.runtime.words import all_counted, counted
from training.loop.settings import CALIBRATED_LOSS


def show_record(record: dict[str, Any], *, dry: bool, as_json: bool) -> None:
    """Print the record of a training, or what a dry run expects of it."""
    if as_json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return
    result = record.get("result", record)
    _table({name: result[name] for name in ("before", "after") if result.get(name)})
    steps = result["steps"]
    if dry:
        print(all_counted(result["notes"]))
        if "memory" in result:
            print(f"memory, for a batch of typical length: {result['memory']}")
        print(f"{counted(steps, 'step')}, about {duration(result['seconds'])}. Nothing was written.")
        return
    best = f", the best at {result['best step']:,}" if result["before"] else ""
    print(f"{counted(steps, 'step')}, {duration(result['seconds'])} since this start{best}")
    # A ranker has no choice of metric.
    if (metric := record["plan"].get("metric", CALIBRATED_LOSS)) in result["after"]:
        gain = result["after"][metric] - result["before"][metric]
        gain = -gain if metric == CALIBRATED_LOSS else gain
        if gain <= 0:
            better = "better" if gain < 0 else "as good"
            print(f"note: {metric} did not improve ({gain:+.4f}): the model it started from is {better}")


def _table(lines: dict[str, dict[str, float]]) -> None:
    """Print figures in columns: one line before training, one after."""
    names = list(next(iter(lines.values()), {}))
    wide = max(map(len, names), default=0) + 2
    if names:
        print(" " * 8 + "".join(f"{name:>{wide}}" for name in names))
    for label, figures in lines.items():
        print(f"{label:<8}" + "".join(f"{figures[name]:{wide}.4f}" for name in names))
