"""Evidence as keys and values: an encoder turns snippets into a prefix of each layer of a frozen decoder.

A snippet costs ``tokens`` positions, however long it is, and takes no room in a row. Virtual keys and values
are prefix tuning (Li and Liang 2021, https://arxiv.org/abs/2101.00190), here made of what was retrieved, as
in RetroPrompt (Chen et al. 2022, https://arxiv.org/abs/2205.14704); an encoder's tokens become a few vectors
by learnt queries, as in the Perceiver (Jaegle et al. 2021, https://arxiv.org/abs/2103.03206).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import transformers
from torch import nn

from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.description import config_of, described, max_positions
from kaggle_rag.models.own_adapters import require_names
from kaggle_rag.models.packing import by_kind
from kaggle_rag.models.text_encoder import encoder_of, load_text_encoder
from kaggle_rag.runtime.errors import ArtifactError, ConfigError

# The encoder's configuration and tokenizer, beside the weights that are trained.
ENCODER = "knowledge_encoder"
# Tokens of a snippet that are read by default.
_SNIPPET = 128


@dataclasses.dataclass(frozen=True)
class KnowledgeConfig:
    """Settings of the prefix.

    ``encoder`` is the one to start from; ``tokens`` how many positions a snippet takes; ``snippet_tokens``
    how much of it is read (default: 128, or what the encoder has room for); ``vicreg`` the weight of what
    keeps the snippets' vectors apart in training; ``modules_to_save`` modules of the decoder that are trained
    in full, such as a new head.
    """

    encoder: str = DEFAULT_ENCODER
    tokens: int = 10
    snippet_tokens: int | None = None
    vicreg: float = 0.0
    modules_to_save: tuple[str, ...] | None = None

    NAME: ClassVar[str] = "knowledge"
    WHY_NOT_MERGED: ClassVar[str] = "what an encoder makes of each question's snippets is no weight"

    def __post_init__(self) -> None:
        for name in ("tokens", "snippet_tokens"):
            value = getattr(self, name)
            if name == "snippet_tokens" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: an integer of at least 1, not {value!r}")
        if isinstance(self.vicreg, bool) or not 0 <= float(self.vicreg) < float("inf"):
            raise ValueError(f"vicreg: a number of at least 0, not {self.vicreg!r}")
        if not isinstance(self.encoder, str):
            raise ValueError(f"encoder: a folder or a name, not {self.encoder!r}")
        require_names(self, "modules_to_save")

    def attach(self, model: Any, folder: Path | None) -> None:
        """Add the encoder and its projections to a decoder; ``folder`` has those of a trained prefix.

        Raises
        ------
        ConfigError : no encoder that this could project, or more tokens than either model has positions for.
        """
        shape = Shape.of(model.config)
        self._require_positions(model.config)
        encoder, tokenizer = _new_encoder(self.encoder) if folder is None else _saved_encoder(folder)
        knowledge = Knowledge(encoder, tokenizer, shape, self)
        model.add_module("knowledge", knowledge.to(model.device))
        model.register_forward_pre_hook(_with_prefix, with_kwargs=True)

    def save_parts(self, model: Any, folder: Path) -> None:
        """The encoder's configuration and tokenizer."""
        model.knowledge.encoder.config.save_pretrained(folder / ENCODER)
        model.knowledge.tokenizer.save_pretrained(folder / ENCODER)

    def _require_positions(self, config: Any) -> None:
        most = getattr(config, "max_position_embeddings", None)
        if most and self.tokens >= most:
            raise ConfigError(
                f"a prefix of {self.tokens:,} tokens is longer than the decoder's {most:,} positions",
                where="peft.options.tokens", expected="a few a snippet, such as 10", cure="lower it",
            )  # fmt: skip


class Shape(NamedTuple):
    """The keys and values of a decoder: its layers, their key-value heads and the width of a head."""

    layers: int
    heads: int
    width: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        config = config.get_text_config()
        queries = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // queries
        return cls(config.num_hidden_layers, getattr(config, "num_key_value_heads", None) or queries, width)


