"""One pass of all questions over the layers: as many of them as the time allows, the first ones first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch

from kaggle_rag.models.answering.base import Batch
from kaggle_rag.models.streaming.hidden_states import HiddenStates, wait
from kaggle_rag.models.streaming.pace import Pace
from kaggle_rag.models.streaming.shards import Parts
from kaggle_rag.models.streaming.skeleton import Skeleton
from kaggle_rag.runtime.console import duration, progress, say

# Share of the time that a forecast may fill, and the layers that are measured before it is made.
_FILLED = 0.95
_MEASURED = 2
# By how much the first batch must be too slow in the first layer for the pass to end there.
_HOPELESS = 2.0


class Progress(NamedTuple):
    """What the lines on stderr say of a pass.

    Attributes
    ----------
    name : what they call the model.
    questions : how many questions the first so many batches hold.
    quiet : there are no lines.
    """

    name: str
    questions: Callable[[int], int]
    quiet: bool


class LayerPass:
    """The batches on their way through the layers.

    Parameters
    ----------
    skeletons : one for each device; the devices take the batches in turn.
    batches : in the order of their importance.
    left : the seconds in which they must be answered; infinite without a limit.
    """

    def __init__(
        self, skeletons: Sequence[Skeleton], parts: Parts, batches: Sequence[Batch], states: HiddenStates,
        pace: Pace, left: Callable[[], float], told: Progress,
    ) -> None:  # fmt: skip
        self._skeletons, self._parts, self._batches, self._states = skeletons, parts, batches, states
        self._pace, self._left, self._told = pace, left, told
        self._limited = left() != float("inf")
        self._turn = threading.Lock()
        # The first layer of this run, behind those that an earlier one finished.
        self._first = 0

    def run(self, layers: int) -> int:
        """How many of the batches went through all layers; 0 where the time is too short for any.

        A pass that was taken up goes on behind the layers that it is through.
        """
        states = self._states
        if self._limited and self._pace.token:
            # An earlier pass has shown what a layer takes.
            self._drop(layers - max(states.finished - 1, 0), _FILLED)
        if states.batches and states.finished == 0:
            self._embed()
        self._first = max(0, states.finished - 1)
        with progress(layers, self._told.name, "layer", initial=self._first, disable=self._told.quiet) as bar:
            for layer in range(self._first, layers):
                if not states.batches:
                    return 0
                self._through(layer, layers)
                bar.update()
                self._look_ahead(layer - self._first + 1, layers - layer - 1)
        return states.batches

    def _embed(self) -> None:
        (weights,), first = self._parts.take(0, 1), self._skeletons[0]
        with first.filled(weights):
            for number in self._going():
                self._states.put(number, first.embedded(self._moved(number, first.device)))
                if self._left() <= 0:
                    self._states.batches = number
            wait(first.device)
        self._states.finish()

    def _through(self, layer: int, layers: int) -> None:
        states, pace = self._states, self._pace
        weights = self._parts.take(layer + 1)
        with ExitStack() as filled:
            for skeleton in self._skeletons:
                filled.enter_context(skeleton.filled(weights.pop(0)))
            # A layer that stayed in memory is read in no time.
            pace.read, pace.move = self._parts.read_seconds or pace.read, self._parts.move_seconds
            if self._limited and layer == self._first:
                for skeleton in self._skeletons:
                    # The first call is slow, and says nothing about the others.
                    self._computed(skeleton, layer, 0)
                    wait(skeleton.device)
            began, numbers = time.perf_counter(), self._going()
            work = partial(self._share, layer, layers, numbers, began)
            if len(self._skeletons) == 1:
                work(self._skeletons[0])
            else:
                with ThreadPoolExecutor(len(self._skeletons), "devices") as threads:
                    # What one of them raises is raised here, when all have ended.
                    list(threads.map(work, self._skeletons))
        states.finish()
        if states.batches:
            pace.token = (time.perf_counter() - began) / pace.tokens(states.batches)

    def _share(
        self, layer: int, layers: int, numbers: Iterator[int], began: float, skeleton: Skeleton
    ) -> None:
        """What one device does of a layer: the next batch that no other has taken, until there is none."""
        with torch.inference_mode():
            while True:
                with self._turn:
                    number = next(numbers, None)
                if number is None:
                    break
                self._states.put(number, self._computed(skeleton, layer, number))
                if self._limited and layer == self._first:
                    wait(skeleton.device)
                    with self._turn:
                        self._first_look(number + 1, layers - layer - 1, time.perf_counter() - began)
            wait(skeleton.device)

    def _going(self) -> Iterator[int]:
        """Numbers of the batches that go on, as long as they do."""
        number = 0
        while number < self._states.batches:
            yield number
            number += 1

    def _computed(self, skeleton: Skeleton, layer: int, number: int) -> torch.Tensor:
        hidden = self._states.get(number, skeleton.device)
        return skeleton.through(layer, hidden, self._moved(number, skeleton.device))

    def _first_look(self, done: int, layers: int, seconds: float) -> None:
        """End the first layer where the others would have no time for more batches."""
        self._pace.token = seconds / self._pace.tokens(done)
        ahead, left = self._pace.seconds(done, layers), self._left()
        if ahead > left and done <= self._states.batches:
            # One layer is little to judge by: where it is close for the first batch, the next one decides.
            self._states.batches = 0 if done == 1 and ahead > _HOPELESS * left else done

    def _look_ahead(self, measured: int, layers: int) -> None:
        """Drop the batches for which the layers to come have no time, and say how long those take."""
        if measured < _MEASURED or not layers:
            return
        before = self._states.batches
        self._drop(layers, _FILLED if measured == _MEASURED else 1.0)
        if measured == _MEASURED or self._states.batches < before:
            self._tell(layers)

    def _drop(self, layers: int, share: float) -> None:
        """Leave out the last batches, unless all of them fit in a share of the time that is left."""
        states, left = self._states, self._left()
        if self._limited and self._pace.seconds(states.batches, layers) > share * left:
            states.batches = self._pace.fitting(states.batches, layers, _FILLED * left)

    def _tell(self, layers: int) -> None:
        name, questions, quiet = self._told
        everything, going = questions(len(self._batches)), questions(self._states.batches)
        if quiet or not going:
            return
        which = f"{going:,}" + (f" of {everything:,}" if going < everything else "")
        ahead = duration(self._pace.seconds(self._states.batches, layers))
        say(f"{name}: about {ahead} to go for {which} questions and {layers:,} layers")

    def _moved(self, number: int, device: str) -> Batch:
        return {key: value.to(device) for key, value in self._batches[number].items()}
