"""Text files line by line, in the encodings and with the line ends that people use.

UTF-8 is read with and without a byte order mark; UTF-16 and UTF-32 (Excel's "Unicode text", exports of
Windows tools) by their byte order marks. Nothing else is guessed: a wrong guess silently gives wrong
letters, so other encodings are refused with the command that converts them. A line ends at ``\\n``,
``\\r\\n`` or ``\\r``, even if one file mixes them.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from kaggle_rag.data.compressed import inner_name, opened
from kaggle_rag.runtime.errors import InputError

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_MAGIC = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"PK\x03\x04": "a zip archive (or Excel)",
}
# What Windows saves Western text in; Latin-1 differs only in characters that no text contains.
_GUESS = "WINDOWS-1252"
_UNPACK = {".gz": "gzip -dc", ".bz2": "bzip2 -dc"}


def text_lines(path: Path, on_share: Callable[[float], object] | None = None) -> Iterator[str]:
    """Lines of text with their line ends, without a byte order mark and NUL characters.

    ``on_share`` is told before each line how much of the file, compressed as it is, has been read.

    Raises
    ------
    InputError : an unsupported encoding, no text at all, or damaged compression around it.
    """
    with opened(path) as (file, share):
        encoding = encoding_of(path, file.peek(4)[:4])
        # With newline="" a line ends at every kind of line end, and keeps it.
        text = io.TextIOWrapper(file, encoding=encoding, newline="")
        try:
            for line in text:
                if on_share:
                    on_share(share())
                # csv of Python 3.10 refuses NUL, which has no meaning in text.
                yield line.replace("\0", "") if "\0" in line else line
        except UnicodeDecodeError as error:
            raise _undecodable(path, encoding, error) from error


def encoding_of(path: Path, head: bytes) -> str:
    """The codec of a text that starts with these four bytes.

    Raises
    ------
    InputError : the bytes are those of another format, or of an encoding without its byte order mark.
    """
    for mark, codec in _MARKS.items():
        if head.startswith(mark):
            return codec
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            raise InputError(
                f"this is {name}, not the text that the ending {path.suffix} promises",
                where=path,
                cure="rename it, or unpack it first",
            )
    # Latin text in UTF-16 has a NUL in every second byte, in UTF-32 in three of four.
    if len(head) == 4 and (encoding := _unmarked(head)):
        raise not_text(path, f"this is {encoding[:6]} text without a byte order mark", encoding)
    return "utf-8"


def decoded_head(head: bytes) -> str:
    """The start of a text, to detect its format: by its byte order mark, else as UTF-8; never refused."""
    codec = next((codec for mark, codec in _MARKS.items() if head.startswith(mark)), "utf-8")
    return head.decode(codec, "replace")


def _unmarked(head: bytes) -> str:
    if head[:3] == b"\0\0\0" or head[1:] == b"\0\0\0":
        return "UTF-32LE" if head[0] else "UTF-32BE"
    if head[0] == head[2] == 0:
        return "UTF-16BE"
    return "UTF-16LE" if head[1] == head[3] == 0 else ""


def not_text(path: Path, what: str, encoding: str = _GUESS) -> InputError:
    """The error for a text in another encoding, with the command that converts it."""
    unpack = _UNPACK.get(path.suffix.lower())
    source = f"{unpack} '{path.name}' | iconv" if unpack else "iconv"
    argument = "" if unpack else f" '{path.name}'"
    hint = "" if encoding != _GUESS else f" ({_GUESS} is the usual one on Western Windows)"
    return InputError(
        what,
        where=path,
        expected="UTF-8, or UTF-16 or UTF-32 with a byte order mark",
        cure=f"convert it from the encoding it was saved in{hint}: "
        f"{source} -f {encoding} -t UTF-8{argument} > new{Path(inner_name(path)).suffix}",
    )


def _undecodable(path: Path, encoding: str, error: UnicodeDecodeError) -> InputError:
    if not encoding.startswith("utf-8"):
        return InputError(
            f"not the {encoding.upper()} text that its byte order mark promises ({error.reason})",
            where=path,
            cure="the download or copy may be truncated: fetch the file again",
        )
    # The decoder reads ahead, in blocks: the line is found by reading again.
    return not_utf8(path) or not_text(path, f"not UTF-8 ({error.reason})")


def not_utf8(path: Path, lines: int | None = None) -> InputError | None:
    """The error for the first of ``lines`` lines (or all) that is not UTF-8; ``None`` if all are."""
    with opened(path) as (file, _):
        for number, raw in enumerate(islice(file, lines), 1):
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as error:
                return not_text(path, f"line {number} is not UTF-8 (byte 0x{raw[error.start]:02x})")
    return None
