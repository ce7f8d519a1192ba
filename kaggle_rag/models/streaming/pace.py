"""How long a pass takes, by what its layers took so far, and for how many batches a time is enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Pace:
    """The seconds of a pass over the first so many batches.

    While one layer computes the next is read, so a layer takes as long as the slower of both, and the time
    that its weights need to be moved. The head is read like a layer, and computes the tokens that it reads.

    Parameters
    ----------
    tokens : padded tokens of each batch, in the order of their importance.
    reads : how many tokens of each batch meet the head.
    head : bytes of the head, in layers.

    Attributes
    ----------
    read, move : seconds of a layer's weights.
    token : seconds of a token in a layer; 0 before one was measured.
    """

    def __init__(self, tokens: Sequence[int], reads: Sequence[int], head: float) -> None:
        self._tokens, self._reads = np.cumsum([0, *tokens]), np.cumsum([0, *reads])
        self._head = head
        self.read = self.move = self.token = 0.0

    def scaled(self, factor: float) -> Pace:
        """That of so many times the batches, as one."""
        other = Pace([int(factor * self._tokens[-1])], [int(factor * self._reads[-1])], self._head)
        other.read, other.move, other.token = self.read, self.move, self.token
        return other

    def tokens(self, batches: int) -> int:
        """Padded tokens of the first so many batches."""
        return int(self._tokens[batches])

    def seconds(self, batches: int, layers: int) -> float:
        """From here to the answers, over so many batches with so many layers to go."""
        each = self.move + max(self.read, self.token * self._tokens[batches])
        head = self._head * (self.move + self.read + self.token * self._reads[batches])
        return float(layers * each + head)

    def fitting(self, batches: int, layers: int, left: float) -> int:
        """How many of the first so many batches can be answered in the seconds that are left."""
        low, high = 0, batches
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.seconds(middle, layers) <= left else (low, middle - 1)
        return low
