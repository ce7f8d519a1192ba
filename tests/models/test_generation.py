"""Answers in words are those of transformers' own `generate`, one question at a time, whatever the batch."""

import json

import numpy as np
import pytest
import torch
from answer_toys import END, asked, speaker
from hub_toys import hub_folder
from ranker_toys import DECODERS, backbone
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from kaggle_rag.config import GenerationSettings
from kaggle_rag.data.contexts import Context, QuestionContexts, lines_as_snippets
from kaggle_rag.data.questions import Questions
from kaggle_rag.models.generation.decoding import Draws, seed_of
from kaggle_rag.models.generation.generator import Generator
from kaggle_rag.models.generation.prompts import PromptWriter, prompt_layout
from kaggle_rag.models.token_vectors import TokenEncoder
from kaggle_rag.runtime.errors import CheckpointError, ConfigError, InputError, LimitError

KINDS = ("llama", "phi3", "mistral", "t5")
ROWS = asked(12)
QUESTIONS = Questions.open_of([{**row, "answer": None} for row in ROWS], "test")
CONTEXTS = [QuestionContexts(Context(lines_as_snippets(row["context"]), ()), ()) for row in ROWS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each family, made once."""
    folder = tmp_path_factory.mktemp("speakers")
    return {kind: speaker(kind, folder / kind) for kind in KINDS}


def generator(folder, **settings):
    settings = {"max_new_tokens": 12, **settings}
    return Generator(GenerationSettings(model=str(folder), **settings), "cpu")


def prompts_of(made, questions=QUESTIONS, contexts=CONTEXTS):
    layout = prompt_layout(made.settings, made.tokenizer, reads=any(contexts), options=False)
    write = PromptWriter(
        made.tokenizer, layout, made.max_tokens, family=made.family, snippets=made.settings.snippets
    )
    return write.all([*questions], contexts, "q.jsonl")


def answers(made, prompts=None, seeds=None):
    """All answers in the order of the prompts, and how many batches they took."""
    prompts = prompts or prompts_of(made)
    seeds = seeds or [seed_of(made.settings, key, "") for key in QUESTIONS.ids]
    found, batches = {}, 0
    for rows, some in made.answers(prompts, seeds):
        found |= dict(zip(rows, some))
        batches += 1
    return [found[row] for row in range(len(prompts))], batches


def by_the_library(kind, folder, row, **options):
    """What transformers answers to the prompt as a text: the answer, and its tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    auto = AutoModelForCausalLM if kind in DECODERS else AutoModelForSeq2SeqLM
    model = auto.from_pretrained(folder).eval()
    text = f"{row['context']}\n\nQuestion: {row['prompt']}\nAnswer:"
    read = tokenizer(text, return_tensors="pt")
    made = model.generate(
        input_ids=read["input_ids"], attention_mask=read["attention_mask"],
        **{"max_new_tokens": 12, "do_sample": False, **options},
    )[0]  # fmt: skip
    new = made[read["input_ids"].shape[1] if kind in DECODERS else 1 :].tolist()
    end = tokenizer.convert_tokens_to_ids(END)
    said = new[: new.index(end)] if end in new else new
    return tokenizer.decode(said, skip_special_tokens=True), len(said) + (end in new)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_the_library_one_by_one(kind, beams, folders):
    found, batches = answers(generator(folders[kind], beams=beams, batch_tokens=400))
    expected = [by_the_library(kind, folders[kind], row, num_beams=beams) for row in ROWS]
    assert [(each.text, each.tokens) for each in found] == expected
    # Some end by themselves and some do not, in several batches of several questions.
    assert {each.ended for each in found} == {"end", "length"} and 1 < batches < len(ROWS)
    assert len({each.text for each in found}) > len(ROWS) / 2


def test_what_the_checkpoint_says_of_generating_holds_except_for_what_is_set(folders, tmp_path):
    folder = speaker("llama", tmp_path / "llama")
    told = json.loads((folder / "generation_config.json").read_text())
    told |= {"repetition_penalty": 1.8, "do_sample": True, "temperature": 0.3, "top_p": 0.5, "max_length": 5}
    (folder / "generation_config.json").write_text(json.dumps(told))
    found, _ = answers(generator(folder))
    expected = [by_the_library("llama", folder, row, max_new_tokens=12) for row in ROWS]
    assert [(each.text, each.tokens) for each in found] == expected
    assert [each.text for each in found] != [each.text for each in answers(generator(folders["llama"]))[0]]


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_sampled_answers_depend_on_the_seed_and_not_on_the_batch(kind, folders):
    sampling = {"temperature": 1.2, "top_k": 8, "top_p": 0.9}
    together, batches = answers(generator(folders[kind], batch_tokens=100_000, **sampling))
    alone, single = answers(generator(folders[kind], batch_tokens=1, **sampling))
    assert together == alone and (batches, single) == (1, len(ROWS))
    other, _ = answers(generator(folders[kind], batch_tokens=100_000, seed=1, **sampling))
    assert sum(a.text != b.text for a, b in zip(together, other)) > len(ROWS) / 2
    greedy, _ = answers(generator(folders[kind]))
    assert sum(a.text != b.text for a, b in zip(together, greedy)) > len(ROWS) / 2


def test_tokens_are_drawn_as_often_as_they_are_probable():
    scores = torch.tensor([0.0, 1.0, -torch.inf, 2.0, -1.0]).repeat(20_000, 1)
    draws = Draws(range(20_000), 2)
    for _ in range(2):
        chosen = draws(torch.zeros(20_000, 1), scores)
        assert (chosen.isfinite().sum(1) == 1).all()
        share = np.bincount(chosen.argmax(1).numpy(), minlength=5) / 20_000
        expected = torch.softmax(scores[0], 0).numpy()
        # Four standard errors.
        assert (np.abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / 20_000)).all()


