"""Forms of answering against slow, independent computations, and losses against torch's own."""

import math

import pytest
import torch
import torch.nn.functional as F
from ranker_toys import WORDS, asked, backbone

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.models.answering.collators import DataCollatorForMultipleChoice
from kaggle_rag.models.answering.forms import form_of
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.models.layouts import LETTER, OPTION
from kaggle_rag.models.loading import load_backbone
from kaggle_rag.models.writer import Writer
from kaggle_rag.rankers.similarity import Views, novel, words_only
from kaggle_rag.runtime.errors import ConfigError
from training.rankers.losses import LOSSES

ITEMS = [
    asked("the right ?", ("amber", None, "birch cedar delta", "frost"), ("grove amber",) * 4, 2),
    asked("Is the right heron ?", ("ember", "heron grove"), ("delta " * 6,) * 2, 0),
]
AIR = "Air holds nitrogen and oxygen.\nCarbon dioxide is a gas that plants take in."
LEAF = "A leaf is a part of a plant."
# Letters keep their places when an option is absent.
LETTERS = [["A", "C", "D"], ["A", "B"]]
TOLD = ["A. amber C. birch cedar delta D. frost", "A. ember B. heron grove"]


def load(kind, form, folder, **options):
    torch.manual_seed(0)
    found = load_backbone(str(backbone(kind, folder)), form, device="cpu", **options)
    found.model.eval()
    return found


def batched(found, layout=None, items=ITEMS):
    writer = Writer(found.tokenizer, layout or found.form.layout, 64)
    return found.collator()([found.form.encode(writer, item) for item in items])


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma"])
def test_letters_are_the_next_tokens_of_a_full_forward_pass(kind, tmp_path):
    found = load(kind, "letters", tmp_path)
    with torch.no_grad():
        logits = found.form.logits(found.model, batched(found))
        for row, item in enumerate(ITEMS):
            lines = "\n".join(f"{a}. {b}" for a, b in zip("ABCD", item.options) if b)
            text = f"{item.context(0).strip()}\n\nQuestion: {item.prompt}\n{lines}\nAnswer:"
            said = found.model(**found.tokenizer(text, return_tensors="pt")).logits[0, -1]
            ids = [found.tokenizer(text + f" {letter}")["input_ids"][-1] for letter in LETTERS[row]]
            kept = logits[row][torch.tensor([o is not None for o in item.options] + [False] * 4)[:4]]
            torch.testing.assert_close(kept.softmax(0), said[ids].softmax(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "phi3", "qwen2"])
def test_options_are_the_mean_of_their_tokens_log_probabilities(kind, tmp_path):
    found = load(kind, "options", tmp_path)
    with torch.no_grad():
        logits = found.form.logits(found.model, batched(found))
        for row, item in enumerate(ITEMS):
            for place, option in enumerate(item.options):
                if option is None:
                    continue
                text = f"{item.context(0).strip()}\n\nQuestion: {item.prompt}\nAnswer:"
                begin = len(found.tokenizer(text)["input_ids"])
                ids = found.tokenizer(f"{text} {option}", return_tensors="pt")["input_ids"]
                likely = found.model(input_ids=ids).logits[0].log_softmax(-1)
                total = sum(float(likely[t - 1, ids[0, t]]) for t in range(begin, ids.shape[1]))
                assert float(logits[row, place]) == pytest.approx(total / (ids.shape[1] - begin), abs=1e-5)


def test_options_of_a_decoder_are_its_own_loss_on_them(tmp_path):
    """T5's ``labels=`` gives the mean cross-entropy; the encoder must not read what is to be said."""
    found = load("t5", "options", tmp_path)
    with torch.no_grad():
        logits = found.form.logits(found.model, batched(found))
        for row, item in enumerate(ITEMS):
            text = f"{item.context(0).strip()}\n\nQuestion: {item.prompt}\nAnswer:"
            for place, option in enumerate(item.options):
                if option is not None:
                    labels = found.tokenizer(option, return_tensors="pt")["input_ids"]
                    loss = found.model(**found.tokenizer(text, return_tensors="pt"), labels=labels).loss
                    assert float(logits[row, place]) == pytest.approx(-float(loss), abs=1e-5)


