"""python -m training  retriever · reranker · multiple-choice · causal · seq2seq · cross-validate · …"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from kaggle_rag.models.answering.forms import FORMS
from kaggle_rag.runtime.errors import run_program, show_size
from kaggle_rag.runtime.flags import OldName
from kaggle_rag.runtime.program import Command, Program
from kaggle_rag.runtime.settings import Section, read_settings
from kaggle_rag.runtime.words import all_counted, counted
from training.crossval import commands
from training.loop.checks import require_packages
from training.loop.settings import CALIBRATED_LOSS
from training.rankers import mix_command, soup_command
from training.rankers.peft_methods import METHODS
from training.rankers.settings import COMMANDS, CausalRun, MultipleChoiceRun, Seq2SeqRun
from training.retrieval import support_command
from training.retrieval.settings import RerankerSettings, RetrieverSettings
from training.selection import command as select_command

_RETRIEVER = """\
examples:
  python -m training retriever --questions train.csv --positive fact --passages facts.txt --out my-encoder/
  python -m training retriever --questions train.csv --index index/ --out my-encoder/ --dry-run
  python -m training retriever --config retriever.yaml --loss triplet --negatives 4

QUESTIONS is a .csv, .parquet or .jsonl file with id, prompt, A, B, ... and answer. --positive names a
column with the passage that answers; without it, supporting passages are searched for in --passages or
--index. Queries take the forms used in retrieval: none reveals which option is right.

The work happens in OUT.training. If killed at any point, rerun the same command to resume from the last
checkpoint. The finished OUT is an encoder: python -m wiki_index build CORPUS INDEX --encoder OUT"""

_RERANKER = """\
examples:
  python -m training reranker --questions train.csv --positive fact --passages facts.txt --out my-reranker/
  python -m training reranker --questions train.csv --index index/ --out my-reranker/ --negatives 8
  python -m training reranker --config reranker.yaml --loss margin-mse --teacher BAAI/bge-reranker-base

A model without a head that scores pairs, such as an encoder, gets a new one. --teacher gives soft
labels: a cross-encoder, or a table with id, passage and score (.csv, .parquet, .jsonl)."""


_RANKER = """\
examples:
  python -m training {command} --questions train.csv --contexts-file c.parquet --model {model} --out ranker/
  python -m training {command} --config ranker.yaml --set peft.method=lora --set peft.options.r=32
  python -m training {command} --config ranker.yaml --dry-run

The contexts file is what python -m inference contexts wrote for QUESTIONS; without it, a ranker learns
from the text of the questions alone. Changing the backbone is one line: model. python -m training backbones
lists known ones with their memory.

The work happens in OUT.training. If killed at any point, rerun the same command to resume from the last
checkpoint. The finished OUT is a ranker for solution.yaml: {{kind: trained, options: {{folder: OUT}}}}

{tables}"""

_MERGE = """\
example:
  python -m training merge lora-ranker/ merged-ranker/

The merged weights need no peft and are as fast as the backbone itself. They are only written if their
answers match the adapter's."""

_FETCH = """\
examples:
  python -m training fetch microsoft/deberta-v3-large deberta/ --online
  python -m training fetch google/flan-t5-large t5/           # from the Hugging Face cache of this machine

OUT gets the files that training and answering read, and no others: config, tokenizer, and the weights as
safetensors if the hub has them. It appears once it is complete; rerun the same command to resume a killed
download."""

_CONVERT = """\
example:
  python -m training convert deberta/ deberta-whole/

FOLDER is a model as stored on the hub: pytorch_model.bin (none of its code is run) or safetensors, and a
tokenizer of any kind (spm.model, spiece.model, tokenizer.model, vocab.txt). OUT gets safetensors and
tokenizer.json, and is only written if both give the same tokens, weights and answers."""


_OVERVIEW = """\
examples:
  python -m training multiple-choice --questions train.csv --contexts-file contexts.parquet \\
      --model deberta-base/ --out deberta/
  python -m training causal --config ranker.yaml --set peft.method=qlora --dry-run
  python -m training cross-validate solution.yaml --folds 5 --final
  python -m training retriever --questions train.csv --index index/ --out my-encoder/

COMMAND --help lists every setting with its default. If a command is killed, rerun it to resume."""


