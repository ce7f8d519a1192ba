"""Load a backbone with its tokenizer, its head, and its adapter if it has one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

from kaggle_rag.models import own_adapters, packed_attention
from kaggle_rag.models.answering.base import AnswerForm
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice
from kaggle_rag.models.answering.forms import DECODER, family_of, form_of
from kaggle_rag.models.answering.packed import packed_of
from kaggle_rag.models.card import RankerCard, require_base
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.description import FAULTS, config_of, described
from kaggle_rag.models.devices import AUTO, capability_of, dtype_of
from kaggle_rag.models.memory import WHOLE
from kaggle_rag.models.packed_trial import can_be_lean, can_be_sliced, fitted
from kaggle_rag.models.packing import has_virtual_tokens, inner
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import CheckpointError, ConfigError


class Backbone(NamedTuple):
    """A loaded model, and how to query it."""

    model: Any
    tokenizer: Any
    form: AnswerForm
    family: str
    new: tuple[str, ...]
    """Modules missing from the checkpoint: they are untrained, and must be trained."""

    def collator(self) -> DataCollatorForMultipleChoice:
        """The collator for its questions."""
        on_gpu = self.model.device.type == "cuda"
        # Adapters that prepend virtual tokens to a row number the tokens themselves.
        numbered = self.family == DECODER and not has_virtual_tokens(self.model)
        return self.form.make_collator(self.tokenizer, 8 if on_gpu else None, numbered)


def load_backbone(
    name: str, form: str, *, device: str, precision: str = "fp32", nf4: bool = False, labels: int = 1
) -> Backbone:
    """Load a checkpoint with the head that a form needs; a missing head is new, drawn by torch's seed.

    Parameters
    ----------
    name : folder or hub name, resolved by `kaggle_rag.models.checkpoints.resolve`.
    form : a key of `kaggle_rag.models.answering.forms.FORMS`.
    precision : a key of `PRECISIONS` in `kaggle_rag.models.devices`; of the weights, or of what a 4-bit model
        computes in.
    nf4 : keep the linear layers in 4-bit NormalFloat with double quantization (Dettmers et al. 2023,
        https://arxiv.org/abs/2305.14314).
    labels : of a binary head, 1 or 2.

    Raises
    ------
    CheckpointError : nothing found, or it does not load.
    ConfigError : the backbone's family does not support this form.
    """
    folder = resolve(name).path
    config, tokenizer = described(folder)
    family = family_of(config)
    answer_form = form_of(form, family)
    # A decoder answers at the end of its row.
    tokenizer.padding_side = "left" if family == DECODER else "right"
    if answer_form.has_head:
        config.num_labels = labels
        # The heads of transformers look for it at the end of a row.
        config.pad_token_id = tokenizer.pad_token_id
    options: dict[str, Any] = {"config": config, "dtype": dtype_of(precision)}
    if nf4:
        options |= {"quantization_config": _nf4(dtype_of(precision)), "device_map": {"": device}}
    try:
        model, info = getattr(transformers, answer_form.auto).from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True, **options,
        )  # fmt: skip
    except FAULTS as error:
        reason = str(error).splitlines()[0]
        if "ignore_mismatched_sizes" in reason:
            # The library prints them in a table that nobody sees here.
            reason = "its weights have other shapes than its config.json says"
        raise CheckpointError(
            f"this folder does not load as a backbone ({reason})",
            where=folder,
            expected=f"a checkpoint that {answer_form.auto} of transformers {transformers.__version__} reads",
        ) from error
    if nf4:
        _keep_trainable(model)
    missing = {name.rpartition(".")[0] for name in info["missing_keys"]}
    if answer_form.embeds:
        missing -= _frozen_pooler(model)
    new = tuple(sorted(missing))
    return Backbone(model if nf4 else model.to(device), tokenizer, answer_form, family, new)


def _frozen_pooler(model: Any) -> set[str]:
    """Parts of a pooler, which a mean over tokens ignores; frozen, so that no process waits for them."""
    pooler = {name for name, _ in model.named_modules() if name.startswith("pooler")}
    for name in pooler:
        model.get_submodule(name).requires_grad_(False)
    return pooler


def with_knowledge(backbone: Backbone) -> Backbone:
    """The backbone with its form over snippets as keys and values, if its model has a knowledge prefix."""
    knowledge = getattr(backbone.model, "knowledge", None)
    if knowledge is None:
        return backbone
    from kaggle_rag.models.answering.prefixed import Prefixed

    return backbone._replace(form=Prefixed(backbone.form, knowledge))


def with_packing(backbone: Backbone, attention: str = AUTO) -> tuple[Backbone, str]:
    """The backbone with its form over packed rows; as it is, with the reason, where that does not work.

    ``attention`` is one of `kaggle_rag.models.devices.ATTENTIONS`; the model keeps it from here on.
    """
    form = packed_of(backbone.form) if backbone.family == DECODER else None
    if form is None:
        return backbone, ""
    own = inner(backbone.model)
    names = packed_attention.implementations(
        own.config._attn_implementation, attention, flex=own._supports_flex_attn,
        card=capability_of(backbone.model.device), version=torch.__version__,
    )  # fmt: skip
    refused = fitted(backbone.model, names)
    if len(refused) == len(names):
        return backbone, refused[-1]
    if attention == "flex" and own.config._attn_implementation != packed_attention.FLEX:
        tried = names[0] == packed_attention.FLEX
        reason = refused[0] if tried else "the model, torch before 2.9 or a card before Ampere lacks it"
        say(f"note: no FlexAttention for this model: {reason}")
    form.sliced, form.lean = can_be_sliced(backbone.model), can_be_lean(backbone.model)
    return backbone._replace(form=form), ""


def load_ranker(
    folder: Path, *, device: str, precision: str = "fp32", base: str | None = None, nf4: bool = False
) -> tuple[RankerCard, Backbone]:
    """A trained ranker, as ``python -m training`` wrote it.

    ``base`` is the location of an adapter's backbone; ``nf4`` keeps the backbone in 4 bits even if it was
    trained in more (one that was trained in 4 bits always is).

    Raises
    ------
    CheckpointError, ArtifactError : no ranker, a damaged one, or other weights than the adapter's.
    """
    card = RankerCard.read(folder)
    if not card.base:
        return card, load_whole(folder, card, device=device, precision=precision, nf4=nf4)
    require_base(base or card.base, card)
    backbone = load_backbone(
        base or card.base, card.form, device=device, precision=precision, nf4=card.nf4 or nf4,
        labels=card.labels,
    )  # fmt: skip
    return card, with_knowledge(backbone._replace(model=_with_adapter(backbone.model, folder)))


def load_whole(
    folder: Path, card: RankerCard, *, device: str, precision: str, nf4: bool = False
) -> Backbone:
    """A checkpoint that answers as it is, in 4 bits if requested: it must contain its head.

    Raises
    ------
    CheckpointError : it does not load, or its head was never trained.
    """
    backbone = load_backbone(
        str(folder), card.form, device=device, precision=precision, nf4=nf4, labels=card.labels
    )
    if backbone.new:
        raise CheckpointError(
            f"this checkpoint has no head for the form {card.form!r}",
            where=folder,
            expected=f"weights of {', '.join(backbone.new)}",
            cure="train it first: python -m training --help",
        )
    return backbone


def family_in(name: str) -> str:
    """The family of the checkpoint that a name stands for, by its ``config.json`` alone."""
    return family_of(config_of(resolve(name).path))


def require_4bit() -> None:
    """Raise ``ConfigError`` if 4-bit weights are not available."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "4-bit weights need bitsandbytes", cure="pip install bitsandbytes, or the extra 'train'"
        )


def _nf4(compute: torch.dtype) -> Any:
    require_4bit()
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute, llm_int8_skip_modules=list(WHOLE),
    )  # fmt: skip


def _keep_trainable(model: Any) -> None:
    """Keep an evaluation on a CPU from repacking the 4-bit weights for a kernel without gradients.

    bitsandbytes does so in the first forward pass in evaluation mode if the CPU has AVX512_BF16;
    training that continues afterwards uses wrong gradients.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _with_adapter(model: Any, folder: Path) -> Any:
    if config := own_adapters.read(folder):
        own_adapters.load(own_adapters.attach(model, config, folder), folder)
        return model
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ConfigError("an adapter needs peft", cure="pip install peft, or the extra 'train'") from error
    return PeftModel.from_pretrained(model, str(folder), is_trainable=False)
