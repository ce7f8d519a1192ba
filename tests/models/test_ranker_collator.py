"""Batches of questions of any width against one option at a time; rows against their templates."""

import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranker_toys import SPECIAL, TEXT, WORDS, asked, backbone, bytes_tokenizer, tokenizer

from kaggle_rag.models.answering.base import turned_back
from kaggle_rag.models.answering.forms import form_of
from kaggle_rag.models.answering.options import Options
from kaggle_rag.models.answering.per_option import Binary, Choice
from kaggle_rag.models.layouts import BINARY, LETTER, OPTION, PAIR, PRESETS, Layout, layout_of
from kaggle_rag.models.loading import load_backbone
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import ConfigError

LETTERS = string.ascii_uppercase
KINDS = {"choice": "deberta-v2", "binary": "mistral", "options": "llama"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One backbone a form, in evaluation mode."""
    found = {}
    for form, kind in KINDS.items():
        torch.manual_seed(0)
        folder = backbone(kind, tmp_path_factory.mktemp(kind))
        found[form] = load_backbone(str(folder), form, device="cpu")
        found[form].model.eval()
    return found


texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
options = st.lists(st.none() | texts, min_size=2, max_size=26).filter(
    lambda found: sum(option is not None for option in found) > 1
)
items = st.builds(
    lambda found, words, answer: asked(
        "the right ?", tuple(found), tuple(" ".join(words) for _ in found),
        [p for p, o in enumerate(found) if o is not None][answer],
    ),
    options, st.lists(st.sampled_from(WORDS), max_size=20), st.integers(0, 1),
)  # fmt: skip


@pytest.mark.parametrize("form", KINDS)
@settings(max_examples=15)
@given(st.lists(items, min_size=1, max_size=4), st.sampled_from([None, 8]))
def test_a_batch_scores_each_option_as_if_it_were_alone(form, models, questions, multiple):
    """Widths of 2 to 26 in one batch, options missing in the middle, contexts of any length."""
    found = models[form]
    writer = Writer(found.tokenizer, found.form.layout, 48)
    features = [found.form.encode(writer, item) for item in questions]
    collate = found.collator()
    collate.pad_to_multiple_of = multiple
    batch = collate(features)
    wide = max(len(item.options) for item in questions)
    assert batch["input_ids"].shape[:2] == batch["present"].shape == (len(questions), wide)
    assert not multiple or batch["input_ids"].shape[-1] % multiple == 0
    with torch.no_grad():
        logits = found.form.logits(found.model, batch)
        for row, item in enumerate(questions):
            assert batch["labels"][row] == item.answer
            for place in range(wide):
                there = place < len(item.options) and item.options[place] is not None
                assert bool(batch["present"][row, place]) == there
                alone = _alone(found, writer, item, place) if there else torch.finfo(torch.float32).min
                assert float(logits[row, place]) == pytest.approx(alone, abs=2e-5)


def _alone(found, writer, item, place):
    """One option through the model by itself, without any padding."""
    row = writer(item.context(place), item.prompt, item.options, place)
    ids = torch.tensor([row.ids["input_ids"]])
    if isinstance(found.form, Choice):
        kinds = torch.tensor([[row.ids["token_type_ids"]]])
        return float(found.model(input_ids=ids[None], token_type_ids=kinds).logits)
    if isinstance(found.form, Binary):
        return float(found.model(input_ids=ids).logits)
    likely = found.model(input_ids=ids).logits[0].log_softmax(-1)
    own = [t for t, mine in enumerate(row.is_answer) if mine]
    return sum(float(likely[t - 1, ids[0, t]]) for t in own) / len(own)


def test_labels_are_only_there_when_all_answers_are(models):
    found = models["choice"]
    writer = Writer(found.tokenizer, PAIR, 32)
    known = asked("the right ?", ("amber", "birch"), ("", ""), 1)
    features = [found.form.encode(writer, item) for item in (known, known._replace(answer=-1))]
    assert found.collator()(features[:1])["labels"].tolist() == [1]
    assert "labels" not in found.collator()(features)


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_are_padded_on_the_tokenizers_side_and_numbered_from_their_first_token(models, side):
    found = models["options"]
    collate = found.collator()
    writer = Writer(found.tokenizer, OPTION, 32)
    item = asked("the right ?", ("amber", "birch cedar delta"), ("", ""), 0)
    found.tokenizer.padding_side, before = side, found.tokenizer.padding_side
    batch = collate([found.form.encode(writer, item)])
    found.tokenizer.padding_side = before
    short, long = batch["attention_mask"][0].tolist()
    gap = [0] * (len(long) - sum(short))
    ones = [1] * sum(short)
    assert all(long) and short == (gap + ones if side == "left" else ones + gap)
    numbers = batch["position_ids"][0, 0][batch["attention_mask"][0, 0].bool()].tolist()
    assert numbers == list(range(len(numbers)))
    says = batch["input_ids"][0][batch["is_answer"][0]].tolist()
    assert found.tokenizer.decode(says) == "amber birch cedar delta"


words = st.lists(st.sampled_from(WORDS + TEXT), max_size=40).map(" ".join)


@pytest.mark.parametrize("layout", [PAIR, BINARY, LETTER, OPTION])
@settings(max_examples=60)
@given(words, words, st.lists(words.filter(bool), min_size=2, max_size=6), st.integers(16, 64))
def test_only_the_context_is_cut_while_question_and_options_fit(layout, context, prompt, choices, longest):
    made = tokenizer("bert")
    row = Writer(made, layout, longest)(context, prompt, choices, 1)
    whole = Writer(made, layout, 100_000)(context, prompt, choices, 1)
    bare = Writer(made, layout, 100_000)("", prompt, choices, 1)
    ids, full, least = (found.ids["input_ids"] for found in (row, whole, bare))
    assert len(ids) <= longest
    if len(full) <= longest:
        assert ids == full
    elif len(least) <= longest:
        # Its beginning is the context's, its end all that stands behind the context; nothing is wasted.
        behind = len(least) - 1
        kept = len(ids) - len(least)
        assert ids == full[: kept + 1] + full[-behind:] and len(ids) == longest
    if layout.answer:
        # The mark of an option that had to be cut is no word of this tokenizer.
        says = made.decode([i for i, mine in zip(ids, row.is_answer) if mine]).replace("<unk>", "")
        assert says and says.replace(" ", "") in layout.answer.format(letter="B", option=choices[1]).replace(
            " ", ""
        )


@pytest.mark.parametrize("long", [12, 40])
def test_options_are_read_on_the_same_context_however_long_one_of_them_is(long):
    """The longest leaves room for a word of the context, or for none and not even for the question."""
    made = tokenizer("llama")
    choices = ("amber", "birch", " ".join(["cedar"] * long))
    rows = Writer(made, OPTION, 32).rows(["frost " * 40] * 3, "the right ?", choices, [0, 1, 2])
    held = [made.convert_ids_to_tokens(row.ids["input_ids"]).count("frost") for row in rows]
    assert len({row.context for row in rows}) == 1 and len(set(held)) == 1
    assert held[0] == len(rows[0].context.split()) and (held[0] > 0) == (long == 12)


@settings(max_examples=200)
@given(st.text("ab 😀한글̈𝔸é", max_size=40), st.integers(1, 12))
def test_a_text_alone_is_cut_even_where_a_character_is_several_tokens(text, longest):
    made = bytes_tokenizer()
    ids = Writer(made, OPTION, longest).alone(text)["input_ids"]
    whole = made(text)["input_ids"]
    assert len(ids) <= longest and ids == whole[: len(ids)]
    # Only a character that does not fit is missing, in bytes and the merges around it.
    assert len(ids) == len(whole) or len(ids) > longest - 16


def test_a_question_that_is_too_long_loses_its_beginning_and_its_options_stay():
    made = tokenizer("bert")
    prompt = " ".join(["heron"] * 60 + ["the", "right", "?"])
    writer = Writer(made, PAIR, 20)
    row = made.convert_ids_to_tokens(writer("frost", prompt, ["amber", "birch"], 0).ids["input_ids"])
    assert len(row) == 20 and row[-5:] == ["the", "right", "?", "amber", "</s>"] and "frost" not in row
    assert writer.shortened == 1


@pytest.mark.parametrize(
    "kind, form",
    [("llama", "letters"), ("llama", "options"), ("llama", "binary"), ("t5", "letters"), ("t5", "options"),
     ("bert", "choice")],
)  # fmt: skip
def test_rows_that_cannot_fit_still_give_an_answer(kind, form, tmp_path):
    """26 options of 60 words, a long question, and room for 32 tokens: no exception, finite logits."""
    torch.manual_seed(0)
    found = load_backbone(str(backbone(kind, tmp_path)), form, device="cpu")
    many = tuple(" ".join(WORDS[(n + k) % 8] for k in range(60)) for n in range(26))
    letters = [*LETTERS]
    if form == "letters":
        # The toy's vocabulary has five letters.
        many, letters = many[:5], letters[:5]
    item = asked(" ".join(WORDS * 20), many, ("frost " * 50,) * len(many), 0)
    batch = found.collator()([found.form.encode(Writer(found.tokenizer, found.form.layout, 32), item)])
    logits = found.form.logits(found.model.eval(), batch)
    assert batch["input_ids"].shape[-1] <= 32 and logits.shape == (1, len(letters))
    assert torch.isfinite(logits).all() and (logits > -1e30).all()
    if isinstance(found.form, Options):
        assert batch["is_answer"].any(-1).all()


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"first": "{context} {prompt} {answer}"}, "unknown field {answer}"),
        ({"first": "{context} {option}"}, "leaves out the question"),
        ({"first": "{context} {prompt"}, "cannot be parsed: expected '}'"),
        ({"first": "{prompt} {}"}, "unknown field {}"),
        ({"first": "{prompt}", "answer": "{correct}"}, "unknown field {correct}"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(parts, message):
    with pytest.raises(ConfigError, match=message):
        Layout(**parts)


def test_letters_that_a_tokenizer_cannot_tell_apart_are_refused():
    made = tokenizer("llama")
    item = asked("the right ?", tuple(WORDS[n % 8] for n in range(7)), ("",) * 7, 0)
    assert "F" not in SPECIAL + TEXT
    with pytest.raises(ConfigError, match="does not distinguish the letters"):
        form_of("letters", "decoder").encode(Writer(made, LETTER, 64), item)


@pytest.mark.parametrize("kind", ["bert", "llama", "t5", "qwen2"])
@pytest.mark.parametrize(
    "layout", [PAIR, BINARY, OPTION, Layout("<s> {context}", " {prompt} </s> {option}", " {letter} </s>")]
)
@pytest.mark.parametrize("token", ["</s>", "<s>", "<pad>"])
def test_special_tokens_in_a_question_are_text_and_those_of_a_template_are_special(kind, layout, token):
    made = tokenizer(kind)
    mark = made.convert_tokens_to_ids(token)
    writer = Writer(made, layout, 200)
    asked = (f"amber {token} birch", f"the {token} right ?", (f"delta{token}", f"{token} ember", None), 1)
    ids = writer(*asked).ids["input_ids"]
    bare = [None if text is None else text.replace(token, "") for text in asked[2]]
    expected = Writer(tokenizer(kind), layout, 200)("amber birch", "the right ?", bare, 1).ids["input_ids"]
    assert ids.count(mark) == expected.count(mark) and len(ids) > len(expected)
    alone, plain = (writer.alone(text)["input_ids"] for text in (f"a {token} b", "a b"))
    assert alone.count(mark) == plain.count(mark)
    said, told = (writer.answer(*given) for given in (asked[1:], ("the right ?", bare, 1)))
    said, told = (made(text_target=text)["input_ids"] for text in (said, told))
    assert said.count(mark) == told.count(mark)


@pytest.mark.parametrize("kind", ["llama", "bert", "t5"])
def test_the_answer_is_told_from_a_context_in_the_other_segment(kind):
    """Offsets begin anew in each segment: a long context has the same ones as the answer."""
    words = tokenizer(kind)
    writer = Writer(words, Layout("{context}", "{prompt} Answer :", answer=" {option}"), 64)
    row = writer(" ".join(WORDS), "the right ?", ("birch", "cedar frost"), 1)
    own = [token for token, answer in zip(row.ids["input_ids"], row.is_answer) if answer]
    assert words.convert_ids_to_tokens(own) == ["cedar", "frost"]


@pytest.mark.parametrize("form", ["binary", "reward"])
def test_a_head_of_t5_reads_a_batch_with_an_absent_option(form, tmp_path):
    torch.manual_seed(0)
    found = load_backbone(str(backbone("t5", tmp_path / "t5")), form, device="cpu")
    found.model.eval()
    writer = Writer(found.tokenizer, found.form.layout, 48)
    some = [asked("the right ?", WORDS[:count], ["frost"] * count, 0) for count in (3, 2)]
    features = [found.form.encode(writer, item) for item in some]
    with torch.no_grad():
        together = found.form.logits(found.model, found.collator()(features))
        alone = [found.form.logits(found.model, found.collator()([each])) for each in features]
    for row, own in zip(together, alone):
        torch.testing.assert_close(row[: own.shape[1]], own[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("template", ["prompt-option", "openbook", {"answer": ""}, {"answer": " yes"}])
@pytest.mark.parametrize("layout", [OPTION, LETTER])
def test_a_form_that_scores_what_follows_needs_it_in_the_template(template, layout):
    with pytest.raises(ConfigError, match=r"lets no \{(option|letter)\} follow"):
        layout_of(layout, template)
    assert layout_of(PAIR, "openbook") == PRESETS["openbook"]
    own = layout_of(layout, {"first": "{prompt} {context}"})
    assert own.answer == layout.answer and own.first == "{prompt} {context}"


@pytest.mark.parametrize("rotations", [2, 3, 5])
@pytest.mark.parametrize("options", [tuple("abc"), ("a", None, "b", "c", None), tuple("ab"), tuple("abcde")])
def test_orders_favour_every_option_alike(options, rotations):
    """Logits favour a position among those that are shown; the mean over a whole cycle is fair."""
    item = asked("?", options, ["x"] * len(options), 0)
    places, rng = item.places, np.random.default_rng(0)
    merit, favour = dict(zip(options, rng.normal(size=len(options)))), rng.normal(size=len(places))
    table = np.full((1, rotations, len(options)), np.finfo(np.float32).min, np.float64)
    for turn in range(rotations):
        shown = item.in_order(item.turned(turn))
        assert shown.present == item.present and shown.answer == shown.options.index("a")
        for position, place in enumerate(places):
            table[0, turn, place] = merit[shown.options[place]] + favour[position]
    whole = rotations - rotations % len(places) if rotations > len(places) else rotations
    mean = np.zeros(len(options))
    for turn in range(whole):
        # What stood at position n + turn is shown at n.
        scores = [merit[options[p]] + favour[(n - turn) % len(places)] for n, p in enumerate(places)]
        mean[places] += np.exp(scores) / np.exp(scores).sum() / whole
    found = turned_back(table, [item])[0]
    np.testing.assert_allclose(np.exp(found[places]), mean[places], rtol=1e-9)
    assert all(found[n] < -1e30 for n in range(len(options)) if n not in places)
