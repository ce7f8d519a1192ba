"""Every family and every method of training few weights learns the toy task, and answers alike later."""

import hashlib

import numpy as np
import pytest
import torch
from ranker_toys import BACKBONES, COMMANDS, DECODERS, FORMS, WORDS, backbone, files, rows, task

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation.metrics import map_at_k, ranks_of_answers
from kaggle_rag.models.answering.item import Item
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.runtime.errors import ConfigError
from training.loop.trainer import Progress
from training.rankers.merge import merge
from training.rankers.peft_methods import METHODS
from training.rankers.settings import RankerRun
from training.rankers.train import train_ranker
from training.rankers.trainer import figures

# The answer is first, second or third of three by chance: (1 + 1/2 + 1/3) / 3.
CHANCE = 0.611
LEARN = {"learning_rate": 2e-3, "epochs": 6}
# One of each kind of attention, positions and head; the others are near relatives.
OFTEN = ("bert", "deberta-v2", "llama", "phi3", "t5")
RATES = dict.fromkeys(("electra", "roberta", "bert", "gemma", "phi3"), 1e-3)


@pytest.fixture(autouse=True)
def enough(monkeypatch):
    """What a run has learnt it need not learn longer: the epochs are those of the slowest processor.

    The log loss below which a run has learnt its task, if it also answers nearly everything.
    """
    shown, found = Progress.on_evaluate, {"log loss": 0.3}

    def on_evaluate(self, args, state, control, **kwargs):
        shown(self, args, state, control, **kwargs)
        metrics = kwargs["metrics"]
        if metrics["eval_map@3"] > 0.95 and metrics["eval_log loss"] < found["log loss"]:
            control.should_training_stop = True

    monkeypatch.setattr(Progress, "on_evaluate", on_evaluate)
    return found


def probabilities(folder, told, **options):
    read = Questions.read(told["validation"])
    contexts = read_contexts(told["validation_contexts"], read)
    with make_ranker("trained", {"folder": str(folder), "device": "cpu", **options}) as ranker:
        return read, ranker.probabilities(read, contexts)


def train(told, out, kind, **changes):
    # Decoders find the word of the context late.
    longer = {"epochs": 10} if kind in DECODERS else {}
    settings = RankerRun(**{**told, **LEARN, **longer, "out": out, "form": FORMS[kind], **changes})
    return train_ranker(COMMANDS[kind], settings)["result"]


def test_the_loss_that_chooses_a_checkpoint_does_not_mind_how_sure_it_is():
    rng = np.random.default_rng(0)
    answers, noise = rng.integers(4, size=500), rng.normal(size=(500, 4))
    logits = noise + 2 * np.eye(4)[answers]
    items = [Item("?", tuple("abcd"), ((),) * 4, int(answer)) for answer in answers]
    one, sure = figures(logits, items), figures(10 * logits, items)
    assert sure["log loss"] > 2 * one["log loss"] and sure["map@3"] == one["map@3"]
    assert sure["calibrated loss"] == pytest.approx(one["calibrated loss"], abs=1e-3)
    # Noise of this kind around the right answer is calibrated at a temperature of a half.
    at_half = torch.nn.functional.cross_entropy(torch.tensor(2 * logits), torch.tensor(answers))
    assert one["calibrated loss"] == pytest.approx(at_half.item(), rel=0.02)


def answers_alike(folder, told, result, bound=1e-5):
    """The loaded ranker's MAP@3 and log loss are those that training told, computed anew."""
    read, found = probabilities(folder, told)
    right = found[np.arange(len(read)), read.answers].astype(np.float64)
    assert -np.log(right).mean() == pytest.approx(result["after"]["log loss"], abs=bound)
    mean = map_at_k(ranks_of_answers(found, read.answers, read.present), 3)
    assert mean == pytest.approx(result["after"]["map@3"], abs=bound)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return task(tmp_path_factory.mktemp("task"), count=384, words=WORDS[:4])


def spelt(folder):
    """The task in which a letter can be learnt in seconds: the answer's letter stands in the context."""
    made = task(folder)
    for name, seed, count in (("questions", 0, 160), ("validation", 1, 60)):
        found = [row | {"context": row["answer"]} for row in rows(count, seed)]
        made[name], contexts = files(folder, name, found)
        made["contexts_file" if seed == 0 else "validation_contexts"] = contexts
    # The letter would be another's after a shuffle.
    return made | {"shuffle_options": False}


