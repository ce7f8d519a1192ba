"""The forms of answering by name and family: one table; nothing heavy is imported until a form is built."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

from kaggle_rag.runtime.errors import ConfigError

if TYPE_CHECKING:
    from kaggle_rag.models.answering.base import AnswerForm

ENCODER, DECODER, ENCODER_DECODER = "encoder", "decoder", "encoder-decoder"

# The module and class of each form in this folder.
FORMS: dict[str, dict[str, str]] = {
    "choice": {ENCODER: "per_option:Choice"},
    "bi-encoder": {ENCODER: "bi_encoder:BiEncoder"},
    "binary": {
        ENCODER: "per_option:Binary",
        DECODER: "per_option:BinaryPrompt",
        ENCODER_DECODER: "per_option:BinaryPrompt",
    },
    "reward": {
        ENCODER: "per_option:Reward",
        DECODER: "per_option:RewardPrompt",
        ENCODER_DECODER: "per_option:RewardPrompt",
    },
    "letters": {DECODER: "letters:Letters", ENCODER_DECODER: "letters:DecodedLetters"},
    "options": {DECODER: "options:Options", ENCODER_DECODER: "options:DecodedOptions"},
}


def form_of(name: str, family: str) -> AnswerForm:
    """The form of that name for a family; raise ``ConfigError`` with those it supports."""
    if family in FORMS.get(name, {}):
        answer_form: AnswerForm = pkgutil.resolve_name(f"{__package__}.{FORMS[name][family]}")()
        return answer_form
    fitting = [form for form, families in FORMS.items() if family in families]
    raise ConfigError(
        f"a backbone of the family {family} does not support the form {name!r}",
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
