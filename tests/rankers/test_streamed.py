"""A trained ranker answers the same layer by layer as in memory: whole weights, an adapter, any form."""

import pytest
from ranker_toys import backbone, files, rows

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.runtime.errors import ConfigError
from training.rankers.settings import CausalRun
from training.rankers.train import train_ranker


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    questions, contexts = files(folder, "train", rows(40, 0))
    return questions, contexts, backbone("llama", folder / "llama")


@pytest.mark.parametrize(("form", "method"), [("options", "full"), ("binary", "lora"), ("letters", "lora")])
def test_streamed_answers_are_those_in_memory(task, tmp_path, form, method):
    questions, contexts, model = task
    settings = CausalRun(
        questions=questions, contexts_file=contexts, model=str(model), out=tmp_path / "ranker", form=form,
        epochs=1, max_tokens=48, held_out=0, device="cpu", learning_rate=1e-2, peft={"method": method},
    )  # fmt: skip
    train_ranker("causal", settings)
    read = Questions.read(questions)
    given = read, read_contexts(contexts, read)
    with TrainedRanker(str(tmp_path / "ranker"), device="cpu") as ranker:
        whole = ranker.probabilities(*given)
    with TrainedRanker(str(tmp_path / "ranker"), device="cpu", streamed=True) as ranker:
        assert ranker.reads_once and ranker.need().weights > 0
        streamed = ranker.probabilities(*given)
    assert streamed == pytest.approx(whole, abs=1e-5)
    assert whole.std(axis=0).min() > 1e-4


def test_an_encoder_is_not_streamed(tmp_path):
    folder = backbone("bert", tmp_path)
    ranker = TrainedRanker(str(folder), form="choice", max_tokens=48, device="cpu", streamed=True)
    with pytest.raises(ConfigError, match="family encoder is not run layer by layer"):
        ranker.__enter__()