def test_a_question_has_its_own_random_numbers():
    settings = GenerationSettings(temperature=1.0)
    seeds = {
        seed_of(settings, "1", "x"), seed_of(settings, "2", "x"), seed_of(settings, "1", "y"),
        seed_of(settings.model_copy(update={"seed": 1}), "1", "x"),
    }  # fmt: skip
    assert len(seeds) == 4 and seed_of(settings, "1", "x") in seeds


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_stop_text_ends_an_answer_and_is_no_part_of_it(kind, folders):
    whole, _ = answers(generator(folders[kind]))
    # The word that most of the answers have that some have not.
    having = {word: sum(word in each.text for each in whole) for each in whole for word in each.text.split()}
    word = max((word for word in having if having[word] < len(whole)), key=having.__getitem__)
    found, _ = answers(generator(folders[kind], stop=(word,), batch_tokens=400))
    stopped = [each for each in found if each.ended == "stop"]
    assert stopped and len(stopped) < len(found)
    for before, after in zip(whole, found):
        assert after.text == before.text.partition(word)[0].strip()
        if after.ended == "stop":
            # No more is generated than what holds the stop text.
            assert word in before.text and after.tokens <= before.tokens
        else:
            assert word not in before.text and after == before


def test_a_stop_text_is_looked_for_in_the_answer_alone(folders):
    # The prompt ends in "Answer:": a stop text that begins there is none of the answer.
    made = generator(folders["llama"])
    first = answers(made)[0][0].text.split()[0]
    found, _ = answers(generator(folders["llama"], stop=(f": {first}",)))
    assert found[0].text == answers(made)[0][0].text


def test_a_batch_that_does_not_fit_is_halved_down_to_a_question(folders, monkeypatch, capsys):
    made = generator(folders["llama"], batch_tokens=100_000)
    expected, _ = answers(generator(folders["llama"]))
    real, sizes = made.model.generate, []

    def generate(input_ids, **options):
        sizes.append(len(input_ids))
        if len(input_ids) > limit:
            raise torch.OutOfMemoryError
        return real(input_ids=input_ids, **options)

    monkeypatch.setattr(made.model, "generate", generate)
    limit = 4
    assert answers(made)[0] == expected and sizes[0] == len(ROWS)
    assert "out of memory" in capsys.readouterr().err
    limit = 0
    with pytest.raises(LimitError, match="one question does not fit"):
        answers(made)


def test_a_prompt_loses_the_end_of_its_context_and_nothing_else(folders):
    made = generator(folders["llama"], max_tokens=16)
    for prompt, row in zip(prompts_of(made), ROWS):
        text = made.tokenizer.decode(prompt.ids, skip_special_tokens=True)
        assert len(prompt.ids) <= 16 and row["context"].startswith(prompt.context)
        assert text.split()[-2:] == ["Answer", ":"] and row["prompt"] in text
    assert sum(len(prompt.ids) == 16 for prompt in prompts_of(made)) > 3


def test_snippets_are_read_as_many_as_are_asked_for(folders):
    contexts = [QuestionContexts(Context(lines_as_snippets("amber\nbirch\ncedar"), ()), ())] * len(ROWS)
    made = generator(folders["llama"], snippets=2)
    assert {prompt.context for prompt in prompts_of(made, contexts=contexts)} == {"amber\nbirch"}
    bare = prompts_of(generator(folders["llama"]), contexts=[None] * len(ROWS))
    text = made.tokenizer.decode(bare[0].ids, skip_special_tokens=True)
    assert text == f"Question : {ROWS[0]['prompt']} Answer :"


