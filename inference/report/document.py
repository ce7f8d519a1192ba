"""A page of HTML that may use nothing but its own style and script."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path

_HERE = Path(__file__).parent


def document(title: str, body: str, *, script: str = "", head: str = "", forms: str = "'none'") -> str:
    """A page, complete in one file.

    Parameters
    ----------
    title : plain text.
    body, head : HTML.
    forms : where its forms may be sent, as a content security policy names it.
    """
    style = own_file("style.css")
    scripts = f"script-src '{_hash(script)}'; " if script else ""
    policy = f"default-src 'none'; style-src '{_hash(style)}'; {scripts}base-uri 'none'; form-action {forms}"
    code = f"<script>{script}</script>\n" if script else ""
    return (
        f"<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n{head}"
        f'<meta http-equiv=Content-Security-Policy content="{policy}">\n'
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        '<meta name=color-scheme content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}{code}"
        "</body>\n</html>\n"
    )


def own_file(name: str) -> str:
    """The text of a file of this folder."""
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """As a policy names what a page holds inline: https://www.w3.org/TR/CSP3/#match-element-to-source-list."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
