"""Paths below /kaggle/input in the code: they hold in one layout of the mounts, and not in the others."""

from __future__ import annotations

import re
from collections import defaultdict

from inference.notebook.rehearsal.cases import LAYOUTS, Mounts, mounts
from inference.notebook.rehearsal.opened import OpenedBundle
from inference.notebook.rehearsal.static.code import parsed
from inference.notebook.rehearsal.verdict import ErrorClass, Findings

_PATH = re.compile(r"/kaggle/input/([\w.@-][^\s'\"*?\[\]{}()$;|&<>]*)")
_CURE = 'look for the file: next(Path("/kaggle/input").glob("**/NAME")); mounts differ in their folders'


def check_mount_paths(bundle: OpenedBundle, found: Findings) -> None:
    """A fault for each input that is named by paths which do not cover every layout."""
    owner, slug = bundle.id.split("/")
    layouts = {name: mounts(name, owner, slug, bundle.competition) for name in LAYOUTS}
    covered: dict[str, set[str]] = defaultdict(set)
    first: dict[str, tuple[str, str]] = {}
    for code in parsed(bundle.cells):
        for path in (path.rstrip("/") for text in code.texts() for path in _PATH.findall(text)):
            name, holds = _of(path, layouts)
            covered[name] |= holds
            first.setdefault(name, (path, code.where))
    for name, (path, where) in first.items():
        if missed := [layout for layout in LAYOUTS if layout not in covered[name]]:
            there = f"there is none in the layout {missed[0]!r} of the mounts"
            if not covered[name]:
                there = "no input of the bundle is mounted there"
            cause = f"a hard-coded path: /kaggle/input/{path}; {there}"
            found.fault(ErrorClass.EXCEPTION, cause, _CURE, where)


def _of(path: str, layouts: dict[str, Mounts]) -> tuple[str, set[str]]:
    """Which input a path is in (or the path itself if it is in none), and in which layouts it is there."""
    for field in Mounts._fields:
        places = {layout: getattr(each, field) for layout, each in layouts.items()}
        holds = {name for name, place in places.items() if f"{path}/".startswith(f"{place}/")}
        # A folder above it, such as /kaggle/input/competitions, names it as well.
        holds |= {name for name, place in places.items() if f"{place}/".startswith(f"{path}/")}
        if holds:
            return field, holds
    return path, set()
