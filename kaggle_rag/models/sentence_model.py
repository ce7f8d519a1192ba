"""Load folders as sentence-transformers models: transformers with pooling, and static embeddings.

Static encoders (``StaticEmbedding``, Model2Vec's potion) have no transformer and no maximum length: a text is
the mean of its tokens' vectors. They are many times as fast as the smallest transformer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from kaggle_rag.runtime.errors import CheckpointError

# Its bar would show, even in a log, for a tenth of a second of work.
transformers_logging.disable_progress_bar()

# Heads of other tasks: the token vectors below them were not trained to be averaged and compared.
_HEADS = {
    "ForMaskedLM": "a masked language model",
    "ForPreTraining": "a masked language model",
    "ForCausalLM": "a language model",
    "LMHeadModel": "a language model",
    "ForConditionalGeneration": "a language model",
    "ForSequenceClassification": "a classifier or a re-ranker",
    "ForMultipleChoice": "a multiple-choice ranker",
    "ForTokenClassification": "a token classifier",
    "ForQuestionAnswering": "an extractive question-answering model",
}
_FAULTS = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


def sentence_model(folder: Path, device: str, *, untrained: bool = False) -> SentenceTransformer:
    """The encoder of a folder, in evaluation mode; its tokenizer reads special tokens as text.

    Parameters
    ----------
    untrained : accept a backbone of another task too, to train an encoder from.

    Raises
    ------
    CheckpointError : the folder does not load, or is a model for another task.
    """
    if not untrained:
        _refuse_other_tasks(folder)
    try:
        model = _model2vec(folder, device) or SentenceTransformer(
            str(folder), device=device, local_files_only=True
        )
    except _FAULTS as error:
        raise CheckpointError(
            f"this folder does not load as an encoder ({str(error).splitlines()[0]})",
            where=folder,
            expected="a sentence-transformers model, or an encoder that works with mean pooling",
        ) from error
    literal(model.tokenizer)
    # Static embeddings are often stored in float16 or int8, which a CPU cannot average.
    return (model.float() if is_static(model) else model).eval()


def is_static(model: Any) -> bool:
    """Whether a model is a table of token vectors."""
    return type(model[0]).__name__ == "StaticEmbedding"


def left_out_tokens(model: Any, prompt: str) -> int:
    """How many tokens at the start of a prompted text the model's pooling leaves out.

    None, unless it declares ``include_prompt: false``, as INSTRUCTOR does
    (https://sbert.net/docs/package_reference/sentence_transformer/models.html).
    """
    if all(getattr(module, "include_prompt", True) for module in model):
        return 0
    ids = model.tokenizer(prompt)["input_ids"]
    # The separator at the end comes behind the text.
    return len(ids) - (ids[-1] in model.tokenizer.all_special_ids)


def tokenizer_of(model: Any) -> Any:
    """The tokenizer of a model, as `kaggle_rag.index.batches` calls it."""
    return StaticTokens.of(model[0].tokenizer) if is_static(model) else model.tokenizer


def literal(tokenizer: Any) -> None:
    """Make a tokenizer read ``[SEP]`` or ``</s>`` in a text as plain characters.

    A question's text must not end it, or hide the rest of it from a model. Special tokens that the
    tokenizer adds itself stay special.
    """
    if isinstance(tokenizer, Tokenizer):
        tokenizer.encode_special_tokens = True
    else:
        tokenizer.split_special_tokens = True


def means_are_taken(folder: Path) -> str:
    """A note if a folder does not say how token vectors become one, otherwise an empty string."""
    if (folder / "modules.json").is_file() or _config(folder).get("model_type") == "model2vec":
        return ""
    return (
        f"{folder} has no modules.json that says how to pool its token vectors: using their mean. A "
        "model that was never trained to compare sentences finds little that way."
    )


class StaticTokens(PreTrainedTokenizerFast):  # type: ignore[misc]
    """The tokenizer of a static encoder; a batch is one row of ids, and the offset of each text."""

    @classmethod
    def of(cls, raw: Tokenizer) -> StaticTokens:
        tokens = cls(tokenizer_object=raw)
        literal(tokens)
        return tokens

    def __call__(self, text: Any, *arguments: Any, **settings: Any) -> Any:
        """Tokenize like any transformers tokenizer, but without special tokens."""
        return super().__call__(text, *arguments, **{**settings, "add_special_tokens": False})

    def pad(self, rows: dict[str, list[list[int]]], **_: object) -> dict[str, torch.Tensor]:
        """``input_ids`` ``(tokens,)`` int64 of all rows; ``offsets`` ``(rows,)`` int64 of their starts."""
        ids = rows["input_ids"]
        lengths = torch.tensor([0, *map(len, ids[:-1])])
        flat = torch.tensor([token for row in ids for token in row], dtype=torch.int64)
        return {"input_ids": flat, "offsets": lengths.cumsum(0)}


def _refuse_other_tasks(folder: Path) -> None:
    if (folder / "modules.json").is_file():
        return
    for name in _config(folder).get("architectures") or ():
        for head, task in _HEADS.items():
            if str(name).endswith(head):
                raise CheckpointError(
                    f"this is {task} ({name}), not a sentence encoder",
                    where=folder,
                    expected="a model that was trained to compare sentences, as its modules.json says",
                    cure="use an encoder such as BAAI/bge-small-en-v1.5, or train one from this model: "
                    f"python -m training retriever --model {folder}",
                )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _model2vec(folder: Path, device: str) -> SentenceTransformer | None:
    """A model as Model2Vec saves it; ``None`` if the folder has another kind.

    Each token has a row of the table, or ``mapping`` says which row and ``weights`` its factor
    (https://github.com/MinishLab/model2vec). Older versions of sentence-transformers read only the table.
    """
    if _config(folder).get("model_type") != "model2vec":
        return None
    tensors = load_file(folder / "model.safetensors")
    rows = tensors["embeddings"].float()
    if "mapping" in tensors:
        rows = rows[tensors["mapping"].long()]
    if "weights" in tensors:
        rows = rows * tensors["weights"].float()[:, None]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    module = _static_embedding()(tokenizer, embedding_weights=rows.contiguous())
    return SentenceTransformer(modules=[module], device=device)


def _static_embedding() -> Any:
    try:
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    except ImportError:
        # Its location before version 5.4.
        from sentence_transformers.models import StaticEmbedding
    return StaticEmbedding
