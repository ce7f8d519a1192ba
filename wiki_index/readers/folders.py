"""Which files of a folder are a corpus: what is skipped, what appears twice, which part is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kaggle_rag.data.compressed import COMPRESSED
from kaggle_rag.runtime.errors import InputError
from kaggle_rag.runtime.words import counted

# What file managers, archivers and notebooks leave next to a user's files.
_REMAINS = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
_DIGITS = re.compile(r"(\d+)")
_SHARD = re.compile(r"(.*-)(\d{3,6})(-of-(\d{3,6}).*)")
_PAGES = re.compile(r"(.*?)\d*(\.xml-p)(\d+)p(\d+)(.*)")
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*?(?:\.bz2)?)")
# The parts of a split ZIM archive: .zimaa, .zimab, ...
ZIM_PART = re.compile(r"\.zim([a-z])([a-z])", re.IGNORECASE)
_SHOWN = 5


def is_remains(path: Path) -> bool:
    """Whether a path (relative to the corpus) is hidden or was not put there by the user."""
    return any(part.startswith(".") or part.lower() in _REMAINS for part in path.parts)


def visible(root: Path) -> list[Path]:
    """The files of a folder in name order (``part2`` before ``part10``), without hidden ones."""
    paths = (path for path in root.rglob("*") if not is_remains(path.relative_to(root)))
    return sorted((path for path in paths if path.is_file()), key=_by_number)


def _by_number(path: Path) -> tuple[list[tuple[str, int]], str]:
    parts = _DIGITS.split(path.as_posix())
    return [(text, int(number)) for text, number in zip(parts[::2], [*parts[1::2], -1])], path.as_posix()


def refuse_twice(files: Iterable[Path]) -> None:
    """Raise if two files are the same: packed and unpacked, whole and in parts, a dump in two layouts."""
    whole: dict[str, Path] = {}
    parts: dict[str, Path] = {}
    for file in files:
        key = _unpacked_name(file)
        if (part := _PAGES.fullmatch(key)) or ZIM_PART.fullmatch(file.suffix):
            parts[(part[1] + ".xml") if part else key[:-2]] = file
        elif key in whole:
            raise _same_articles(whole[key], file)
        else:
            whole[key] = file
    for key, file in parts.items():
        if key in whole:
            raise _same_articles(whole[key], file)


def _unpacked_name(path: Path) -> str:
    """A path without what only shows how the file is packed."""
    name = path.as_posix()
    if name.lower().endswith(COMPRESSED):
        name = name.rpartition(".")[0]
    return name.replace("-multistream", "")


def _same_articles(one: Path, other: Path) -> InputError:
    return InputError(
        f"{one.name} and {other.name} hold the same articles",
        where=other.parent,
        expected="every article once",
        cure="move one of the two out of the folder, or pass the file itself instead of the folder",
    )


def zim_parts(path: Path) -> list[Path]:
    """All parts of the split archive that ``path`` (``w.zim`` or one of its parts) names, in order."""
    stem = path.stem if ZIM_PART.fullmatch(path.suffix) or path.suffix.lower() == ".zim" else path.name
    siblings = path.parent.iterdir() if path.parent.is_dir() else ()
    return sorted(file for file in siblings if file.stem == stem and ZIM_PART.fullmatch(file.suffix))


def require_all_parts(files: Sequence[Path]) -> None:
    """Raise if the file names show that a part of a split corpus is missing."""
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
                f"parts of a split corpus are missing: {missing}",
                where=Path(key[0]).parent,
                expected=f"all parts of {Path(key[0]).name}…",
                cure="fetch what is missing; to use a part on purpose, pass one file, or rename the files "
                "without numbers",
            )


def _missing(key: tuple[str, ...], parts: list[tuple[int, ...]]) -> str:
    if key[1] == "zim":
        present = {number for (number,) in parts}
        missing = [number for number in range(max(present)) if number not in present]
        return ", ".join(f"zim{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in missing[:_SHOWN])
    return _missing_shards(key, parts) if len(parts[0]) == 1 else _missing_pages(parts)


def _missing_shards(key: tuple[str, ...], parts: list[tuple[int, ...]]) -> str:
    """Names such as train-00003-of-00041; some count from 0, some from 1."""
    present, total = {number for (number,) in parts}, int(key[2])
    first = 1 if total in present and 0 not in present else 0
    missing = [number for number in range(first, first + total) if number not in present]
    names = ", ".join(f"{number:0{len(key[2])}d}" for number in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"{len(missing)} of {counted(total, 'shard')} ({names}{more})" if missing else ""


def _missing_pages(parts: list[tuple[int, ...]]) -> str:
    """Names such as pages-articles2.xml-p41243p151573: each part continues where the last ended."""
    after = 0
    for first, last in sorted(parts):
        if first > after + 1:
            return f"pages {after + 1} to {first - 1}"
        after = max(after, last)
    return ""


def gaps(files: Sequence[Path]) -> list[str]:
    """Files that seem to be missing among numbered ones whose names do not show how many there are.

    Only groups of three or more files with fewer than half as many gaps count: ``part1, part2, part4``.
    Files numbered by years or ids have more gaps.
    """
    groups: dict[tuple[Path, str, str], dict[int, int]] = {}
    for file in files:
        if (match := _NUMBERED.fullmatch(file.name)) and not _SHARD.fullmatch(file.name):
            groups.setdefault((file.parent, match[1], match[3]), {})[int(match[2])] = len(match[2])
    missing = []
    for (folder, front, back), numbers in groups.items():
        first, last = min(numbers), max(numbers)
        between = [number for number in range(first, last) if number not in numbers]
        if len(numbers) > 2 and 0 < len(between) < len(numbers) / 2:
            missing += [(folder / f"{front}{n:0{numbers[first]}d}{back}").as_posix() for n in between]
    return missing
