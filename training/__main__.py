"""python -m training  retriever · reranker · multiple-choice · causal · seq2seq · cross-validate · …"""

from __future__ import annotations

import sys

from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.program import Command, Program
from training import hub_commands as hub
from training.crossval import commands as crossval
from training.rankers import commands as rankers
from training.rankers import mix_command, phrasing_command, soup_command
from training.retrieval import commands as retrieval
from training.retrieval import support_command
from training.selection import command as select_command

_OVERVIEW = """\
examples:
  python -m training multiple-choice --questions train.csv --contexts-file contexts.parquet \\
      --model deberta-base/ --out deberta/
  python -m training causal --config ranker.yaml --set peft.method=qlora --dry-run
  python -m training cross-validate solution.yaml --folds 5 --final
  python -m training retriever --questions train.csv --index index/ --out my-encoder/

COMMAND --help lists every setting with its default. If a command is killed, rerun it to resume."""

PROGRAM = Program(
    "training", "Train the models that find the evidence, and those that read it.", _OVERVIEW,
    {
        "retriever": Command(
            "fine-tune an encoder on questions and passages",
            retrieval.run_retriever, retrieval.retriever_flags, retrieval.RETRIEVER,
        ),
        "reranker": Command(
            "fine-tune a cross-encoder on the same data",
            retrieval.run_reranker, retrieval.reranker_flags, retrieval.RERANKER,
        ),
        "multiple-choice": rankers.training(
            "multiple-choice", "train an encoder such as DeBERTa as a ranker"
        ),
        "causal": rankers.training(
            "causal",
            "train a decoder such as Llama or Phi-3 as a ranker (by default LoRA adapters, not all weights)",
        ),
        "seq2seq": rankers.training("seq2seq", "train an encoder-decoder such as T5 as a ranker"),
        "phrasing": Command(
            "weigh how options are written: a ranker that learns in a second",
            phrasing_command.run, phrasing_command.flags, phrasing_command.EXAMPLES,
        ),
        "cross-validate": Command(
            "evaluate rankers on questions they were not trained on",
            crossval.run_cross_validate, crossval.cross_validate_flags, crossval.CROSS_VALIDATE,
        ),
        "compare": Command(
            "compare cross-validations side by side",
            crossval.run_compare, crossval.compare_flags, crossval.COMPARE,
        ),
        "diagnose": Command(
            "list hard questions, likely label errors and contradictions",
            crossval.run_diagnose, crossval.diagnose_flags, crossval.DIAGNOSE,
        ),
        "merge": Command(
            "merge an adapter into its backbone's weights",
            rankers.run_merge, rankers.merge_flags, rankers.MERGE,
        ),
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
        "fetch": Command(
            "copy a model of the hub into a folder", hub.run_fetch, hub.fetch_flags, hub.FETCH
        ),
        "convert": Command(
            "convert a model folder's weights to safetensors, its tokenizer to tokenizer.json",
            hub.run_convert, hub.convert_flags, hub.CONVERT,
        ),
        "backbones": Command("list known backbones and their memory", hub.run_backbones),
    },
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(run_program(main))
