"""The forms in which a backbone answers: what it reads, which head it has, how its options are scored."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kaggle_rag.models import layouts
from kaggle_rag.models.answering import features
from kaggle_rag.models.answering.features import Feature, Item
from kaggle_rag.models.layouts import Layout, Writer
from kaggle_rag.runtime.errors import ConfigError

if TYPE_CHECKING:
    import torch

ENCODER, DECODER, ENCODER_DECODER = "encoder", "decoder", "encoder-decoder"


@dataclasses.dataclass(frozen=True)
class Form:
    """One form for one family of backbones.

    ``auto`` is the class of transformers that loads it, ``features`` makes a question's rows, ``scored``
    names the function of `kaggle_rag.models.answering.scoring` that scores a collated batch (it brings torch
    along, which ``--help`` does without), ``loss`` is what it is trained by unless told otherwise.
    """

    auto: str
    layout: Layout
    features: Callable[[Writer, Item], Feature]
    scored: str
    loss: str

    def logits(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """One number an option, ``(batch, options)`` float32."""
        scored = pkgutil.resolve_name(f"kaggle_rag.models.answering.scoring:{self.scored}")
        found: torch.Tensor = scored(model, batch)
        return found

    @property
    def has_head(self) -> bool:
        """Whether a head is trained beside the backbone (a language model answers in words)."""
        return self.auto in (_CHOICE, _CLASSES)

    @property
    def embeds(self) -> bool:
        """Whether the backbone gives vectors of texts; a pooler that it has is not asked."""
        return self.auto == _VECTORS


_CHOICE, _CLASSES = "AutoModelForMultipleChoice", "AutoModelForSequenceClassification"
_NEXT, _DECODED = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
_VECTORS = "AutoModel"

FORMS: dict[str, dict[str, Form]] = {
    # All options of a question compete in one softmax.
    "choice": {
        ENCODER: Form(_CHOICE, layouts.PAIR, features.a_row_an_option, "choice", "cross-entropy"),
    },
    # Question, options and snippets are embedded apart and compared: begins where `similarity` stands.
    "bi-encoder": {
        ENCODER: Form(_VECTORS, layouts.APART, features.texts_apart, "bi_encoder", "cross-entropy"),
    },
    # Every option is judged alone, right or wrong.
    "binary": {
        ENCODER: Form(_CLASSES, layouts.PAIR, features.a_row_an_option, "binary", "binary"),
        DECODER: Form(_CLASSES, layouts.BINARY, features.a_row_an_option, "binary", "binary"),
        ENCODER_DECODER: Form(_CLASSES, layouts.BINARY, features.a_row_an_option, "binary", "binary"),
    },
    # All options are read at once, and one letter is said: the cheapest.
    "letters": {
        DECODER: Form(_NEXT, layouts.LETTER, features.a_letter, "letters", "cross-entropy"),
        ENCODER_DECODER: Form(
            _DECODED, layouts.LETTER, features.a_letter_to_decode, "decoded_letters", "cross-entropy"
        ),
    },
    # How likely is each option as what follows the question?
    "options": {
        DECODER: Form(_NEXT, layouts.OPTION, features.an_answer_an_option, "options", "cross-entropy"),
        ENCODER_DECODER: Form(
            _DECODED, layouts.OPTION, features.an_option_to_decode, "decoded_options", "cross-entropy"
        ),
    },
}


def form_of(name: str, family: str) -> Form:
    """The form of that name for a family; raise ``ConfigError`` with those that it has."""
    if family in FORMS.get(name, {}):
        return FORMS[name][family]
    fitting = [form for form, families in FORMS.items() if family in families]
    raise ConfigError(
        f"a backbone of the family {family} does not answer in the form {name!r}",
        where="form",
        expected="one of " + ", ".join(fitting),
    )


def family_of(config: Any) -> str:
    """The family of a backbone, by its ``config.json``."""
    from transformers.models.auto import modeling_auto as known

    kind = config.model_type
    if config.is_encoder_decoder:
        return ENCODER_DECODER
    if (
        kind in known.MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES
        or kind in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    ):
        return ENCODER
    if kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return DECODER
    raise ConfigError(
        f"transformers knows no text model of type {kind!r}",
        where=config.name_or_path,
        expected="an encoder, a decoder or an encoder-decoder of text",
        cure="update transformers, or choose another backbone",
    )
