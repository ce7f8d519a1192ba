"""Average the weights of rankers that were trained alike: one model, as fast as any of them.

Sources: Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482 (uniform and greedy); Shoemake
1985, Animating rotation with quaternion curves (SLERP).
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import NO_ANSWER, Questions
from kaggle_rag.evaluation import data_maps, learnt
from kaggle_rag.evaluation.metrics import log_losses
from kaggle_rag.models.card import CARD, RankerCard
from kaggle_rag.models.checkpoints import weights
from kaggle_rag.rankers.seen import seen_by
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.console import say
from kaggle_rag.runtime.errors import CheckpointError, ConfigError, InputError
from kaggle_rag.runtime.files import made_folder, require_new, whole_folder
from training.loop.run_folder import RECORD
from training.rankers.averages import Average, averaged, is_lora, mean, slerp, widen


@dataclasses.dataclass(frozen=True)
class Judge:
    """Questions with answers that no ingredient has learnt from, and the contexts that rankers read."""

    questions: Path
    contexts: Path | None

    def marks(self) -> list[str]:
        return learnt.marks(Questions.read(self.questions))

    def log_loss(self, folder: Path, device: str | None) -> float:
        """Of a ranker, in nats."""
        table = Questions.read(self.questions)
        if (table.answers == NO_ANSWER).any():
            raise InputError(
                "a greedy soup is judged by questions with answers", where=f"{self.questions}, column answer",
                expected="the letter of the right option in every row",
            )  # fmt: skip
        contexts = read_contexts(self.contexts, table) if self.contexts else None
        with TrainedRanker(str(folder), device=device) as ranker:
            found = ranker.probabilities(table, contexts)
        return float(log_losses(found, table.answers).mean())


def soup(
    folders: Sequence[Path], out: Path, how: str, judge: Judge | None = None, device: str | None = None
) -> dict[str, Any]:
    """Write the average of the weights in ``folders`` to ``out``; return which of them are in it.

    Parameters
    ----------
    how : ``uniform``: the mean of all; ``greedy``: from the best by ``judge`` on, each that does not raise
        the log loss; ``slerp``: the middle of the arc between two.

    Raises
    ------
    ArtifactError : ``out`` exists.
    ConfigError : too few rankers, or too many for SLERP, or a greedy soup without a judge.
    CheckpointError : they do not fit together.
    """
    require_new(out)
    _require_count(folders, how)
    _require_alike(folders)
    for folder in folders:
        # Damage is reported before anything is averaged.
        learnt.read(folder)
        if out.resolve().is_relative_to(folder.resolve()):
            raise ConfigError("OUT lies inside a ranker", where=out, cure="choose another --out")
    if how == "greedy":
        if judge is None:
            raise ConfigError(
                "a greedy soup needs questions to be judged by", where="--how greedy",
                cure="add --questions (and --contexts-file), which no ingredient has learnt from",
            )  # fmt: skip
        return _greedy(folders, out, judge, device)
    _written(folders, out, slerp if how == "slerp" else mean)
    return {"ingredients": [str(folder) for folder in folders]}


def _require_count(folders: Sequence[Path], how: str) -> None:
    if len(folders) < 2 or len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError(
            "a soup has two or more different rankers", where=", ".join(map(str, folders)),
            cure="name each folder once",
        )  # fmt: skip
    if how == "slerp" and len(folders) != 2:
        raise ConfigError(
            f"SLERP goes from one ranker to another, not through {len(folders)}", where="--how slerp",
            cure="name two rankers, or --how uniform",
        )  # fmt: skip


def _require_alike(folders: Sequence[Path]) -> None:
    """Raise ``CheckpointError`` unless all rankers have the same card and the same tensors."""
    first, *others = folders
    card, shapes = _fields(RankerCard.read(first)), _shapes(first)
    for folder in others:
        if differing := [
            key for key, value in _fields(RankerCard.read(folder)).items() if value != card[key]
        ]:
            raise CheckpointError(
                f"its {differing[0]} is not that of {first}", where=folder / CARD,
                expected="rankers that were trained alike, from one backbone",
            )  # fmt: skip
        own = _shapes(folder)
        if unlike := sorted(name for name in {*shapes, *own} if shapes.get(name) != own.get(name)):
            name = unlike[0]
            raise CheckpointError(
                f"{name} is {_told(own.get(name))}, and {_told(shapes.get(name))} in {first}", where=folder,
                expected="rankers that were trained alike, from one backbone",
            )  # fmt: skip


def _fields(card: RankerCard) -> dict[str, Any]:
    """What must agree: the temperature of a mixture and the widest question need not."""
    fields = dataclasses.asdict(card)
    fields["marginal"] = card.marginal and card.marginal["kind"]
    return {key: value for key, value in fields.items() if key != "options"}


def _told(shape: Any) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a number"


def _shapes(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in weights(folder):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_slice(name).get_shape() for name in [*file.keys()]}
    return found


def _greedy(folders: Sequence[Path], out: Path, judge: Judge, device: str | None) -> dict[str, Any]:
    for note in seen_by(map(str, folders), Questions.read(judge.questions)).notes():
        say(f"note: {note}")
    alone = {folder: judge.log_loss(folder, device) for folder in folders}
    first, *rest = sorted(folders, key=lambda folder: alone[folder])
    say(f"{first}: log loss {alone[first]:.4f}")
    kept, least, trial = [first], alone[first], out.with_name(f".{out.name}.trial")
    with made_folder(out.parent):
        try:
            for folder in rest:
                shutil.rmtree(trial, ignore_errors=True)
                _written([*kept, folder], trial, mean)
                loss = judge.log_loss(trial, device)
                taken = loss <= least
                say(f"and {folder}: log loss {loss:.4f}, {'taken' if taken else 'left out'}")
                if taken:
                    kept, least = [*kept, folder], loss
        finally:
            shutil.rmtree(trial, ignore_errors=True)
        _written(kept, out, mean, judge.marks())
    return {"ingredients": [str(folder) for folder in kept], "log loss": least}


def _written(
    folders: Sequence[Path], out: Path, average: Average, marks: Sequence[str] = ()
) -> None:
    """Write a ranker whose weights are an average, in one rename.

    ``marks`` are those of the questions that it was chosen by.
    """
    first = folders[0]
    paths = weights(first)
    # What the first one's training said is not the soup's.
    own = {CARD, RECORD, learnt.FILE, data_maps.FILE, *(path.name for path in paths)}
    with whole_folder(out) as aside:
        shutil.copytree(first, aside, ignore=lambda *_: own, dirs_exist_ok=True)
        for path, tensors, metadata in _averaged(folders, average):
            target = aside / path.relative_to(first)
            target.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, target, metadata)
        if is_lora(first):
            widen(aside, len(folders))
        _card([RankerCard.read(folder) for folder in folders]).write(aside)
        learnt.write(aside, learnt.union([learnt.read(folder) for folder in folders], marks))


def _averaged(
    folders: Sequence[Path], average: Average
) -> Iterator[tuple[Path, dict[str, torch.Tensor], dict[str, str] | None]]:
    """Each weights file of the first folder, its tensors averaged with those of the others, its metadata."""
    with ExitStack() as opened:
        readers = [dict(_readers(folder, opened)) for folder in folders]
        for path in weights(folders[0]):
            with safe_open(path, framework="pt") as file:
                names, metadata = list(file.keys()), file.metadata()
            yield path, averaged(readers, names, average), metadata


def _card(cards: Sequence[RankerCard]) -> RankerCard:
    """That of the first, for the widest questions of all."""
    marginal = cards[0].marginal
    if marginal:
        # Of temperatures, the mean of the logarithms.
        logs = [math.log(each.marginal["temperature"]) for each in cards if each.marginal]
        marginal = {**marginal, "temperature": math.exp(sum(logs) / len(logs))}
    return dataclasses.replace(cards[0], marginal=marginal, options=max(each.options for each in cards))


def _readers(folder: Path, opened: ExitStack) -> Iterator[tuple[str, Callable[[str], torch.Tensor]]]:
    """By name, what reads a tensor of a folder: shards may be cut differently in each."""
    for path in weights(folder):
        file = opened.enter_context(safe_open(path, framework="pt"))
        yield from ((name, file.get_tensor) for name in [*file.keys()])