def _ranker_help(command: str, model: str) -> str:
    forms = [f"  {name:<9} {', '.join(families)}" for name, families in FORMS.items()]
    methods = [f"  {name:<9} {method.text}" for name, method in METHODS.items()]
    tables = "\n".join(["forms, and the families that support them:", *forms, "", "peft.method:", *methods])
    return _RANKER.format(command=command, model=model, tables=tables)


def _merge_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ranker", type=Path, metavar="RANKER", help="folder of a ranker with an adapter")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write the merged weights to")
    parser.add_argument("--base", help="location of the adapter's backbone on this machine")
    parser.add_argument("--device", help="cpu or cuda (default: cuda if available)")


def _fetch_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name on the hub, such as microsoft/deberta-v3-large")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--online", action="store_true", help="download what this machine does not have")


def _convert_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="model folder as stored on the hub")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")


def _flags(parser: argparse.ArgumentParser, model: type[Section]) -> None:
    """Add one flag per setting, with its description; the settings model parses the values."""
    parser.add_argument("--config", metavar="YAML", help="a file of the settings below; flags override it")
    nested = [name for name, field in model.model_fields.items() if _is_nested(field.annotation)]
    if nested:
        parser.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
            help=f"any setting, including those in {', '.join(nested)}: peft.method=lora, peft.options.r=32",
        )  # fmt: skip
    for name, field in model.model_fields.items():
        if name in nested:
            continue
        many = "tuple" in str(field.annotation)
        unset = field.is_required() or field.default in (None, ())
        text = f"{field.description}{'' if unset else f' (default: {_show(field.default)})'}"
        parser.add_argument(
            "--" + name.replace("_", "-"), dest=name, nargs="+" if many else None,
            metavar=_metavar(field.annotation), help=text.replace("%", "%%"),
        )  # fmt: skip
    for old, new in model.OLD_KEYS.items():
        parser.add_argument("--" + old, dest=new, action=OldName, help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="report what it would need; write nothing")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")


def _is_nested(annotation: Any) -> bool:
    return get_origin(annotation) is dict or (
        isinstance(annotation, type) and issubclass(annotation, Section)
    )


def _metavar(annotation: Any) -> str:
    literals = [each for each in (annotation, *get_args(annotation)) if get_origin(each) is Literal]
    if literals:
        return "{" + ",".join(map(str, get_args(literals[0]))) + "}"
    kinds = {annotation, *get_args(annotation)}
    if bool in kinds:
        return "{true,false}"
    return "PATH" if Path in kinds else "N" if int in kinds else "X" if float in kinds else "NAME"


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _settings(arguments: argparse.Namespace, model: Any) -> Any:
    flags = {name: getattr(arguments, name, None) for name in model.model_fields}
    settings = read_settings(model, arguments.config, getattr(arguments, "changes", ()), flags)
    for note in settings.idle():
        print("note: " + note, file=sys.stderr)
    return settings


def _retriever(arguments: argparse.Namespace) -> int:
    from training.retrieval.checks import require_finder

    settings = _settings(arguments, RetrieverSettings)
    require_packages(settings.packages())
    require_finder("retriever", settings, dry=arguments.dry_run)
    from training.retrieval.bi_encoder import train_retriever

    record = train_retriever(settings, dry=arguments.dry_run)
    _print_record(arguments, record)
    if not arguments.dry_run and not arguments.json:
        print(
            f"{settings.out}: encoder sha256 {record['result']['sha256']}\n"
            "An index built with another encoder must be rebuilt: "
            f"python -m wiki_index build CORPUS INDEX --encoder {settings.out}"
        )
    return 0


def _reranker(arguments: argparse.Namespace) -> int:
    from training.retrieval.checks import require_finder

    settings = _settings(arguments, RerankerSettings)
    require_packages(settings.packages())
    require_finder("reranker", settings, dry=arguments.dry_run)
    from training.retrieval.cross_encoder import train_reranker

    record = train_reranker(settings, dry=arguments.dry_run)
    _print_record(arguments, record)
    if not arguments.dry_run and not arguments.json:
        print(f"{settings.out}: cross-encoder sha256 {record['result']['sha256']}")
    return 0


def _print_record(arguments: argparse.Namespace, record: dict[str, Any]) -> None:
    from kaggle_rag.runtime.console import duration

    if arguments.json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return
    result = record.get("result", record)
    _table({name: result[name] for name in ("before", "after") if result.get(name)})
    steps = result["steps"]
    if arguments.dry_run:
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


