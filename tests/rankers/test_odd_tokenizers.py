"""A tokenizer without a padding token, or one that pads on the left, changes no answer."""

import json
import shutil

import pytest
import torch
from ranker_toys import BACKBONES, backbone, files, rows, tokenizer
from transformers import AutoModelForMultipleChoice, AutoModelForSequenceClassification, AutoTokenizer

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.trained import TrainedRanker


def changed(folder, **fields):
    """The tokenizer's settings, with some of them set or (``None``) removed."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


# Without the first, words that the vocabulary lacks are what rows are padded with; without both, the end is.
CHANGES = {
    "no padding token": {"pad_token": None},
    "neither that nor an unknown one": {"pad_token": None, "unk_token": None},
    "left": {"padding_side": "left"},
    "right": {"padding_side": "right"},
}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Prompts of several lengths, so that rows are padded, and half of them with a word that is unknown."""
    folder = tmp_path_factory.mktemp("given")
    asked = rows(12, 0)
    for number, row in enumerate(asked):
        row["prompt"] = f"{'the right ' * (number % 4)}{'' if number < 6 else 'zinc'} ?"
    questions, contexts = files(folder, "test", asked)
    read = Questions.read(questions)
    return read, read_contexts(contexts, read)


@pytest.fixture(scope="module", params=["options", "letters", "binary", "choice"])
def model(request, tmp_path_factory):
    """A checkpoint with the head of a form, and that form."""
    form, folder = request.param, tmp_path_factory.mktemp("model") / "model"
    if form in ("options", "letters"):
        return backbone("llama", folder), form
    kind = "bert" if form == "choice" else "llama"
    auto = AutoModelForMultipleChoice if form == "choice" else AutoModelForSequenceClassification
    words = tokenizer(kind)
    config = BACKBONES[kind](len(words))
    config.num_labels = 1
    torch.manual_seed(0)
    head = auto.from_config(config)
    # Untrained, a head tells hardly any difference.
    for name, weight in head.named_parameters():
        weight.data *= 50 if name.startswith(("classifier", "score")) else 1
    head.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder, form


@pytest.mark.parametrize("change", CHANGES)
def test_padding_changes_no_answer(model, given, tmp_path, change):
    folder, form = model
    odd = shutil.copytree(folder, tmp_path / "odd")
    changed(odd, **CHANGES[change])
    opened = AutoTokenizer.from_pretrained(odd)
    assert (opened.pad_token is None) == (CHANGES[change].get("pad_token", "") is None)
    options = {"form": form, "max_tokens": 48, "device": "cpu", "template": "own"}
    if "unk_token" in CHANGES[change]:
        given = given[0].take(range(6)), given[1][:6]
    ways = [{"packed": False}, {}, {"streamed": True}] if form != "choice" else [{}]
    with TrainedRanker(str(folder), **options, batch_tokens=48) as ranker:
        # A batch of one question needs no padding between questions.
        expected = ranker.probabilities(*given)
    for way in ways:
        with TrainedRanker(str(odd), **options, batch_tokens=400, **way) as ranker:
            assert ranker.probabilities(*given) == pytest.approx(expected, abs=1e-5), way
    assert expected.std(axis=0).min() > 1e-4