def test_letters_of_a_decoder_are_its_own_loss_on_them(tmp_path):
    found = load("t5", "letters", tmp_path)
    with torch.no_grad():
        logits = found.form.logits(found.model, batched(found))
        for row, item in enumerate(ITEMS):
            lines = "\n".join(f"{a}. {b}" for a, b in zip("ABCD", item.options) if b)
            text = f"{item.context(0).strip()}\n\nQuestion: {item.prompt}\n{lines}\nAnswer:"
            read = found.tokenizer(text, return_tensors="pt")
            losses = []
            for letter in LETTERS[row]:
                first = found.tokenizer(letter, return_tensors="pt")["input_ids"][:, :1]
                losses.append(-found.model(**read, labels=first).loss)
            kept = logits[row][logits[row] > -1e30]
            torch.testing.assert_close(
                kept.log_softmax(0), torch.stack(losses).log_softmax(0), atol=1e-5, rtol=1e-4
            )


def test_a_binary_head_that_hears_of_the_others_by_hand(tmp_path):
    found = load("llama", "binary", tmp_path, labels=2)
    batch = batched(found)
    with torch.no_grad():
        logits = found.form.logits(found.model, batch)
        for row, item in enumerate(ITEMS):
            there = [place for place, option in enumerate(item.options) if option is not None]
            alone = []
            for place in there:
                written = Writer(found.tokenizer, found.form.layout, 64)(
                    item.context(place), item.prompt, item.options, place
                )
                alone.append(found.model(input_ids=torch.tensor([written.ids["input_ids"]])).logits[0])
            for number, place in enumerate(there):
                others = [float(pair[1]) for n, pair in enumerate(alone) if n != number]
                own = float(alone[number][0])
                assert float(logits[row, place]) == pytest.approx(own + sum(others) / len(others), abs=1e-5)


@pytest.mark.parametrize("kind, form", [("deberta-v2", "choice"), ("llama", "options"), ("t5", "letters")])
@pytest.mark.parametrize("tokens", [1, 200, 100_000])
def test_scores_do_not_depend_on_how_questions_are_batched(kind, form, tokens, tmp_path):
    found = load(kind, form, tmp_path)
    items = [
        asked("the right ?" * (1 + n % 3), tuple(WORDS[: 2 + n % 3]), ("frost " * n,) * (2 + n % 3), 0)
        for n in range(9)
    ]
    writer = Writer(found.tokenizer, found.form.layout, 64)
    whole = found.form.score(found, writer, items, batch_tokens=tokens)
    for row, item in enumerate(items):
        one = found.form.score(found, Writer(found.tokenizer, found.form.layout, 64), [item])
        assert whole[row, : len(item.options)] == pytest.approx(one[0], abs=2e-5)
        assert (whole[row, len(item.options) :] < -1e38).all()


def test_each_option_may_bring_its_own_context(tmp_path):
    """Letters read the lines of all contexts in turn, each once; other forms each option's own."""
    found = load("llama", "letters", tmp_path)
    item = asked("the right ?", ("amber", "birch"), ("one\ntwo", "three\ntwo"), 0)
    shared = _Spelt(found.tokenizer, LETTER, 64)
    row = found.form.encode(shared, item)
    assert shared.read == ["one\nthree\ntwo"] * 2 and len(row["input_ids"]) == 1
    own = _Spelt(found.tokenizer, OPTION, 64)
    form_of("options", "decoder").encode(own, item)
    assert own.read == ["one\ntwo", "three\ntwo"]


class _Spelt(Writer):
    """Keeps the contexts that it was given."""

    def __init__(self, *args):
        super().__init__(*args)
        self.read = []

    def __call__(self, context, prompt, options, place):
        self.read.append(context)
        return super().__call__(context, prompt, options, place)


def test_a_form_that_a_family_lacks_is_refused_with_those_it_has():
    with pytest.raises(ConfigError, match="encoder does not support the form 'letters'") as caught:
        form_of("letters", "encoder")
    assert "choice, bi-encoder, binary" in str(caught.value)


def toy_batch():
    logits = torch.tensor([[2.0, -1.0, 0.5, 9.0], [0.1, 0.2, 7.0, 7.0]])
    present = torch.tensor([[True, True, True, False], [True, True, False, False]])
    logits = logits.masked_fill(~present, torch.finfo(torch.float32).min)
    return logits, {"labels": torch.tensor([2, 0]), "present": present}


def test_cross_entropy_is_torchs_over_the_options_that_are_there():
    logits, batch = toy_batch()
    for smoothing in (0.0, 0.1):
        alone = [
            F.cross_entropy(row[:n][None], label[None], label_smoothing=smoothing)
            for row, n, label in zip(logits, (3, 2), batch["labels"])
        ]
        found = LOSSES["cross-entropy"](logits, batch, smoothing)
        assert float(found) == pytest.approx(float(sum(alone)) / 2, abs=1e-6)


