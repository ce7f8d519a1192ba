"""The packages of a notebook image, as its ``pip freeze`` lists them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from kaggle_rag.runtime.errors import ConfigError, InputError

DEFAULT_PYTHON = "3.12"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_PIN = re.compile(rf"({_NAME})={{2,3}}(\S+)")
_AT = re.compile(rf"({_NAME}) *@ *(\S+)")
_EGG = re.compile(rf"#(?:.*&)?egg=({_NAME})")
_PYTHON = re.compile(r"[Pp]ython[ =]+(3\.\d+)")
_EXPECTED = "lines as `pip freeze` prints them: name==version, name @ URL, -e URL, or comments"
_CURE = "run `pip freeze > freeze.txt` in a notebook of that image"


class Image(NamedTuple):
    """A notebook image.

    Attributes
    ----------
    python : its Python, such as ``3.12``.
    versions : of its packages, by their normalised names.
    unversioned : packages that it has in a version that the list does not tell.
    """

    python: str
    versions: Mapping[str, Version]
    unversioned: frozenset[str]

    def conflicts(self, requirements: Iterable[Requirement]) -> list[str]:
        """The requirements that the image has another version of, each as a phrase."""
        return [
            f"{each.name} {self.versions[name]} (needed: {each})"
            for each in requirements
            if (name := canonicalize_name(each.name)) in self.versions
            and not each.specifier.contains(self.versions[name], prereleases=True)
        ]


def read_image(path: Path, python: str | None = None) -> Image:
    """The image of a file with its ``pip freeze``.

    Parameters
    ----------
    python : its Python; by default what a comment says (``# Python 3.13``), or the tags of its wheels
        (``cp313``), or else `DEFAULT_PYTHON`.

    Raises
    ------
    InputError : this is no ``pip freeze``.
    ConfigError : its wheels are for another Python than ``python``.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("the file is not in UTF-8", where=path, expected=_EXPECTED) from error
    return image_of(text, path, python)


def image_of(text: str, where: str | Path, python: str | None = None) -> Image:
    """`read_image` of a text; ``where`` is what messages call it."""
    if python and not re.fullmatch(r"3\.\d+", python):
        raise ConfigError(f"cannot read {python!r}", where="--python", expected="a version such as 3.12")
    versions: dict[str, Version] = {}
    unversioned: set[str] = set()
    pythons: set[str] = set()
    told = None
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line.startswith("#"):
            told = told or (_PYTHON.search(line) or [None, None])[1]
        if not line or line.startswith("#"):
            continue
        name, version, tag = _entry(line, f"{where}:{number}")
        pythons |= {tag} if tag else set()
        if name and version and versions.setdefault(name, version) != version:
            raise InputError(f"{name} appears in two versions", where=f"{where}:{number}", expected=_EXPECTED)
        if name and not version:
            unversioned.add(name)
    if not versions:
        raise InputError("no package is listed here", where=where, expected=_EXPECTED, cure=_CURE)
    known = told or (pythons.pop() if len(pythons) == 1 else None)
    if python and known and python != known:
        raise ConfigError(f"this image has Python {known}, not {python}", where=where, cure="remove --python")
    return Image(python or known or DEFAULT_PYTHON, versions, frozenset(unversioned - versions.keys()))


def _entry(line: str, where: str) -> tuple[str, Version | None, str]:
    """Name, version, and Python of a line; what it does not tell is empty."""
    if pin := _PIN.fullmatch(line):
        return canonicalize_name(pin[1]), _version(pin[2]), ""
    if at := _AT.fullmatch(line):
        return canonicalize_name(at[1]), *_of_url(at[2])
    if line.startswith("-"):
        egg = _EGG.search(line)
        return canonicalize_name(egg[1]) if egg else "", None, ""
    raise InputError(f"not a line of a freeze: {line[:80]!r}", where=where, expected=_EXPECTED, cure=_CURE)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        # Some old packages have versions that are none.
        return None


def _of_url(url: str) -> tuple[Version | None, str]:
    """Version and Python of the file that a URL names, as far as its name tells."""
    try:
        file = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
        if not file.endswith(".whl"):
            return parse_sdist_filename(file)[1], ""
        _, version, _, tags = parse_wheel_filename(file)
    except (ValueError, InvalidWheelFilename, InvalidSdistFilename):
        return None, ""
    # An abi3 wheel also runs on later Pythons.
    exact = {tag.interpreter for tag in tags if tag.abi == tag.interpreter and tag.abi.startswith("cp3")}
    return version, f"3.{exact.pop()[3:]}" if len(exact) == 1 else ""