def _ranker(arguments: argparse.Namespace) -> int:
    from training.rankers.checks import require_ranker

    settings = _settings(arguments, COMMANDS[arguments.command])
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
    _print_record(arguments, record)
    if not (arguments.json or arguments.dry_run):
        print(f"in solution.yaml: rankers: [{{kind: trained, options: {{folder: {settings.out}}}}}]")
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from training.rankers.merge import merge

    result = merge(arguments.ranker, arguments.out, base=arguments.base, device=arguments.device)
    print(
        f"{arguments.out}: merged; logits differ by {result['difference']:.1e} of the largest "
        f"({result['precision']})"
    )
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    from training.fetch import fetch

    result = fetch(arguments.name, arguments.out, online=arguments.online)
    print(
        f"{arguments.out}: {counted(result['files'], 'file')}, {show_size(result['bytes'])}, from "
        f"{result['source']}"
    )
    if result["lacks"]:
        print(
            f"It has no {' and no '.join(result['lacks'])} yet. To write a folder that does: "
            f"python -m training convert {arguments.out} OUT"
        )
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from training.convert import convert

    result = convert(arguments.folder, arguments.out)
    print(
        f"{arguments.out}: compared {counted(result['tensors'], 'tensor')} and the tokens of "
        f"{counted(result['texts'], 'text')}, all identical; {result['answers']}"
    )
    return 0


def _backbones(arguments: argparse.Namespace) -> int:
    from kaggle_rag.models.backbones import table

    print(table())
    return 0


def _trains(
    summary: str, model: type[Section], run: Callable[[argparse.Namespace], int], examples: str
) -> Command:
    """A training command with one flag per setting."""
    return Command(summary, run, lambda parser: _flags(parser, model), examples)


PROGRAM = Program(
    "training", "Train the models that find the evidence, and those that read it.", _OVERVIEW,
    {
        "retriever": _trains(
            "fine-tune an encoder on questions and passages", RetrieverSettings, _retriever, _RETRIEVER
        ),
        "reranker": _trains(
            "fine-tune a cross-encoder on the same data", RerankerSettings, _reranker, _RERANKER
        ),
        "multiple-choice": _trains(
            "train an encoder such as DeBERTa as a ranker", MultipleChoiceRun, _ranker,
            _ranker_help("multiple-choice", "microsoft/deberta-v3-large"),
        ),
        "causal": _trains(
            "train a decoder such as Llama or Phi-3 as a ranker (by default LoRA adapters, not all weights)",
            CausalRun, _ranker, _ranker_help("causal", "mistralai/Mistral-7B-v0.1"),
        ),
        "seq2seq": _trains(
            "train an encoder-decoder such as T5 as a ranker", Seq2SeqRun, _ranker,
            _ranker_help("seq2seq", "google/flan-t5-large"),
        ),
        "cross-validate": Command(
            "evaluate rankers on questions they were not trained on",
            commands.run_cross_validate, commands.cross_validate_flags, commands.CROSS_VALIDATE,
        ),
        "compare": Command(
            "compare cross-validations side by side",
            commands.run_compare, commands.compare_flags, commands.COMPARE,
        ),
        "diagnose": Command(
            "list hard questions, likely label errors and contradictions",
            commands.run_diagnose, commands.diagnose_flags, commands.DIAGNOSE,
        ),
        "merge": Command("merge an adapter into its backbone's weights", _merge, _merge_flags, _MERGE),
        "soup": Command(
            "average the weights of rankers that were trained alike",
            soup_command.run, soup_command.flags, soup_command.EXAMPLES,
        ),
        "mix": Command(
            "make one set of several question sets to train on",
            mix_command.run, mix_command.flags, mix_command.EXAMPLES,
        ),
        "support": Command(
            "find which passages make a ranker answer right, to train a retriever with",
            support_command.run, support_command.flags, support_command.EXAMPLES,
        ),
        "select": Command(
            "select training questions by what the test asks, or by a data map",
            select_command.run, select_command.flags, select_command.EXAMPLES,
        ),
        "fetch": Command("copy a model of the hub into a folder", _fetch, _fetch_flags, _FETCH),
        "convert": Command(
            "convert a model folder's weights to safetensors, its tokenizer to tokenizer.json",
            _convert, _convert_flags, _CONVERT,
        ),
        "backbones": Command("list known backbones and their memory", _backbones),
    },
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(run_program(main))