class Snippets(NamedTuple):
    """The snippets of a batch of questions.

    ``ids``, ``mask`` ``(s, t)``: tokens of the distinct ones; ``rows`` ``(b, m)``: those of each question, -1
    where it has fewer.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor


class Prefix(NamedTuple):
    """Keys and values ``(layers, 2, b, heads, p, width)``, and which of the positions exist, ``(b, p)``."""

    states: torch.Tensor
    present: torch.Tensor


class Knowledge(nn.Module):  # type: ignore[misc]
    """An encoder, learnt queries that sum up a snippet's tokens, and a projection of each layer and head."""

    def __init__(self, encoder: Any, tokenizer: Any, shape: Shape, config: KnowledgeConfig) -> None:
        super().__init__()
        wide = encoder.config.hidden_size
        self.encoder, self.tokenizer, self.config = encoder, tokenizer, config
        self.snippet_tokens = _room(config.snippet_tokens, encoder.config)
        self.queries = nn.Parameter(torch.randn(config.tokens, wide) * wide**-0.5)
        self.norm = nn.LayerNorm(wide)
        self.projections = nn.Parameter(
            torch.randn(shape.layers, 2, shape.heads, wide, shape.width) * wide**-0.5
        )
        self.vectors: torch.Tensor | None = None
        """The mean vector of each snippet read last, ``(s, d)``."""
        self._given: Snippets | None = None
        self._prefix: Prefix | None = None

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Snippets ``(s, t)`` to keys and values ``(layers, 2, s, heads, tokens, width)`` float32."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        scores = (hidden @ self.queries.T).masked_fill(~mask[..., None].bool(), -torch.inf)
        summed = self.norm(scores.softmax(1).mT @ hidden)
        self.vectors = summed.mean(1)
        return torch.einsum("snd,lkhdw->lkshnw", summed, self.projections)

    @contextmanager
    def reading(self, snippets: Snippets) -> Iterator[None]:
        """Calls of the decoder inside the block see these snippets."""
        self._given, self._prefix = snippets, None
        try:
            yield
        finally:
            self._given = self._prefix = None

    def prefix(self) -> Prefix | None:
        """What calls of the decoder see now; made once a block."""
        if self._given is None or self._prefix is not None:
            return self._prefix
        ids, mask, rows = self._given
        states = self(ids, mask)[:, :, rows.clamp(min=0)]
        # (layers, 2, b, m, heads, n, w): the snippets of a question side by side.
        states = states.transpose(3, 4).flatten(4, 5)
        self._prefix = Prefix(states, (rows >= 0).repeat_interleave(self.config.tokens, 1))
        return self._prefix


def _with_prefix(decoder: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Put the keys and values in front of a call's rows; those of a question serve all of its rows.

    Rows keep the positions that they have without a prefix, and see all of it, however short their window.
    """
    prefix = decoder.knowledge.prefix()
    if prefix is None:
        return None
    rows = named["input_ids"].shape[0] // prefix.present.shape[0]
    dtype = decoder.get_input_embeddings().weight.dtype
    cache = transformers.DynamicCache()
    for layer, (keys, values) in enumerate(prefix.states.to(dtype).repeat_interleave(rows, 2)):
        cache.update(keys, values, layer)
    present = prefix.present.repeat_interleave(rows, 0)

    def mask(window: int | None) -> torch.Tensor:
        seen = _seen(named["attention_mask"], present, window)
        bars = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return bars.masked_fill(~seen, torch.finfo(dtype).min)[:, None]

    masks = by_kind(decoder.config, mask)
    return given, {**named, "attention_mask": masks, "past_key_values": cache, "use_cache": True}


def _seen(attended: torch.Tensor, prefix: torch.Tensor, window: int | None) -> torch.Tensor:
    """Which positions each token of a row sees, ``(r, t, p + t)`` bool."""
    at = torch.arange(attended.shape[1], device=attended.device)
    behind = at[:, None] - at
    own = (behind >= 0) & (behind < (window or len(at) + 1))
    before = prefix[:, None].expand(-1, len(at), -1)
    return torch.cat([before, own & attended[:, None].bool()], 2)


def _new_encoder(name: str) -> tuple[Any, Any]:
    """A checkpoint's encoder and tokenizer.

    Raises
    ------
    CheckpointError : it does not load.
    ConfigError : it has no token vectors.
    """
    folder = resolve(name).path
    config, tokenizer = described(folder)
    _require_width(config, name)
    return _without_pooler(load_text_encoder(folder)), tokenizer


def _saved_encoder(folder: Path) -> tuple[Any, Any]:
    """The encoder of a trained prefix, whose weights are loaded with the others."""
    if not (folder / ENCODER).is_dir():
        raise ArtifactError(
            f"{ENCODER} is missing", where=folder, expected="the encoder's config.json and tokenizer",
            cure="copy the folder again",
        )  # fmt: skip
    _, tokenizer = described(folder / ENCODER)
    model = transformers.AutoModel.from_config(config_of(folder / ENCODER))
    return _without_pooler(encoder_of(model)), tokenizer


def _without_pooler(encoder: Any) -> Any:
    """The encoder with its pooler frozen, if it has one, which would get no gradient."""
    for name, part in encoder.named_children():
        if name == "pooler":
            part.requires_grad_(False)
    return encoder


def _room(tokens: int | None, config: Any) -> int:
    """How many tokens of a snippet are read; raise ``ConfigError`` for more than an encoder has positions."""
    limit = max_positions(config)
    if tokens is None:
        return min(_SNIPPET, limit or _SNIPPET)
    if limit and tokens > limit:
        raise ConfigError(
            f"this encoder reads at most {limit:,} tokens, not {tokens:,}",
            where="peft.options.snippet_tokens", cure=f"set it to {limit} or less",
        )  # fmt: skip
    return tokens


def _require_width(config: Any, name: str) -> None:
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise ConfigError(
            "this encoder does not say how wide its token vectors are, so nothing can project them",
            where=f"peft.options.encoder: {name}",
            expected="a transformer with hidden_size in its config.json",
            cure="choose another encoder, such as all-MiniLM-L6-v2",
        )  # fmt: skip