def test_the_binary_loss_is_torchs_over_all_options_that_are_there():
    logits, batch = toy_batch()
    flat = torch.tensor([2.0, -1.0, 0.5, 0.1, 0.2])
    for smoothing in (0.0, 0.1):
        target = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0]) * (1 - smoothing) + smoothing / 2
        expected = F.binary_cross_entropy_with_logits(flat, target)
        assert float(LOSSES["binary"](logits, batch, smoothing)) == pytest.approx(float(expected), abs=1e-6)


def test_the_pairwise_loss_by_hand():
    """Of two questions: A, B, C with C right; and A, B with A right, where B says the same as A."""
    logits, batch = toy_batch()
    batch["rivals"] = torch.tensor([[True, True, False, False], [False, False, False, False]])
    for margin, smoothing in ((0.0, 0.0), (1.0, 0.1)):
        # 0.5 against 2, and against -1.
        gaps = [0.5 - 2.0 - margin, 0.5 + 1.0 - margin]
        won, lost = ([math.log(1 + math.exp(sign * gap)) for gap in gaps] for sign in (-1, 1))
        by_hand = sum((1 - smoothing) * up + smoothing * down for up, down in zip(won, lost)) / 2 / 2
        assert float(LOSSES["pairwise"](logits, batch, smoothing, margin)) == pytest.approx(by_hand, abs=1e-6)
    weighed = {**batch, "weights": torch.tensor([0.5, 1.0])}
    whole, half = (LOSSES["pairwise"](logits, each, 0.0) for each in (batch, weighed))
    assert float(half) == pytest.approx(float(whole) / 2)


def test_options_that_say_the_same_are_not_forced_apart():
    form = form_of("reward", "decoder")
    tokenizer = load_backbone(DEFAULT_ENCODER, "bi-encoder", device="cpu").tokenizer
    writer = Writer(tokenizer, form.layout, 64)
    item = asked("which one", ["a cat", "A  Cat", None, "a dog"], [""] * 4, 0)
    feature = form.encode(writer, item)
    assert feature["rivals"] == [False, False, False, True]
    assert "rivals" not in form.encode(writer, item._replace(answer=-1))
    batch = DataCollatorForMultipleChoice(tokenizer)([feature, feature])
    scores = torch.zeros(2, 4, requires_grad=True)
    LOSSES["pairwise"](scores, batch, 0.0).backward()
    assert (scores.grad[:, [1, 2]] == 0).all()
    assert (scores.grad[:, 0] < 0).all() and (scores.grad[:, 3] > 0).all()


def test_a_bi_encoder_begins_as_the_training_free_ranker():
    """Against `similarity`'s own formula over vectors of the retriever's encoder, one question at a time."""
    encoder = Encoder(DEFAULT_ENCODER, device="cpu")
    found = load_backbone(DEFAULT_ENCODER, "bi-encoder", device="cpu")
    assert found.new == ()
    items = [
        asked(
            "Which gas do plants take in?",
            ("oxygen", None, "carbon dioxide", "neon"),
            (AIR, "", AIR, LEAF),
            2,
        ),
        asked("What is a heron?", ("a bird", "a stone of great hardness"), ("", ""), 0),
        asked("What is a leaf?", ("a part of a plant", "a fish"), (LEAF, AIR), 0),
    ]
    scores = found.form.score(found, Writer(found.tokenizer, found.form.layout, 64), items)
    for row, item in enumerate(items):
        options = [option for option in item.options if option]
        lines = [str(snippet) for context in dict.fromkeys(item.contexts) for snippet in context]
        both = encoder.encode_queries([f"{item.prompt} {option}" for option in options])
        vectors = [encoder.encode_queries(options), both, encoder.encode_passages(lines)]
        views = Views(encoder.encode_queries([item.prompt])[0], *vectors, options, lines)
        expected = (novel if lines else words_only)(views) / 0.12
        assert scores[row, [place for place, o in enumerate(item.options) if o]] == pytest.approx(
            expected, abs=1e-4
        )
        assert scores[row].argmax() == item.answer


def test_long_texts_of_a_bi_encoder_lose_their_ends(tmp_path):
    found = load("bert", "bi-encoder", tmp_path)
    writer = Writer(found.tokenizer, found.form.layout, 16)
    long = asked("amber " * 40, ("birch " * 30, "cedar"), ("delta " * 50, "ember"), 1)
    rows = found.form.encode(writer, long)["input_ids"]
    assert [len(row) for row in rows] == [16, 16, 3, 10, 16, 16, 3]
