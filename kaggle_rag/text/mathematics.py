r"""TeX left over in plain-text exports, turned into one line that a person and an encoder can read.

``{\displaystyle b^{rs}={\frac {1}{4}}}`` becomes ``b^{rs}=1/4``: styles and spacing go, letters,
numbers, operators and the grouping of exponents stay.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_FRACTIONS = ("frac", "tfrac", "dfrac", "cfrac")
_BINOMIALS = ("binom", "tbinom", "dbinom")
_FONTS = ("mathbf", "boldsymbol", "mathrm", "mathit", "mathsf", "mathtt", "mbox", "texttt")
_ARROWS = {"xrightarrow": "→", "xleftarrow": "←"}
# Operators that pylatexenc leaves out of the text, or glues to what follows.
_OPERATORS = (
    "arg", "cot", "csc", "deg", "det", "dim", "gcd", "hom", "ker", "lg", "Pr", "sec", "coth", "bmod", "mod",
    "arccos", "arcsin", "arctan", "cos", "cosh", "exp", "inf", "lim", "liminf", "limsup", "ln", "log", "max",
    "min", "sin", "sinh", "sup", "tan", "tanh", "arccot", "arcsec", "arccsc", "sech", "csch",
)  # fmt: skip
# Names that Wikipedia's mathematics has beside TeX's
# (https://www.mediawiki.org/wiki/Extension:Math/Syntax), and signs that pylatexenc lacks.
_ALIASES = {
    "R": "ℝ", "reals": "ℝ", "Reals": "ℝ", "N": "ℕ", "natnums": "ℕ", "Z": "ℤ", "Q": "ℚ", "C": "ℂ",
    "Complex": "ℂ", "cnums": "ℂ", "H": "ℍ", "infin": "∞", "isin": "∈", "degree": "°", "Re": "Re",
    "Im": "Im", "real": "Re", "image": "Im", "colon": ":", "and": "∧", "or": "∨", "sub": "⊂", "sube": "⊆",
    "supe": "⊇", "empty": "∅", "exist": "∃", "alef": "ℵ", "alefsym": "ℵ", "sdot": "⋅", "plusmn": "±",
    "thetasym": "ϑ", "weierp": "℘", "bull": "•", "sect": "§", "oiint": "∯", "oiiint": "∰", "rarr": "→",
    "larr": "←", "lrarr": "↔", "harr": "↔", "uarr": "↑", "darr": "↓", "rArr": "⇒", "lArr": "⇐", "hArr": "⇔",
    "lrArr": "⇔", "Rarr": "⇒", "Larr": "⇐", "Harr": "⇔", "Lrarr": "⇔", "Uarr": "⇑", "Darr": "⇓",
    "uArr": "⇑", "dArr": "⇓",
}  # fmt: skip
# TeX's own way to write a fraction.
_OVER = re.compile(r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}")
_CHOOSE = re.compile(r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}")
# 2^{3}3^{2} is no 2^33^2.
_BEFORE_DIGIT = re.compile(r"([\^_]\{\w\})(?=\d)")
# Braces mean something only after ^ and _.
_LOOSE_BRACES = re.compile(r"(?<![\^_])\{((?:[^{}]|(?<=[\^_])\{[^{}]*\})*)\}")
_SHORT_BRACES = re.compile(r"\{(\w)\}")
# To TeX a percent sign opens a comment; in an exported formula it is a percent sign.
_PERCENT = re.compile(r"(?<!\\)%")
# "50{\\tfrac {1}{2}}" is fifty and a half, not 501/2, and two fractions are no 1/23/4.
_MIXED = re.compile(r"(?<=\d)(?=\s*\{?\s*\\[tdc]?frac)|(?<=\})(?=\s*\\[tdc]?frac)")
_COMMAND_OR_BRACE = re.compile(r"\\[A-Za-z]+|[{}]")
_ATOM = re.compile(r"[\w.]+")


def tex_to_text(tex: str) -> str:
    """Return readable text for a piece of TeX mathematics (a broken piece loses only its braces)."""
    try:
        text = _converted(tex)
    # Whatever a parser makes of broken TeX, an article must not be lost to it.
    except Exception:
        text = _COMMAND_OR_BRACE.sub(" ", tex)
    return " ".join(text.replace("⦃", "{").replace("⦄", "}").split())


def _converted(tex: str) -> str:
    walker, writer = _converters()
    # The braces of a set are symbols, not grouping: keep them out of the way.
    tex = _PERCENT.sub(r"\%", tex.replace(r"\{", "⦃").replace(r"\}", "⦄"))
    tex = _BEFORE_DIGIT.sub(r"\1\\ ", _MIXED.sub(r"\\ ", tex))
    tex = _CHOOSE.sub(r"{\\binom{\1}{\2}}", _OVER.sub(r"{\\frac{\1}{\2}}", tex))
    nodes = walker(tex).get_latex_nodes()[0]
    text = str(writer.nodelist_to_text(nodes))
    while (flat := _SHORT_BRACES.sub(r"\1", _LOOSE_BRACES.sub(r"\1", text))) != text:
        text = flat
    return text


@lru_cache(maxsize=1)
def _converters() -> tuple[Any, Any]:
    """pylatexenc with the macros it lacks: every fraction, roots with an index, plain fonts."""
    from pylatexenc import latex2text, latexwalker
    from pylatexenc.macrospec import MacroSpec

    parsing = latexwalker.get_default_latex_context_db()
    parsing.add_context_category(
        "kaggle-rag",
        prepend=True,
        macros=[MacroSpec(name, "{{") for name in _FRACTIONS + _BINOMIALS]
        + [MacroSpec(name, "{") for name in (*_FONTS, "pmod")]
        + [MacroSpec(name, "[{") for name in _ARROWS],
    )
    writing = latex2text.get_default_latex_context_db()
    writing.add_context_category(
        "kaggle-rag",
        prepend=True,
        macros=[latex2text.MacroTextSpec(name, simplify_repl=_fraction) for name in _FRACTIONS]
        + [latex2text.MacroTextSpec(name, simplify_repl="%s") for name in _FONTS]
        + [latex2text.MacroTextSpec(name, simplify_repl="(%s %s)") for name in _BINOMIALS]
        + [latex2text.MacroTextSpec("sqrt", simplify_repl=_root)]
        + [latex2text.MacroTextSpec("over", simplify_repl="/")]
        + [latex2text.MacroTextSpec(name, simplify_repl=sign) for name, sign in _ALIASES.items()]
        + [latex2text.MacroTextSpec("pmod", simplify_repl="(mod %s)")]
        + [latex2text.MacroTextSpec(name, simplify_repl=_operator) for name in _OPERATORS]
        + [latex2text.MacroTextSpec(name, simplify_repl=_arrow) for name in _ARROWS],
    )
    writer = latex2text.LatexNodes2Text(
        math_mode="text",
        keep_braced_groups=True,
        keep_braced_groups_minlen=2,
        latex_context=writing,
    )

    def walker(tex: str) -> Any:
        return latexwalker.LatexWalker(tex, latex_context=parsing, tolerant_parsing=True)

    return walker, writer


def _argument(node: Any, writer: Any) -> str:
    text = str(writer.nodelist_to_text([node])).strip()
    while text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    return text


def _operator(node: Any, l2tobj: Any) -> str:
    """Its name, separated from the name that follows it."""
    name = node.macroname.removeprefix("b")
    space = " " if node.macro_post_space or name == "mod" else ""
    return f"{' ' if name == 'mod' else ''}{name}{space}"


def _fraction(node: Any, l2tobj: Any) -> str:
    parts = [_argument(part, l2tobj) for part in node.nodeargd.argnlist]
    return "/".join(part if _ATOM.fullmatch(part) else f"({part})" for part in parts)


def _root(node: Any, l2tobj: Any) -> str:
    index, radicand = node.nodeargd.argnlist
    return f"{_argument(index, l2tobj) if index else ''}√({_argument(radicand, l2tobj)})"


def _arrow(node: Any, l2tobj: Any) -> str:
    below, above = (_argument(part, l2tobj) if part else "" for part in node.nodeargd.argnlist)
    labels = ", ".join(filter(None, (above, below)))
    return f" {_ARROWS[node.macroname]}({labels}) " if labels else f" {_ARROWS[node.macroname]} "
