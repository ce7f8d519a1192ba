"""The forms of a decoder over packed rows: context and question are read once, and every option behind them.

Each gives the numbers of the form that it packs (`kaggle_rag.models.packing`), in training too, where the
gradients of all options flow through the prefix that they share.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch

from kaggle_rag.models import packing
from kaggle_rag.models.answering.base import AnswerForm, Batch, masked, mean_likelihood
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice
from kaggle_rag.models.answering.item import Feature
from kaggle_rag.models.answering.letters import Letters
from kaggle_rag.models.answering.options import Options
from kaggle_rag.models.answering.per_option import BinaryPrompt, RewardPrompt, Rewards
from kaggle_rag.models.packed_outputs import head_logits, token_logits
from kaggle_rag.models.packed_slices import Slice, slices
from kaggle_rag.models.packing import PackedRows

_NONE = 0


class Read(NamedTuple):
    """An output that a form needs: that behind ``token`` of ``row``, for the option in a column.

    ``target`` is the token that is asked for there.
    """

    row: int
    token: int
    column: int
    target: int = _NONE


@dataclasses.dataclass
class PackedCollator(DataCollatorForMultipleChoice):
    """Packs the rows of each question, and puts questions that are short behind each other.

    Returns
    -------
    ``input_ids``, ``position_ids``, ``group`` and ``branch`` ``(rows, t)`` int64, see
    `kaggle_rag.models.packing.tensors`; ``reads`` ``(r,)``, the tokens whose outputs are needed, counted
    through all rows; ``outputs``, ``targets`` and ``owners`` ``(e,)``: which of the reads, the token that is
    asked for there, and the option it counts for (question times width, plus column); and ``present``,
    ``labels`` and ``weights`` as in `DataCollatorForMultipleChoice`.
    """

    def __call__(self, features: Sequence[Feature]) -> Batch:
        return self.units([[feature] for feature in features])

    def units(self, units: Sequence[Sequence[Feature]]) -> Batch:
        """Features of one unit (a question in several orders of its options) are packed together."""
        features = [feature for unit in units for feature in unit]
        wide = max(len(feature["present"]) for feature in features)
        sequences: list[PackedRows] = []
        reads: list[tuple[int, int, int, int]] = []
        for first, unit in _numbered(units):
            rows = [row for feature in unit for row in feature["input_ids"]]
            packs = _packs(rows)
            for read, question in _reads(unit, first):
                pack, row = packs.which[read.row]
                token = packs.sequences[pack].place(row, read.token)
                reads.append((len(sequences) + pack, token, read.target, question * wide + read.column))
            sequences += packs.sequences
        return {**self._laid_out(sequences, reads), **self.facts(features, wide)}

    def sizes(self, units: Sequence[Sequence[Feature]]) -> list[tuple[int, int]]:
        """Rows and their length of each unit."""
        sizes = []
        for unit in units:
            sequences = _packs([row for feature in unit for row in feature["input_ids"]]).sequences
            sizes.append((len(sequences), max(map(len, sequences))))
        return sizes

    def split(self, questions: Sequence[Sequence[Feature]]) -> list[list[Feature]]:
        """A question in all orders of its options is one unit."""
        return [list(question) for question in questions]

    def _laid_out(self, sequences: Sequence[PackedRows], reads: Sequence[tuple[int, int, int, int]]) -> Batch:
        multiple = self.pad_to_multiple_of or 1
        room = -(-max(map(len, sequences)) // multiple) * multiple
        places = packing.first_fit([len(sequence) for sequence in sequences], room)
        batch = packing.tensors(sequences, places, room, self.tokenizer.pad_token_id or 0)
        at = torch.tensor([places[s][0] * room + places[s][1] + token for s, token, _, _ in reads])
        batch["reads"], batch["outputs"] = torch.unique(at, return_inverse=True)
        batch["targets"] = torch.tensor([target for _, _, target, _ in reads])
        batch["owners"] = torch.tensor([owner for *_, owner in reads])
        return batch


class _Packs(NamedTuple):
    """Sequences of some rows, and of each row its sequence and its number in it."""

    sequences: list[PackedRows]
    which: list[tuple[int, int]]


def _packs(rows: Sequence[Sequence[int]]) -> _Packs:
    if packing.is_worthwhile(rows):
        return _Packs([packing.packed(rows)], [(0, number) for number in range(len(rows))])
    return _Packs([packing.packed([row]) for row in rows], [(number, 0) for number in range(len(rows))])


def _numbered(units: Sequence[Sequence[Feature]]) -> Iterator[tuple[int, Sequence[Feature]]]:
    """Units with the number of their first feature."""
    first = 0
    for unit in units:
        yield first, unit
        first += len(unit)


def _reads(unit: Sequence[Feature], first: int) -> Iterator[tuple[Read, int]]:
    """The reads of a unit's features, their rows counted through the unit, and the feature's number."""
    rows = 0
    for number, feature in enumerate(unit):
        for read in feature["reads"]:
            yield read._replace(row=read.row + rows), first + number
        rows += len(feature["input_ids"])


class PackedForm(AnswerForm):
    """What packed forms share: the rows of the form that is packed, and what is read of them.

    ``lean`` says whether the last layer can leave out what is not read (`kaggle_rag.models.packed_outputs`).
    """

    collator: ClassVar[type[DataCollatorForMultipleChoice]] = PackedCollator

    def __init__(self) -> None:
        # Both are tried when the model is known (`kaggle_rag.models.loading.with_packing`).
        self.sliced = self.lean = False

    def encode(self, writer: Any, item: Any) -> Feature:
        """The rows of the form that is packed, and what is read of them."""
        feature = super().encode(writer, item)  # type: ignore[safe-super]
        return {**feature, "reads": list(self.reads(feature, item.places))}

    @abstractmethod
    def reads(self, feature: Feature, places: Sequence[int]) -> Iterator[Read]:
        """The outputs that the form needs of a question's rows."""

    def logits(self, model: Any, batch: Batch) -> torch.Tensor:
        return self.of_outputs(self.outputs(model, batch), batch)

    def logits_in_slices(self, model: Any, batch: Batch, tokens: int) -> torch.Tensor:
        return self.of_outputs(self._of_calls(model, slices(model, batch, tokens)), batch)

    def outputs(self, model: Any, batch: Batch) -> torch.Tensor:
        """The head's outputs at ``batch["reads"]``, ``(reads, ...)`` float32."""
        return self._of_calls(model, [(packing.inputs(model, batch), batch["reads"])])

    def _of_calls(self, model: Any, calls: Iterable[Slice]) -> torch.Tensor:
        read = head_logits if self.has_head else token_logits
        return torch.cat([read(model, given, reads, self.lean).float() for given, reads in calls])

    @abstractmethod
    def of_outputs(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """``(batch, options)`` of `outputs`."""


class PackedOptions(PackedForm, Options):
    """Mean log-likelihood of each option's own tokens after the question."""

    def reads(self, feature: Feature, places: Sequence[int]) -> Iterator[Read]:
        for row, (ids, answer) in enumerate(zip(feature["input_ids"], feature["is_answer"])):
            for token in range(1, len(ids)):
                if answer[token]:
                    yield Read(row, token - 1, places[row], ids[token])

    def of_outputs(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        return masked(mean_likelihood(*self._by_option(outputs, batch)), batch)

    def likelihoods(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return self._by_option(self.outputs(model, batch), batch)

    @staticmethod
    def _by_option(outputs: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """log p(token) ``(b, k, t)``, an option's tokens from the first on, and which there are."""
        likely = outputs[batch["outputs"], batch["targets"]] - outputs.logsumexp(1)[batch["outputs"]]
        owners, options = batch["owners"], batch["present"].numel()
        # The tokens of an option are read one behind the other.
        at = torch.arange(len(owners), device=owners.device)
        begins = torch.cat([owners.new_ones(1, dtype=torch.bool), owners[1:] != owners[:-1]])
        number = at - torch.where(begins, at, 0).cummax(0).values
        shape = (options, int(number.max()) + 1)
        table = likely.new_zeros(shape).index_put((owners, number), likely)
        own = torch.zeros(shape, dtype=torch.bool, device=owners.device)
        own[owners, number] = True
        whole = (*batch["present"].shape, shape[1])
        return table.view(whole), own.view(whole)


class PackedBinaryPrompt(PackedForm, BinaryPrompt):
    """A classification head over the last token of each option's row."""

    def reads(self, feature: Feature, places: Sequence[int]) -> Iterator[Read]:
        for row, ids in enumerate(feature["input_ids"]):
            yield Read(row, len(ids) - 1, places[row])

    def of_outputs(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        scores = outputs[batch["outputs"]]
        table = scores.new_zeros(batch["present"].numel(), scores.shape[-1])
        table = table.index_put((batch["owners"],), scores)
        return self.combined(table.view(*batch["present"].shape, -1), batch)


class PackedRewardPrompt(Rewards, PackedBinaryPrompt):
    """The same, learnt from pairs of options."""


class PackedLetters(PackedForm, Letters):
    """The next token's logits of the options' letters; several orders of the options share the question."""

    def reads(self, feature: Feature, places: Sequence[int]) -> Iterator[Read]:
        (row,) = feature["input_ids"]
        for place, choice in zip(places, feature["choices"]):
            yield Read(0, len(row) - 1, place, choice)

    def of_outputs(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        values = outputs[batch["outputs"], batch["targets"]]
        table = values.new_zeros(batch["present"].numel()).index_put((batch["owners"],), values)
        return masked(table.view(batch["present"].shape), batch)


_PACKED: dict[type[AnswerForm], type[PackedForm]] = {
    Options: PackedOptions, BinaryPrompt: PackedBinaryPrompt, Letters: PackedLetters,
    RewardPrompt: PackedRewardPrompt,
}  # fmt: skip


def packed_of(form: AnswerForm) -> PackedForm | None:
    """The same form over packed rows; ``None`` where it has none."""
    packed = _PACKED.get(type(form))
    return packed() if packed else None
