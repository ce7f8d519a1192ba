"""The command lines of fetch, convert and backbones: models to start a training from."""

from __future__ import annotations

import argparse
from pathlib import Path

from kaggle_rag.runtime.errors import show_size
from kaggle_rag.runtime.words import counted

FETCH = """\
examples:
  python -m training fetch microsoft/deberta-v3-large deberta/ --online
  python -m training fetch google/flan-t5-large t5/           # from the Hugging Face cache of this machine

OUT gets the files that training and answering read, and no others: config, tokenizer, and the weights as
safetensors if the hub has them. It appears once it is complete; rerun the same command to resume a killed
download."""

CONVERT = """\
example:
  python -m training convert deberta/ deberta-whole/

FOLDER is a model as stored on the hub: pytorch_model.bin (none of its code is run) or safetensors, and a
tokenizer of any kind (spm.model, spiece.model, tokenizer.model, vocab.txt). OUT gets safetensors and
tokenizer.json, and is only written if both give the same tokens, weights and answers."""


def fetch_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name on the hub, such as microsoft/deberta-v3-large")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--online", action="store_true", help="download what this machine does not have")


def convert_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="model folder as stored on the hub")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")


def run_fetch(arguments: argparse.Namespace) -> int:
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


def run_convert(arguments: argparse.Namespace) -> int:
    from training.convert import convert

    result = convert(arguments.folder, arguments.out)
    print(
        f"{arguments.out}: compared {counted(result['tensors'], 'tensor')} and the tokens of "
        f"{counted(result['texts'], 'text')}, all identical; {result['answers']}"
    )
    return 0


def run_backbones(_: argparse.Namespace) -> int:
    from kaggle_rag.models.backbones import table

    print(table())
    return 0
