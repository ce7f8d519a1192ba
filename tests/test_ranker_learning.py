"""Every family, and every method of training few weights, learns the toy task, and answers alike when loaded."""

import numpy as np
import pytest
import torch
from ranker_toys import BACKBONES, COMMANDS, FORMS, WORDS, backbone, task
from safetensors.torch import load_file

from kaggle_rag.ensemble import softmax
from kaggle_rag.metrics import map_at_k, ranks_of_answers
from kaggle_rag.questions import Questions
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.retrieval.contexts import read_contexts
from training.peft_methods import METHODS
from training.ranker import train_ranker
from training.ranker_config import RankerRun

# The answer is first, second or third of three by chance: (1 + 1/2 + 1/3) / 3.
CHANCE = 0.611
LEARN = {"learning_rate": 2e-3, "epochs": 8, "schedule": "constant_with_warmup"}


def probabilities(folder, told, **options):
    read = Questions.read(told["validation"])
    contexts = read_contexts(told["validation_contexts"], read)
    with make_ranker("trained", {"folder": str(folder), "device": "cpu", **options}) as ranker:
        return read, ranker.probabilities(read, contexts)


def train(told, out, kind, **changes):
    settings = RankerRun(**{**told, **LEARN, "out": out, "form": FORMS[kind], **changes})
    return train_ranker(COMMANDS[kind], settings)["result"]


def answers_alike(folder, told, result, bound=1e-5):
    """The loaded ranker's MAP@3 and log loss are those that training told, computed anew."""
    read, found = probabilities(folder, told)
    right = found[np.arange(len(read)), read.answers].astype(np.float64)
    assert -np.log(right).mean() == pytest.approx(result["after"]["log loss"], abs=bound)
    mean = map_at_k(ranks_of_answers(found, read.answers, read.present), 3)
    assert mean == pytest.approx(result["after"]["map@3"], abs=bound)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return task(tmp_path_factory.mktemp("task"), words=WORDS[:6])


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_family_learns_in_its_default_form(kind, told, tmp_path):
    model = backbone(kind, tmp_path / "base")
    changes = {"t5": {"learning_rate": 3e-3, "epochs": 10}}.get(kind, {})
    result = train(told, tmp_path / "out", kind, model=str(model), **changes)
    assert result["before"]["map@3"] < CHANCE + 0.1 and result["after"]["map@3"] > 0.9
    answers_alike(tmp_path / "out", told, result)