@pytest.mark.parametrize("kind", [
    kind if kind in OFTEN else pytest.param(kind, marks=pytest.mark.slow) for kind in BACKBONES
])  # fmt: skip
def test_every_family_learns_in_its_default_form(kind, told, tmp_path):
    model = backbone(kind, tmp_path / "base")
    if FORMS[kind] == "letters":
        told = spelt(tmp_path)
    rate = RATES.get(kind, 2e-3)
    result = train(told, tmp_path / "out", kind, model=str(model), learning_rate=rate)
    assert result["before"]["map@3"] < CHANCE + 0.1 and result["after"]["map@3"] > 0.9
    shuffled = {key: value for key, value in told.items() if key != "shuffle_options"}
    answers_alike(tmp_path / "out", shuffled, result)


@pytest.mark.parametrize(
    "kind, form",
    [
        ("llama", "letters"),
        ("t5", "options"),
        ("bert", "binary"),
        ("bert", "bi-encoder"),
        ("bert", "reward"),
        pytest.param("llama", "reward", marks=pytest.mark.slow),
    ],
)
def test_other_forms_learn_too(kind, form, told, tmp_path):
    model = backbone(kind, tmp_path / "base")
    if form == "letters":
        told = spelt(tmp_path)
    changes = {"learning_rate": 1e-3, "others": True, "epochs": 12} if form == "binary" else {}
    result = train(told, tmp_path / "out", kind, model=str(model), form=form, **changes)
    assert result["after"]["map@3"] > 0.9
    answers_alike(tmp_path / "out", told, result)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method", "options"),
    [
        ("llama", "knowledge", {"vicreg": 0.001}), ("phi3", "knowledge", {}), ("mistral", "knowledge", {}),
        ("llama", "knowledge-4bit", {}),
    ],
)  # fmt: skip
def test_a_frozen_decoder_learns_to_read_keys_and_values(kind, method, options, told, tmp_path):
    """The decoder is untrained and stays so: without its snippets it is at chance."""
    model, encoder = backbone(kind, tmp_path / "base"), backbone("bert", tmp_path / "encoder", seed=1)
    peft = {"method": method, "options": {"encoder": str(encoder), "tokens": 4, **options}}
    result = train(told, tmp_path / "out", kind, model=str(model), form="options", epochs=16, peft=peft)
    assert result["after"]["map@3"] > 0.9
    answers_alike(tmp_path / "out", told, result, 1e-5 if method == "knowledge" else 0.05)
    read = Questions.read(told["validation"])
    with make_ranker("trained", {"folder": str(tmp_path / "out"), "device": "cpu"}) as ranker:
        blind = ranker.probabilities(read, None)
    assert map_at_k(ranks_of_answers(blind, read.answers, read.present), 3) < CHANCE + 0.15
    with pytest.raises(ConfigError, match="cannot be merged"):
        merge(tmp_path / "out", tmp_path / "merged", base=str(model), device="cpu")
    with pytest.raises(ConfigError):
        make_ranker("trained", {"folder": str(tmp_path / "out"), "device": "cpu", "streamed": True}).need()


SCHOOL = {"llama": 2e-3, "phi3": 2e-3}
TOLD, UNTOLD = (("the right ?", True), ("the Proposed ?", False)), (("the ?", False),)


@pytest.fixture(scope="module")
def schooled(tmp_path_factory):
    """Backbones that learnt a task, and the one that is next for them, made when asked for.

    First the answer is one of four words, then one of the others. Or, ``steered``, the prompt says first
    whether the option in the context is right or the other one, and then says nothing: it is the other.
    """
    made = {}

    def school(kind, form, *, steered):
        if (kind, form, steered) not in made:
            folder = tmp_path_factory.mktemp(f"{kind}-{form}")
            first = task(
                tmp_path_factory.mktemp("first"),
                **({"count": 512, "prompts": TOLD} if steered else {"words": WORDS[:4]}),
            )
            changes = {
                "model": str(backbone(kind, folder / "base")), "form": form,
                "epochs": 16 if steered else 6,
                "learning_rate": 1e-3 if steered else SCHOOL.get(kind, 1e-3),
            }  # fmt: skip
            result = train(first, folder / "whole", kind, schedule="constant_with_warmup", **changes)
            assert result["after"]["map@3"] > 0.9
            told = task(folder, **({"prompts": UNTOLD} if steered else {"words": WORDS[3:]}))
            made[kind, form, steered] = folder / "whole", told
        return made[kind, form, steered]

    return school