def test_a_chat_is_asked_in_the_words_of_its_template(folders, tmp_path):
    folder = speaker("llama", tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}<s>heron : {{ m['content'] | trim }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>birch :{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    made = generator(folder, chat=True)
    for prompt, row in zip(prompts_of(made), ROWS):
        said = f"{row['context']}\n\nQuestion: {row['prompt']}\nAnswer:"
        expected = tokenizer.apply_chat_template(
            [{"role": "user", "content": said}], add_generation_prompt=True, return_dict=False
        )
        assert prompt.ids == expected
    with pytest.raises(ConfigError, match="no chat template"):
        prompts_of(generator(folders["llama"], chat=True))


def test_questions_that_are_too_long_are_told_by_their_place(folders):
    long = Questions.open_of([{"id": 1, "prompt": "amber"}, {"id": 2, "prompt": "birch " * 40}], "test")
    with pytest.raises(InputError, match=r"q\.jsonl, question 2: .* longer than a prompt of 30 tokens"):
        prompts_of(generator(folders["llama"], max_tokens=30), long, [None, None])


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("llama", {"max_tokens": 120}, "120 and max_new_tokens 12 do not fit into the 128 positions"),
        ("llama", {"max_new_tokens": 128}, "a prompt and max_new_tokens 128 do not fit"),
        ("bert", {}, "'bert' is an encoder, which cannot generate"),
        ("endless", {}, "no end token, and no stop text is given"),
    ],
)  # fmt: skip
def test_what_cannot_be_generated_is_told_before_weights_are_read(kind, settings, told, folders, tmp_path):
    folder = folders.get(kind) or tmp_path
    if kind == "bert":
        backbone("bert", folder)
    if kind == "endless":
        speaker("llama", folder)
        ends = {"tokenizer_config.json": "eos_token", "generation_config.json": "eos_token_id"}
        for name, key in ends.items():
            values = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({k: v for k, v in values.items() if k != key}))
    with pytest.raises(ConfigError) as raised:
        generator(folder, **settings)
    assert told in str(raised.value)
    if kind == "endless":
        assert generator(folder, stop=("birch",)).ends == []


def test_the_room_of_a_prompt_is_what_the_answer_leaves(folders):
    assert generator(folders["llama"]).max_tokens == 116
    # An encoder-decoder's answer takes nothing of its prompt's positions, which are relative.
    assert generator(folders["t5"]).max_tokens == 1024


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ({"first": "{context} {prompt} {option}"}, "names {option}"),
        ({"first": "{context} {prompt} {options}"}, "the questions have none"),
        ({"first": "{prompt}"}, "leaves out the context"),
        ({"first": "{context} {prompt}", "answer": " {letter}"}, "a template with an answer"),
        ({"first": "{context}"}, "leaves out the question"),
    ],
)  # fmt: skip
def test_templates_that_cannot_be_asked(template, told, folders):
    with pytest.raises(ConfigError, match=told):
        prompts_of(generator(folders["llama"], template=template))


def test_scores_that_are_not_numbers_are_told(folders):
    made = generator(folders["llama"])
    with torch.no_grad():
        made.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not numbers"):
        answers(made)


def test_a_folder_as_the_hub_has_it_answers(tmp_path):
    for kind in ("llama", "t5"):
        made = generator(hub_folder(kind, tmp_path / kind, safe=True), max_new_tokens=4)
        found, _ = answers(made)
        assert len(found) == len(ROWS) and {each.ended for each in found} <= {"end", "length"}


def test_memory_grows_with_the_batch_and_with_the_answers(folders):
    small = generator(folders["llama"], batch_tokens=1_000).need()
    large = generator(folders["llama"], batch_tokens=1_000_000).need()
    # Keys and values of 2 layers and 2 heads of 16 numbers in float32, for each of some 10^6 tokens.
    assert large.ram - small.ram > 999_000 * 2 * 2 * 2 * 16 * 4
    assert small.gpu == large.gpu == 0


@pytest.mark.parametrize("layer", [0, 1, None])
def test_token_vectors_are_those_of_the_model_text_by_text(layer, tmp_path):
    folder = backbone("bert", tmp_path / "bert")
    texts = ["amber birch", "", "cedar", "the right answer ? heron frost grove", "amber"]
    read = TokenEncoder(str(folder), layer, "cpu")(texts)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for text, found in zip(texts, read):
        row = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            states = model(**row, output_hidden_states=True).hidden_states
        # Without the special tokens at both ends.
        expected = torch.nn.functional.normalize(states[-1 if layer is None else layer][0, 1:-1], dim=1)
        assert found.ids == row["input_ids"][0, 1:-1].tolist()
        if text:
            np.testing.assert_allclose(found.vectors, expected.numpy(), atol=1e-5)
    long = " ".join(["amber"] * 200)
    encoder = TokenEncoder(str(folder), layer, "cpu")
    encoder.tokens(long)
    assert len(encoder([long, long, *texts])[0].ids) < 100 and encoder.shortened == 1
    with pytest.raises(ConfigError, match=r"no layer 3(.|\n)*0 \(the embeddings\) to 2"):
        TokenEncoder(str(folder), 3, "cpu")
