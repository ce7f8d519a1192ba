"""Which files of a folder are a corpus: what is passed over, what is there twice, which part is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kaggle_rag.data.compressed import COMPRESSED
from kaggle_rag.runtime.errors import InputError

# What file managers, archivers and notebooks leave beside the files of a person.
_REMAINS = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
_DIGITS = re.compile(r"(\d+)")
_SHARD = re.compile(r"(.*-)(\d{3,6})(-of-(\d{3,6}).*)")
_PAGES = re.compile(r"(.*?)\d*(\.xml-p)(\d+)p(\d+)(.*)")
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*?(?:\.bz2)?)")
# The parts of a divided ZIM archive: .zimaa, .zimab, ...
ZIM_PART = re.compile(r"\.zim([a-z])([a-z])", re.IGNORECASE)
_TOLD = 5


def is_remains(path: Path) -> bool:
    """Whether a path (relative to the corpus) is hidden or something that no person put there."""
    return any(part.startswith(".") or part.lower() in _REMAINS for part in path.parts)


def visible(root: Path) -> list[Path]:
    """The files of a folder in name order (``part2`` before ``part10``), without hidden ones."""
    found = (path for path in root.rglob("*") if not is_remains(path.relative_to(root)))
    return sorted((path for path in found if path.is_file()), key=_by_number)


def _by_number(path: Path) -> tuple[list[tuple[str, int]], str]:
    parts = _DIGITS.split(path.as_posix())
    return [(text, int(number)) for text, number in zip(parts[::2], [*parts[1::2], -1])], path.as_posix()


def refuse_twice(files: Iterable[Path]) -> None:
    """Raise where two files are one: packed and unpacked, whole and in parts, or a dump in two layouts."""
    there: dict[str, Path] = {}
    parts: dict[str, Path] = {}
    for file in files:
        key = _one_name(file)
        if (part := _PAGES.fullmatch(key)) or ZIM_PART.fullmatch(file.suffix):
            parts[(part[1] + ".xml") if part else key[:-2]] = file
        elif key in there:
            raise _twice(there[key], file)
        else:
            there[key] = file
    for key, file in parts.items():
        if key in there:
            raise _twice(there[key], file)


def _one_name(path: Path) -> str:
    """A path without what only says how it is packed."""
    name = path.as_posix()
    if name.lower().endswith(COMPRESSED):
        name = name.rpartition(".")[0]
    return name.replace("-multistream", "")


def _twice(one: Path, other: Path) -> InputError:
    return InputError(
        f"{one.name} and {other.name} hold the same articles",
        where=other.parent,
        expected="every article once",
        cure="move one of the two out of the folder, or name the file itself instead of the folder",
    )


def zim_parts(path: Path) -> list[Path]:
    """All parts of the divided archive that ``path`` (``w.zim`` or one of its parts) stands for, in order."""
    stem = path.stem if ZIM_PART.fullmatch(path.suffix) or path.suffix.lower() == ".zim" else path.name
    siblings = path.parent.iterdir() if path.parent.is_dir() else ()
    return sorted(file for file in siblings if file.stem == stem and ZIM_PART.fullmatch(file.suffix))


def require_all_parts(files: Sequence[Path]) -> None:
    """Raise when names tell that a part of a divided corpus is missing."""
    groups: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for file in files:
        name = file.as_posix()
        if shard := _SHARD.fullmatch(name):
            groups.setdefault((shard[1], shard[3], shard[4]), []).append((int(shard[2]),))
        elif part := _PAGES.fullmatch(name):
            groups.setdefault((part[1], part[2], part[5]), []).append((int(part[3]), int(part[4])))
        elif letters := ZIM_PART.fullmatch(file.suffix):
            first, second = (ord(letter.lower()) - ord("a") for letter in letters.groups())
            groups.setdefault((name[:-2], "zim", ""), []).append((26 * first + second,))
    for key, parts in groups.items():
        if missing := _missing(key, parts):
            raise InputError(
                f"parts of a divided corpus are missing: {missing}",
                where=Path(key[0]).parent,
                expected=f"all parts of {Path(key[0]).name}…",
                cure="fetch what is missing; to use a part on purpose, name one file, or give the files "
                "names that do not count",
            )


def _missing(key: tuple[str, ...], parts: list[tuple[int, ...]]) -> str:
    if key[1] == "zim":
        there = {number for (number,) in parts}
        lost = [number for number in range(max(there)) if number not in there]
        return ", ".join(f"zim{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in lost[:_TOLD])
    return _missing_shards(key, parts) if len(parts[0]) == 1 else _missing_pages(parts)


def _missing_shards(key: tuple[str, ...], parts: list[tuple[int, ...]]) -> str:
    """Names such as train-00003-of-00041; some count from 0, some from 1."""
    there, total = {number for (number,) in parts}, int(key[2])
    first = 1 if total in there and 0 not in there else 0
    missing = [number for number in range(first, first + total) if number not in there]
    names = ", ".join(f"{number:0{len(key[2])}d}" for number in missing[:_TOLD])
    more = f" and {len(missing) - _TOLD} more" if len(missing) > _TOLD else ""
    return f"{len(missing)} of {total} shards ({names}{more})" if missing else ""


def _missing_pages(parts: list[tuple[int, ...]]) -> str:
    """Names such as pages-articles2.xml-p41243p151573: each part goes on where the last ended."""
    after = 0
    for first, last in sorted(parts):
        if first > after + 1:
            return f"pages {after + 1} to {first - 1}"
        after = max(after, last)
    return ""


def gaps(files: Sequence[Path]) -> list[str]:
    """Files that seem to be missing among numbered ones whose names do not tell how many there are.

    Three files or more that are numbered one by one, but for fewer than half of the numbers between them:
    ``part1, part2, part4``. Years and ids leave more out than they name, or less than that is no count.
    """
    groups: dict[tuple[Path, str, str], dict[int, int]] = {}
    for file in files:
        if (found := _NUMBERED.fullmatch(file.name)) and not _SHARD.fullmatch(file.name):
            groups.setdefault((file.parent, found[1], found[3]), {})[int(found[2])] = len(found[2])
    lost = []
    for (folder, front, back), numbers in groups.items():
        first, last = min(numbers), max(numbers)
        between = [number for number in range(first, last) if number not in numbers]
        if len(numbers) > 2 and 0 < len(between) < len(numbers) / 2:
            lost += [(folder / f"{front}{n:0{numbers[first]}d}{back}").as_posix() for n in between]
    return lost
