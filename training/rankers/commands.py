"""The command lines of multiple-choice, causal, seq2seq and merge."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path

from kaggle_rag.models.answering.forms import FORMS
from kaggle_rag.runtime.program import Command
from training.loop.checks import require_packages
from training.loop.flags import settings_flags, settings_of
from training.loop.record import show_record
from training.rankers.peft_methods import METHODS
from training.rankers.settings import COMMANDS

_TRAINING = """\
examples:
  python -m training {command} --questions train.csv --contexts-file c.parquet --model {model} --out ranker/
  python -m training {command} --config ranker.yaml --set peft.method=lora --set peft.options.r=32
  python -m training {command} --config ranker.yaml --dry-run

The contexts file is what python -m inference contexts wrote for QUESTIONS; without it, a ranker learns
from the text of the questions alone. Changing the backbone is one line: model. python -m training backbones
lists known ones with their memory.

The work happens in OUT.training. If killed at any point, rerun the same command to resume from the last
checkpoint. The finished OUT is a ranker for solution.yaml: {{kind: trained, options: {{folder: OUT}}}}

forms, and the families that support them:
{forms}

peft.method:
{methods}"""
# The model in the examples of each command.
_MODELS = {
    "multiple-choice": "microsoft/deberta-v3-large",
    "causal": "mistralai/Mistral-7B-v0.1",
    "seq2seq": "google/flan-t5-large",
}

MERGE = """\
example:
  python -m training merge lora-ranker/ merged-ranker/

The merged weights need no peft and are as fast as the backbone itself. They are only written if their
answers match the adapter's."""


def training(command: str, summary: str) -> Command:
    """One of the commands that train a ranker, with a flag per setting."""
    forms = _lines({name: ", ".join(families) for name, families in FORMS.items()})
    methods = _lines({name: method.text for name, method in METHODS.items()})
    examples = _TRAINING.format(command=command, model=_MODELS[command], forms=forms, methods=methods)
    flags = functools.partial(settings_flags, model=COMMANDS[command])
    return Command(summary, _run_training, flags, examples)


def _lines(texts: Mapping[str, str]) -> str:
    """A line a name, the texts below each other."""
    wide = max(map(len, texts))
    return "\n".join(f"  {name:<{wide}}  {text}" for name, text in texts.items())


def _run_training(arguments: argparse.Namespace) -> int:
    from training.rankers.checks import require_ranker

    settings = settings_of(arguments, COMMANDS[arguments.command])
    require_packages(settings.packages())
    require_ranker(arguments.command, settings, dry=arguments.dry_run)
    from kaggle_rag.runtime.processes import is_first
    from training.rankers.train import dry_run, require_family, train_ranker

    if arguments.dry_run:
        require_family(arguments.command, settings.model)
        record = dry_run(settings)
    else:
        record = train_ranker(arguments.command, settings)
    if not is_first():
        return 0
    show_record(record, dry=arguments.dry_run, as_json=arguments.json)
    if not (arguments.json or arguments.dry_run):
        print(f"in solution.yaml: rankers: [{{kind: trained, options: {{folder: {settings.out}}}}}]")
    return 0


def merge_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ranker", type=Path, metavar="RANKER", help="folder of a ranker with an adapter")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write the merged weights to")
    parser.add_argument("--base", help="location of the adapter's backbone on this machine")
    parser.add_argument("--device", help="cpu or cuda (default: cuda if available)")


def run_merge(arguments: argparse.Namespace) -> int:
    from training.rankers.merge import merge

    result = merge(arguments.ranker, arguments.out, base=arguments.base, device=arguments.device)
    print(
        f"{arguments.out}: merged; logits differ by {result['difference']:.1e} of the largest "
        f"({result['precision']})"
    )
    return 0
