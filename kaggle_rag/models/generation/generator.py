"""Answers in words from a decoder or an encoder-decoder: `transformers` generates, in batches by length."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from kaggle_rag.config import GenerationSettings
from kaggle_rag.data.answers import Answer
from kaggle_rag.models.answering.base import TOKENS, by_length
from kaggle_rag.models.answering.forms import DECODER, ENCODER, family_of
from kaggle_rag.models.checkpoints import resolve
from kaggle_rag.models.description import FAULTS, described, max_positions
from kaggle_rag.models.devices import precision_of
from kaggle_rag.models.generation.decoding import (
    StopTexts,
    decoding_config,
    end_tokens,
    first_stop,
    processors,
    require_an_end,
)
from kaggle_rag.models.generation.memory import need_of_generation
from kaggle_rag.models.generation.prompts import Prompt, room_of
from kaggle_rag.models.loading import load_backbone, require_4bit
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import CheckpointError, ConfigError, LimitError
from kaggle_rag.runtime.limits import Need, release


class Generator:
    """Answers prompts; until `load`, everything is known of the model but its weights.

    Raises
    ------
    CheckpointError : no such model, or config and tokenizer do not load or do not match.
    ConfigError : a model that cannot generate, has no end, or is shorter than prompt and answer.
    """

    def __init__(self, settings: GenerationSettings, device: str) -> None:
        assert settings.model
        self.settings, self.device = settings, device
        self.folder: Path = resolve(settings.model).path
        self.precision = precision_of(settings.precision, device, "generate.precision")
        if settings.load_in_4bit:
            require_4bit()
        config, self.tokenizer = described(self.folder)
        self.config, self.family = config, family_of(config)
        if self.family == ENCODER:
            raise ConfigError(
                f"a model of the type {config.model_type!r} is an encoder, which cannot generate",
                where=self.folder, expected="a decoder such as Llama, or an encoder-decoder such as T5",
                cure="answer with it as a ranker: python -m inference submit",
            )  # fmt: skip
        self.tokenizer.padding_side = "left" if self.family == DECODER else "right"
        self.max_tokens = room_of(settings, max_positions(config), family=self.family)
        # Sorted out before the weights are read; the model reads the same file.
        self._decoding = _stored(self.folder, config)
        self.ends = end_tokens(self._decoding, self.tokenizer)
        require_an_end(self.ends, settings, str(self.folder))
        self._tokens = settings.batch_tokens or TOKENS[device.split(":")[0]]

    def need(self) -> Need:
        """The memory that answering needs, by the headers of the files; nothing is loaded."""
        return need_of_generation(
            self.folder, self.config, self.settings, device=self.device, precision=self.precision,
            prompt_tokens=self.max_tokens, batch_tokens=self._tokens,
        )  # fmt: skip

    @functools.cached_property
    def model(self) -> Any:
        """The model, loaded where it is first asked for.

        Raises
        ------
        CheckpointError : it does not load, or parts of it are missing.
        """
        backbone = load_backbone(
            str(self.folder), "options", device=self.device, precision=self.precision,
            nf4=self.settings.load_in_4bit,
        )  # fmt: skip
        if backbone.new:
            raise CheckpointError(
                "this checkpoint has no language model", where=self.folder,
                expected=f"weights of {', '.join(backbone.new)}", cure="copy the complete folder again",
            )  # fmt: skip
        return backbone.model.eval()

    def answers(
        self, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> Iterator[tuple[list[int], list[Answer]]]:
        """The answers of a batch and their rows among the prompts, batch by batch, the longest prompts first.

        Parameters
        ----------
        seeds : of each prompt, see `kaggle_rag.models.generation.decoding.seed_of`.

        Raises
        ------
        LimitError : a single prompt does not fit into memory.
        """
        lengths = np.array([len(prompt.ids) for prompt in prompts], np.int64) + self.settings.max_new_tokens
        queue = deque(self._batches(lengths, np.arange(len(prompts))))
        while queue:
            rows = queue.popleft()
            try:
                made = self._answered([prompts[row] for row in rows], [seeds[row] for row in rows])
            except torch.OutOfMemoryError:
                left = np.concatenate([rows, *queue])
                self._halve(len(rows), int(lengths[rows[0]]))
                queue = deque(self._batches(lengths, left))
                continue
            yield [int(row) for row in rows], made

    def _batches(self, lengths: Any, rows: Any) -> Iterator[Any]:
        """Rows of similar length, of at most so many padded tokens."""
        sizes = [(self.settings.beams, int(lengths[row])) for row in rows]
        yield from (rows[chosen] for chosen in (by_length(sizes, self._tokens) if sizes else ()))

    def _halve(self, count: int, length: int) -> None:
        if count == 1:
            raise LimitError(
                "one question does not fit into memory",
                cure="lower generate.max_tokens, max_new_tokens or beams, or set load_in_4bit: true",
            )
        release()
        self._tokens = min(self._tokens, count * length * self.settings.beams) // 2
        say(f"note: out of memory: answering in batches of {self._tokens:,} tokens")

    def _answered(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Answer]:
        given = {"input_ids": [list(prompt.ids) for prompt in prompts]}
        rows = self.tokenizer.pad(given, return_tensors="pt")
        ids, mask = (rows[key].to(self.model.device) for key in ("input_ids", "attention_mask"))
        start = ids.shape[1] if self.family == DECODER else 1
        stop = [StopTexts(self.tokenizer, self.settings.stop, start)] if self.settings.stop else None
        config = decoding_config(self.settings, self._decoding, self.tokenizer, self.ends)
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=ids, attention_mask=mask, generation_config=config,
                logits_processor=processors(self.settings, seeds), stopping_criteria=stop,
            )  # fmt: skip
        return [self._answer(row, prompt) for row, prompt in zip(made[:, start:].tolist(), prompts)]

    def _answer(self, tokens: list[int], prompt: Prompt) -> Answer:
        """What was generated up to the first end token, or stop text; padding follows both."""
        count = next((place for place, token in enumerate(tokens) if token in self.ends), None)
        text = self.tokenizer.decode(tokens[:count], skip_special_tokens=True)
        if (cut := first_stop(text, self.settings.stop)) is not None:
            return Answer(text[:cut].strip(), "stop", self._tokens_to_stop(tokens), prompt.context)
        if count is not None:
            return Answer(text.strip(), "end", count + 1, prompt.context)
        return Answer(text.strip(), "length", len(tokens), prompt.context)

    def _tokens_to_stop(self, tokens: list[int]) -> int:
        """How many tokens it took to generate a stop text."""
        for count in range(1, len(tokens)):
            text = self.tokenizer.decode(tokens[:count], skip_special_tokens=True)
            if first_stop(text, self.settings.stop) is not None:
                return count
        return len(tokens)


def _stored(folder: Path, config: Any) -> Any:
    """The ``generation_config.json`` of a folder; one that has none is described by its ``config.json``."""
    if not (folder / "generation_config.json").is_file():
        return GenerationConfig.from_model_config(config)
    try:
        stored = GenerationConfig.from_pretrained(str(folder), local_files_only=True)
        if config.is_encoder_decoder and stored.decoder_start_token_id is None:
            stored.decoder_start_token_id = config.decoder_start_token_id
        return stored
    except FAULTS as error:
        raise CheckpointError(
            f"generation_config.json does not load ({str(error).splitlines()[0]})", where=folder,
            cure="copy the file again, or remove it: config.json then says what ends an answer",
        ) from error  # fmt: skip
