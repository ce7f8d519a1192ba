"""What each training pass says of each question's label, kept over the epochs for a data map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate.utils import reduce
from safetensors.torch import load_file, save_file

from kaggle_rag.evaluation.data_maps import Dynamics, dynamics
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.runtime.files import whole_file
from kaggle_rag.runtime.processes import is_first, processes

# Beside the weights of each checkpoint, so that a resumed run goes on with what had been seen by then.
_FILE = "dynamics.safetensors"


class TrainingDynamics:
    """The probability of each label in each epoch, from the logits that are computed for the loss anyway.

    All numbers are sums, so that those of several processes, each with its part of every step, add up.

    Parameters
    ----------
    epochs, questions : of the training; the last epoch may be a part of one.
    """

    def __init__(self, epochs: int, questions: int) -> None:
        # The sum of the probabilities, how often the label was the likeliest, and how often it was seen.
        self.sums = torch.zeros(3, epochs, questions, dtype=torch.float64)

    def add(self, epoch: int, logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> None:
        """Add a batch of the training.

        Parameters
        ----------
        logits : ``(b, k)`` with absent options at the lowest float.
        batch : its ``labels`` and ``numbers``, ``(b,)``; -1 is the number of a question that an epoch changed
            to another one.
        """
        labels = batch["labels"][:, None]
        likely = logits.detach().float().softmax(1)
        own = likely.gather(1, labels)[:, 0]
        right = likely.argmax(1) == labels[:, 0]
        values = torch.stack([own, right, torch.ones_like(own)]).double().cpu()
        numbers = batch["numbers"].cpu()
        known = numbers >= 0
        self.sums[:, epoch].index_add_(1, numbers[known], values[:, known])

    def save(self, folder: Path, sums: torch.Tensor) -> None:
        """Write what all processes have seen (`total`) beside a checkpoint's weights."""
        with whole_file(folder / _FILE) as aside:
            save_file({"sums": sums}, aside)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ArtifactError : the checkpoint has none, or of another number of questions.
        """
        # Those of a checkpoint are the sums over all processes.
        if not is_first():
            return
        path = folder / _FILE
        sums = load_file(path)["sums"] if path.is_file() else None
        if sums is None or sums.shape != self.sums.shape:
            raise ArtifactError(
                "the checkpoint does not have what data_map records of this training", where=path,
                cure="delete the work folder that it is in, and start the run again",
            )  # fmt: skip
        self.sums = sums

    def total(self) -> torch.Tensor:
        """The sums over all processes, in each of them."""
        if processes() == 1:
            return self.sums
        from accelerate import PartialState

        # Not every device adds in double precision.
        here = self.sums.float().to(PartialState().device)
        total: torch.Tensor = reduce(here, "sum")
        return total.double().cpu()

    def map(self, total: torch.Tensor) -> Dynamics:
        """The data map of all epochs in these sums."""
        own, right, seen = total.numpy()
        counted = np.where(seen > 0, seen, np.nan)
        return dynamics(own / counted, right / counted)
