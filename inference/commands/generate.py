"""``python -m inference generate``: its flags, and from them answers in words."""

from __future__ import annotations

import argparse
from typing import Any

from inference.arguments import note_unused, solution_of

EXAMPLES = """\
examples:
  python -m inference generate --questions test.csv --contexts-file contexts.parquet --model phi-3/ --chat \\
      --out answers.jsonl
  python -m inference generate --questions dev-v2.0.json --model flan-t5-base/ --max-new-tokens 16 \\
      --out squad.parquet
  python -m inference generate --config solution.yaml --stop '\\n' --beams 4 --check
  python -m inference generate --config solution.yaml --template '{context}\\n\\nQ: {prompt}\\nA:' --check

QUESTIONS is a .csv, .parquet or .jsonl file with id and prompt (and options, if it has them), a SQuAD .json,
or Natural Questions as .jsonl. docs/open-answers.md documents the settings of generate."""

# Flags that are settings of the section by that name, with their types' names in --help.
_SETTINGS = {
    "model": "FOLDER", "max_tokens": "N", "max_new_tokens": "N", "snippets": "N", "beams": "N",
    "temperature": "X", "top_k": "N", "top_p": "X", "seed": "N", "precision": "NAME", "batch_tokens": "N",
}  # fmt: skip
_TEXTS = ("model", "precision")


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    parser.add_argument("--config", metavar="YAML", help="solution.yaml; flags override it")
    parser.add_argument("--questions", help="the questions")
    parser.add_argument("--contexts-file", help="contexts.parquet (default: the questions' own contexts)")
    parser.add_argument("--without-contexts", action="store_true", help="answer from the question alone")
    parser.add_argument("--out", help="the file to write, .jsonl or .parquet")
    parser.add_argument("--limit", metavar="N", help="for a trial: only the first N questions")
    for name, kind in _SETTINGS.items():
        parser.add_argument(_flag(name), metavar=kind, help=f"generate.{name}")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT",
        help="a text that ends an answer; \\n is a line break; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--template", metavar="TEXT",
        help="the prompt, with {context}, {prompt} and, of questions with options, {options}; \\n is a line "
        "break",
    )  # fmt: skip
    parser.add_argument("--chat", action="store_true", help="ask by the tokenizer's chat template")
    parser.add_argument("--device", help="cpu or cuda (default: cuda if available)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="a setting, e.g. generate.load_in_4bit=true",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="report every fault; answer nothing")
    parser.set_defaults(encoder=None, ram=None)


def run(arguments: argparse.Namespace) -> int:
    arguments.set += _changes(arguments)
    solution, faults = solution_of(arguments)
    note_unused(solution, arguments)
    from inference.generate import check, generate

    without = {"without_contexts": arguments.without_contexts}
    if arguments.check or faults:
        ready = check(solution, **without, faults=faults)
        print(f"all checks passed: {ready.text()}. Nothing was answered.")
        return 0
    wrote = generate(solution, **without)
    print(f"{solution.out}: " + ("ready" if wrote else "already complete for these inputs; nothing to do"))
    return 0


def _changes(arguments: argparse.Namespace) -> list[str]:
    """The flags as changes of settings, ``KEY=VALUE``, whose values are YAML."""
    given: dict[str, Any] = {name: getattr(arguments, name) for name in _SETTINGS}
    changes = [
        f"generate.{name}={_quoted(value) if name in _TEXTS else value}"
        for name, value in given.items() if value is not None
    ]  # fmt: skip
    if arguments.stop:
        changes.append(f"generate.stop=[{', '.join(map(_text, arguments.stop))}]")
    if arguments.template is not None:
        changes.append(f"generate.template={{first: {_text(arguments.template)}}}")
    return [*changes, "generate.chat=true"] if arguments.chat else changes


def _text(word: str) -> str:
    """A word of the command line as text: no shell writes a line break into one easily."""
    return _quoted(word.replace("\\n", "\n"))


def _quoted(text: str) -> str:
    """A text in YAML, whatever it looks like there without quotes."""
    import yaml

    return str(yaml.safe_dump(text, default_style='"', width=float("inf"))).strip()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
