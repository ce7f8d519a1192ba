"""How `transformers` chooses the next token, and when it stops, so that no answer depends on its batch."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from kaggle_rag.config import GenerationSettings
from kaggle_rag.runtime.errors import CheckpointError, ConfigError


def end_tokens(model_config: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: those of ``generation_config.json``, else the tokenizer's."""
    ends = model_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    return [] if ends is None else list(ends) if isinstance(ends, (list, tuple)) else [ends]


def decoding_config(
    settings: GenerationSettings, model_config: Any, tokenizer: Any, ends: Sequence[int]
) -> Any:
    """The model's own ``generation_config.json`` with what the settings decide.

    What it says of other things stays, such as a penalty for repetition. Sampling is off: `Draws` samples.
    """
    config = copy.deepcopy(model_config)
    config.update(
        do_sample=False, temperature=None, top_k=None, top_p=None, num_beams=settings.beams,
        max_length=None, max_new_tokens=settings.max_new_tokens, num_return_sequences=1,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=list(ends) or None,
    )  # fmt: skip
    return config


def require_an_end(ends: Sequence[int], settings: GenerationSettings, where: str) -> None:
    """Raise ``ConfigError`` where nothing could end an answer."""
    if not ends and not settings.stop:
        raise ConfigError(
            "this model has no end token, and no stop text is given: every answer would have "
            f"{settings.max_new_tokens:,} tokens",
            where=where, expected='"eos_token" in tokenizer_config.json, or a stop text',
            cure="give the text that ends an answer, such as --stop '\\n'",
        )  # fmt: skip


def seed_of(settings: GenerationSettings, key: str, mark: str) -> int:
    """The seed of one question, by its id and its text: whatever else is asked with it."""
    text = f"{settings.seed}\0{key}\0{mark}"
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def processors(settings: GenerationSettings, seeds: Sequence[int]) -> LogitsProcessorList:
    """What changes the scores of the next token, in this order, for a batch of questions."""
    made: list[LogitsProcessor] = [Numbers(settings.precision)]
    if settings.temperature:
        made.append(TemperatureLogitsWarper(settings.temperature))
        if settings.top_k:
            made.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1:
            made.append(TopPLogitsWarper(settings.top_p))
        made.append(Draws(seeds, settings.max_new_tokens))
    return LogitsProcessorList(made)


class Numbers(LogitsProcessor):  # type: ignore[misc]
    """Stops a model whose scores are not numbers: its answers would be nonsense without a word."""

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if scores.isnan().any():
            raise CheckpointError(
                "the model's scores are not numbers", where=f"precision {self.precision}",
                cure="set precision: fp32 (or bf16, where the GPU has it); if that is the same, its weights "
                "are damaged: copy the folder again",
            )  # fmt: skip
        return scores


class Draws(LogitsProcessor):  # type: ignore[misc]
    """Samples the next token by inverse transform, from random numbers of each question alone.

    Devroye 1986, Non-Uniform Random Variate Generation, section 3.2: the first token whose cumulative
    probability exceeds a uniform number. `transformers` would draw a batch from one stream, and an answer
    would change with the questions beside it.
    """

    def __init__(self, seeds: Sequence[int], longest: int) -> None:
        # (tokens, rows): row r of step t.
        drawn = [np.random.default_rng(seed).random(longest) for seed in seeds]
        self._uniform = torch.tensor(np.stack(drawn, axis=1))
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # In float64: over a large vocabulary, a cumulative sum of float32 would be off by whole tokens.
        cumulative = scores.double().softmax(dim=1).cumsum(dim=1)
        uniform = self._uniform[self._step].to(scores.device) * cumulative[:, -1]
        self._step += 1
        chosen = torch.searchsorted(cumulative, uniform[:, None], right=True)
        chosen = chosen.clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)


class StopTexts(StoppingCriteria):  # type: ignore[misc]
    """Ends a row as soon as its answer, as it will be written, holds a stop text.

    The library's own ``stop_strings`` also match across the border between prompt and answer, so that an
    answer's line break after that of the prompt would be a blank line.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], prompt_tokens: int) -> None:
        self._tokenizer, self._stop, self._start = tokenizer, stop, prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        texts = self._tokenizer.batch_decode(input_ids[:, self._start :], skip_special_tokens=True)
        done = [first_stop(text, self._stop) is not None for text in texts]
        return torch.tensor(done, device=input_ids.device)


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop text begins; ``None`` if there is none."""
    return min((place for each in stop if (place := text.find(each)) >= 0), default=None)