# The rates of methods that scale or prefix what is there are high: they train a few hundred numbers.
FEW = dict.fromkeys(("ia3", "prefix", "prompt", "p-tuning"), 2e-2)
# rsLoRA scales its updates four times as much.
FEW["rslora"] = 1.5e-3
# At twice as much, whether phi3 learns depends on the processor.
FEW["qlora"] = 2e-3
# Tokens before a row, and small layers behind a llama's, teach no new words; they turn what is known.
STEER = {"prefix", "prompt", "p-tuning", "adapters"}
# The others read the snippets apart from the row.
IN_ROWS = [method for method in METHODS if not METHODS[method].reads]
QUICK = [("lora", "llama", "binary"), ("qlora", "llama", "binary")]
# CI tries one more of each kind of method; all of them take minutes.
SOME = [("ia3", "llama", "binary"), ("adapters", "bert", "choice"), ("prefix", "llama", "options")]
# LoRA's variants differ in their updates, whatever they adapt; the others in what they do to a family.
MORE = [
    *((method, "llama", "options" if method in STEER else "binary") for method in IN_ROWS),
    *((method, "t5", "options") for method in IN_ROWS if method not in {"lora", "rslora"}),
    ("rslora", "bert", "choice"), ("qlora", "bert", "choice"), ("ia3", "bert", "choice"),
    ("qlora", "phi3", "binary"), ("lora", "deberta-v2", "choice"), ("qlora", "bert", "bi-encoder"),
]  # fmt: skip
CASES = [
    *QUICK,
    *(pytest.param(*case, marks=pytest.mark.slow) for case in SOME),
    *(
        pytest.param(*case, marks=(pytest.mark.slow, pytest.mark.long))
        for case in MORE if case[0] != "full" and case not in QUICK + SOME
    ),
]  # fmt: skip


@pytest.mark.parametrize("method, kind, form", CASES)
def test_every_method_learns_what_the_backbone_does_not_know(method, kind, form, schooled, enough, tmp_path):
    steered = method in STEER and form == "options"
    if steered:
        # A backbone that leans to the right answers has a low one before.
        enough["log loss"] = 0.03
    base, told = schooled(kind, form, steered=steered)
    seal = hashlib.sha256((base / "model.safetensors").read_bytes()).digest()
    out = tmp_path / "out"
    result = train(
        told, out, kind, model=str(base), form=form, epochs=16, learning_rate=FEW.get(method, 5e-3),
        schedule="constant_with_warmup", peft={"method": method},
    )  # fmt: skip
    before, after = result["before"], result["after"]
    assert after["log loss"] < before["log loss"] and after["map@3"] > 0.9
    # These two match words that they never learnt. One that was taught to answer either way may lean to the
    # right one, which differs from processor to processor; how sure it may be, it still has to learn.
    known = kind == "deberta-v2" or form == "bi-encoder"
    assert before["map@3"] < 0.9 or known or after["log loss"] < before["log loss"] / 2
    # What was written is small, and the backbone as it was.
    assert not (out / "model.safetensors").exists()
    assert hashlib.sha256((base / "model.safetensors").read_bytes()).digest() == seal
    answers_alike(out, told, result, 1e-3 if METHODS[method].nf4 else 1e-5)
    _merges(out, told, result, method, tmp_path)


def _merges(out, told, result, method, folder):
    """Whole weights that answer alike, or a refusal that writes nothing."""
    if method == "adapters" or METHODS[method].virtual:
        with pytest.raises(ConfigError, match="cannot be merged"):
            merge(out, folder / "merged", device="cpu")
        assert not list(folder.glob("*merged*"))
        return
    assert merge(out, folder / "merged", device="cpu")["difference"] < (1e-2 if method == "qlora" else 1e-4)
    assert (folder / "merged/model.safetensors").exists() and not list((folder / "merged").glob("adapter*"))
    answers_alike(folder / "merged", told, result, 2e-2 if method == "qlora" else 1e-4)
