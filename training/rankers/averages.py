"""Averages of weights, tensor by tensor; of LoRA, of the product that its two factors stand for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

from kaggle_rag.runtime.files import write_json

Read = Callable[[str], torch.Tensor]
# How much of each of ``n`` tensors is taken, by their inner products ``(n, n)``, which not all ask for.
Average = Callable[[int, Callable[[], torch.Tensor]], list[float]]

_FIRST, _SECOND = (re.compile(rf"\.lora_(embedding_)?{letter}(?=\.|$)") for letter in "AB")
_ADAPTER = "adapter_config.json"
# Directions closer than this are averaged in a straight line: the arc between them has no length.
_COLINEAR = 1e-6


def mean(count: int, products: Callable[[], torch.Tensor]) -> list[float]:
    """As much of each."""
    return [1 / count] * count


def slerp(count: int, products: Callable[[], torch.Tensor]) -> list[float]:
    """The middle of the arc between two: for unit vectors sin(a / 2) / sin(a) of each, a their angle."""
    table = products().double()
    sizes = table.diagonal().sqrt()
    if not all(sizes):
        return mean(count, products)
    cosine = float((table[0, 1] / sizes.prod()).clamp(-1, 1))
    if 1 - abs(cosine) < _COLINEAR:
        return mean(count, products)
    angle = math.acos(cosine)
    return [math.sin(angle / 2) / math.sin(angle)] * count


def averaged(
    readers: Sequence[Mapping[str, Read]], names: Iterable[str], average: Average
) -> dict[str, torch.Tensor]:
    """The tensors of these names, averaged over all readers, in the types of the first.

    The mean of LoRA's products B A is not the product of the means of B and of A, so the factors of all are
    put side by side. That is exact, and the rank is as many times as large: see `widen`.
    """
    made: dict[str, torch.Tensor] = {}
    for name in names:
        if _SECOND.search(name):
            continue
        tensors = [each[name](name) for each in readers]
        if _FIRST.search(name):
            other = _FIRST.sub(r".lora_\1B", name)
            seconds = [each[other](other) for each in readers]
            made[name], made[other] = _side_by_side(tensors, seconds, average)
        else:
            made[name] = _one(tensors, average)
    return made


def _one(tensors: Sequence[torch.Tensor], average: Average) -> torch.Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first
    flat = [each.float().flatten() for each in tensors]

    def products() -> torch.Tensor:
        return torch.stack(flat) @ torch.stack(flat).T

    summed = sum(share * each for share, each in zip(average(len(flat), products), flat))
    return torch.as_tensor(summed).view_as(first).to(first.dtype)


def _side_by_side(
    firsts: Sequence[torch.Tensor], seconds: Sequence[torch.Tensor], average: Average
) -> tuple[torch.Tensor, torch.Tensor]:
    """A ``(n r, in)`` and B ``(out, n r)`` whose product is the average of the products."""
    pairs = [(a.float(), b.float()) for a, b in zip(firsts, seconds)]

    def products() -> torch.Tensor:
        """Of the matrices B A, without making them: <B A, D C> is the sum of (B' D) * (A C')."""
        return torch.tensor([[float(((b.T @ d) * (a @ c.T)).sum()) for c, d in pairs] for a, b in pairs])

    shares = average(len(pairs), products)
    second = torch.cat([share * b for share, (_, b) in zip(shares, pairs)], dim=1)
    return torch.cat(list(firsts)), second.to(seconds[0].dtype)


def widen(folder: Path, count: int) -> None:
    """Let the configuration of a LoRA adapter say the rank of `averaged`, ``count`` times its own.

    Its factor alpha / r, or with rsLoRA alpha / sqrt(r), stays what it was.
    """
    told = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
    more = math.sqrt(count) if told.get("use_rslora") else count
    told |= {"r": told["r"] * count, "lora_alpha": told["lora_alpha"] * more}
    for key, factor in (("rank_pattern", count), ("alpha_pattern", more)):
        told[key] = {name: value * factor for name, value in (told.get(key) or {}).items()}
    write_json(folder / _ADAPTER, told)


def is_lora(folder: Path) -> bool:
    """Whether a ranker's folder holds a LoRA adapter."""
    path = folder / _ADAPTER
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("peft_type") == "LORA"
