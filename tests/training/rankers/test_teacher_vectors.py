"""A student learns the directions of a trained ranker's option vectors; what it did not see adds nothing."""

import json
import shutil

import numpy as np
import pytest
import torch
from interrupts import stop_at
from ranker_toys import BACKBONES, WORDS, asked, backbone, task, tokenizer
from safetensors.torch import load_file, save_file
from sklearn.metrics.pairwise import cosine_distances
from transformers import BertModel, PreTrainedTokenizerFast

import training.rankers.teacher_vectors
from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.predictions import Predictions
from kaggle_rag.data.questions import Questions
from kaggle_rag.evaluation import learnt
from kaggle_rag.models.answering.forms import form_of
from kaggle_rag.models.answering.item import Item
from kaggle_rag.models.answering.option_vectors import option_vectors
from kaggle_rag.models.card import RankerCard
from kaggle_rag.models.devices import dtype_of
from kaggle_rag.models.layouts import PAIR
from kaggle_rag.models.loading import load_ranker
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import ArtifactError, KitError
from training.loop.trainer import Progress
from training.rankers.checks import require_ranker
from training.rankers.dataset import EpochQuestions, RankerDataset
from training.rankers.distillation import cosine_distance
from training.rankers.harder import Changes
from training.rankers.settings import COMMANDS, MultipleChoiceRun
from training.rankers.supervision import Supervision
from training.rankers.teacher_vectors import TeacherVectors, _Teacher
from training.rankers.train import dry_run, train_ranker

CHOICE = form_of("choice", "encoder")


def test_the_distance_is_that_of_scikit_learn_and_absent_options_add_nothing():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3, 8, requires_grad=True), torch.randn(4, 3, 8)
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 1]]).bool()
    teacher[0, 1] = 0  # Borrowed.
    teacher[2] = 0
    weights = torch.tensor([1.0, 0.5, 1.0, 0.25])
    known = [[0, 2], [0, 1], [], [0, 2]]
    total = 0.0
    for row, columns in enumerate(known):
        one, other = student.detach()[row, columns], teacher[row, columns]
        if columns:
            total += float(weights[row]) * np.diag(cosine_distances(one, other)).mean()
    batch = {"teacher_vectors": teacher, "present": present, "weights": weights}
    found = cosine_distance(student, batch)
    np.testing.assert_allclose(found.item(), total / 4, rtol=1e-5)
    (gradient,) = torch.autograd.grad(found, student)
    for row, columns in enumerate(known):
        assert [bool(gradient[row, column].any()) for column in range(3)] == [c in columns for c in range(3)]
    assert not teacher.requires_grad
    # Two hand-worked angles: 60 and 90 degrees.
    flat = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    other = torch.tensor([[[0.5, 0.75**0.5], [3.0, 0.0]]])
    batch = {"teacher_vectors": other, "present": torch.ones(1, 2).bool()}
    torch.testing.assert_close(cosine_distance(flat, batch), torch.tensor((0.5 + 1.0) / 2))


def numbered(items, wide):
    """Vectors that say which question and which of its options they belong to."""
    table = np.zeros((len(items), wide, 2), np.float16)
    table[..., 0], table[..., 1] = np.arange(len(items))[:, None] + 1, np.arange(wide) + 1
    return TeacherVectors([table[:3], table[3:]], np.arange(len(items)))


def test_an_option_keeps_its_vector_in_every_order_and_what_was_replaced_has_none():
    items = [
        asked(f"the right {number} ?", WORDS[number : number + 3], ["frost"] * 3, number % 3)
        for number in range(5)
    ]
    changes = Changes(3, shuffle=True, borrowed=0.5, none_of_above=0.3, drop_snippets=0.2)
    writer = Writer(tokenizer("bert"), PAIR, 48)
    supervision = Supervision(vectors=numbered(items, 3))
    dataset = EpochQuestions(items, CHOICE, writer, changes, supervision=supervision, articles=["one"] * 5)
    replaced = 0
    for epoch in range(40):
        dataset.epoch = epoch
        for row, item in enumerate(items):
            feature = dataset[row]
            words = [writer.tokenizer.convert_ids_to_tokens(ids) for ids in feature["input_ids"]]
            for column, vector in enumerate(feature["teacher_vectors"]):
                option = words[column][-2]
                place = item.options.index(option) if option in item.options else None
                replaced += place is None
                assert vector.tolist() == ([row + 1, place + 1] if place is not None else [0, 0])
    assert 40 < replaced < 200
    part = numbered(items, 3).take([4, 1])
    assert part[0][0].tolist() == [5, 1] and part.take([1])[0][2].tolist() == [2, 3] and len(part) == 2


def test_questions_of_several_widths_share_a_batch():
    writer = Writer(tokenizer("bert"), PAIR, 48)
    items = [asked("a ?", WORDS[:4], ["frost"] * 4, 0), asked("b ?", WORDS[:2], ["frost"] * 2, 0)]
    features = [
        {**CHOICE.encode(writer, item), "teacher_vectors": np.ones((len(item.options), 2), np.float32)}
        for item in items
    ]
    batch = CHOICE.make_collator(writer.tokenizer, None, False)(features)
    assert batch["teacher_vectors"].sum(2).tolist() == [[2, 2, 2, 2], [2, 2, 0, 0]]
    assert "teacher_vectors" not in CHOICE.inputs(batch)


def other_bert(folder, layers=1, width=64):
    """A backbone of another number of layers, whose tokenizer numbers its words otherwise."""
    words = tokenizer("bert")
    made = json.loads(words.backend_tokenizer.to_str())
    table = made["model"]["vocab"]
    count = len(table)
    made["model"]["vocab"] = {w: n if n < 5 else 5 + (count - 1 - n) for w, n in table.items()}
    from tokenizers import Tokenizer

    turned = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(made)), pad_token="<pad>", eos_token="</s>",
        unk_token="<unk>", bos_token="<s>", model_input_names=words.model_input_names,
    )  # fmt: skip
    torch.manual_seed(7)
    config = BACKBONES["bert"](count)
    config.num_hidden_layers, config.hidden_size = layers, width
    BertModel(config).save_pretrained(folder)
    turned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A trained teacher of two layers, and the settings of a student of one."""
    folder = tmp_path_factory.mktemp("task")
    settings = {**task(folder, count=160, judged=40, words=WORDS[:6]), "learning_rate": 1e-3}
    model = str(backbone("bert", folder / "bert"))
    teachers = {}
    for form in ("choice", "binary", "bi-encoder"):
        run = MultipleChoiceRun(**settings, model=model, form=form, out=folder / form, epochs=2)
        train_ranker("multiple-choice", run)
        teachers[form] = folder / form
    student = str(other_bert(folder / "student"))
    return {"settings": {**settings, "model": student, "epochs": 2}, "teachers": teachers, "bert": model}


def train(told, out, **changes):
    settings = {**told["settings"], "teacher_ranker": str(told["teachers"]["choice"]), "out": out, **changes}
    return train_ranker("multiple-choice", MultipleChoiceRun(**settings))


def cosine(told, one, other):
    """The mean cosine of two rankers' vectors over the held-out questions' options."""
    questions = Questions.read(told["settings"]["validation"])
    contexts = read_contexts(told["settings"]["validation_contexts"], questions)
    tables = []
    for folder in (one, other):
        card, found = load_ranker(folder, device="cpu")
        found.model.eval()
        passages = found.form.embeds
        items = [Item.of(*row, card.snippets, passages=passages) for row in zip(questions, contexts)]
        tables.append(option_vectors(found, Writer(found.tokenizer, card.layout, card.max_tokens), items, 3))
    return float((tables[0] * tables[1]).sum(-1).mean())


def same(left, right):
    one, other = (load_file(folder / "model.safetensors") for folder in (left, right))
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def whole(told, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, train(told, out, teacher_cosine=1.0)


def test_a_student_of_other_layers_and_words_turns_to_its_teacher(told, whole, tmp_path):
    teacher = told["teachers"]["choice"]
    train(told, tmp_path / "alone", teacher_ranker=None)
    alone, taught = (cosine(told, folder, teacher) for folder in (tmp_path / "alone", whole[0]))
    assert alone < 0.3 and taught > 0.8
    # The teacher is not touched, and nothing is left of its vectors.
    assert sorted(path.name for path in whole[0].parent.iterdir()) == ["out"]
    assert not (whole[0] / "teacher").exists()


def test_probabilities_and_vectors_are_learnt_together(told, tmp_path):
    questions = Questions.read(told["settings"]["questions"])
    table = np.full((len(questions), 3), 0.01, np.float32)
    table[np.arange(len(questions)), questions.answers] = 0.98
    stored = tmp_path / "teacher.parquet"
    Predictions.of(questions, np.zeros(len(questions), np.int64), {"blend": table}, {}).write(stored)
    train(told, tmp_path / "both", teacher=stored, teacher_cosine=1.0, r_drop=0.1, epochs=1)
    train(told, tmp_path / "one", teacher=stored, teacher_ranker=None, r_drop=0.1, epochs=1)
    teacher = told["teachers"]["choice"]
    both, one = (cosine(told, tmp_path / name, teacher) for name in ("both", "one"))
    assert both > one + 0.3


def test_the_vectors_are_those_of_the_teacher_on_unshuffled_options(told, tmp_path, monkeypatch):
    """Enumerated: each training question alone, by the teacher's own tokenizer, template and contexts."""
    monkeypatch.setattr(training.rankers.teacher_vectors, "_PART", 50)
    kept = []
    begun = training.rankers.train.make_ranker_trainer

    def keep(settings, found, card, dataset, *rest):
        kept.append(dataset)
        return begun(settings, found, card, dataset, *rest)

    monkeypatch.setattr(training.rankers.train, "make_ranker_trainer", keep)
    train(told, tmp_path / "out", epochs=0.1)
    (dataset,) = kept
    card, teacher = load_ranker(told["teachers"]["choice"], device="cpu")
    teacher.model.eval()
    assert [len(part) for part in dataset.supervision.vectors.parts] == [50, 50, 50, 10]
    writer = Writer(teacher.tokenizer, card.layout, card.max_tokens)
    for row in (0, 49, 50, 159):
        item = dataset.items[row]
        rows = teacher.collator()([teacher.form.encode(writer, item)])
        with torch.no_grad():
            pooled = teacher.model.bert(**teacher.form.flat(rows)).pooler_output
        expected = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        np.testing.assert_allclose(dataset.supervision.vectors[row], expected, atol=1e-3)
        made = dataset.changes.made(item, None, dataset.lent, row, 0)
        np.testing.assert_allclose(dataset[row]["teacher_vectors"], expected[made.order], atol=1e-3)


def test_killed_in_either_stage_it_ends_with_the_same_weights(told, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training.rankers.teacher_vectors, "_PART", 64)
    asked_of, vectors = [], _Teacher.vectors

    def killed(teacher, dataset):
        if len(asked_of) == 2:
            raise KeyboardInterrupt
        asked_of.append(len(dataset))
        return vectors(teacher, dataset)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_Teacher, "vectors", killed)
        train(told, tmp_path / "out", teacher_cosine=1.0)
    work = tmp_path / "out.training"
    assert [path.name for path in sorted((work / "teacher").iterdir())] == ["00000000.npy", "00000064.npy"]
    counts = []
    monkeypatch.setattr(
        _Teacher, "vectors", lambda self, data: (counts.append(len(data)), vectors(self, data))[1]
    )
    monkeypatch.setattr(Progress, "on_step_end", stop_at(15))
    with pytest.raises(KeyboardInterrupt):
        train(told, tmp_path / "out", teacher_cosine=1.0)
    monkeypatch.setattr(Progress, "on_step_end", lambda *args, **kwargs: None)
    assert list(work.glob("checkpoint-*"))
    # A part that is there is not asked for again, and neither are all of them after the first step.
    assert train(told, tmp_path / "out", teacher_cosine=1.0) and counts == [32]
    assert same(whole[0], tmp_path / "out")


def test_another_teacher_is_another_run(told, whole, tmp_path):
    out, record = whole
    assert len(record["plan"]["teacher_ranker"]) == 64
    with pytest.raises(ArtifactError, match="holds a trained model, which differs in teacher_ranker"):
        train(told, out, teacher_cosine=1.0, teacher_ranker=str(told["teachers"]["binary"]))
    # The same one in another place is the same run.
    shutil.copytree(told["teachers"]["choice"], tmp_path / "moved")
    assert train(told, out, teacher_cosine=1.0, teacher_ranker=str(tmp_path / "moved")) == record
    plain = MultipleChoiceRun(**told["settings"], out=out)
    assert not [key for key in plain.plan() if key.startswith("teacher_ranker")]


def test_what_the_teacher_learnt_its_student_did_too(told, tmp_path):
    """A student of some of its teacher's questions has all of them in its list."""
    half = {**told["settings"], "limit": 8, "validation": None, "validation_contexts": None, "held_out": 0}
    out = tmp_path / "out"
    train({**told, "settings": half}, out, epochs=0.2)
    known, everything = learnt.read(out), learnt.read(told["teachers"]["choice"])
    assert known.complete and known.marks == everything.marks and len(known.marks) > half["limit"]
    (teacher := tmp_path / "teacher").mkdir()
    shutil.copytree(told["teachers"]["choice"], teacher, dirs_exist_ok=True)
    (teacher / learnt.FILE).unlink()
    train({**told, "settings": half}, tmp_path / "unknown", epochs=0.2, teacher_ranker=str(teacher))
    assert not learnt.read(tmp_path / "unknown").complete


@pytest.mark.parametrize("form, of_student", [("binary", "choice"), ("bi-encoder", "bi-encoder")])
def test_forms_whose_vectors_are_of_one_kind_teach_each_other(form, of_student, told, tmp_path):
    teacher = told["teachers"][form]
    made = {
        weight: tmp_path / str(weight)
        for weight in (1e-9, 1.0)
        if train(
            told, tmp_path / str(weight), teacher_ranker=str(teacher), form=of_student, teacher_cosine=weight
        )
    }
    before, after = (cosine(told, folder, teacher) for folder in made.values())
    assert after > max(0.7, before + 0.1)


def test_what_overflows_in_half_precision_is_read_in_float32(told, tmp_path):
    """A layer whose outputs are too large for float16, before a norm that makes them small again."""
    loud = tmp_path / "loud"
    shutil.copytree(told["teachers"]["choice"], loud)
    weights = load_file(loud / "model.safetensors")
    factors = {"layer.0.intermediate.dense.weight": 1e5, "layer.0.output.dense.weight": 1e4}
    louder = {
        key: value * next((factor for name, factor in factors.items() if key.endswith(name)), 1)
        for key, value in weights.items()
    }
    save_file(louder, loud / "model.safetensors", {"format": "pt"})
    RankerCard.read(told["teachers"]["choice"]).write(loud)
    tables = {}
    for precision in ("fp32", "fp16"):
        settings = {**told["settings"], "teacher_ranker": str(loud), "precision": precision}
        run = MultipleChoiceRun(**settings, out=tmp_path / "out")
        dataset = RankerDataset.read(run.questions, run.contexts_file, 12)
        asked_of = _Teacher(run)
        tables[precision] = asked_of.vectors(dataset).astype(np.float32)
        assert asked_of.backbone.model.dtype == dtype_of(precision)
        raw = asked_of._asked(dataset.items(0, CHOICE), 3)
        assert np.isnan(raw).any() == (precision == "fp16")
    assert np.linalg.norm(tables["fp16"], axis=-1) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(tables["fp16"], tables["fp32"], atol=1e-2)
    head = {key: value * float("nan") if "pooler" in key else value for key, value in weights.items()}
    save_file(head, loud / "model.safetensors", {"format": "pt"})
    RankerCard.read(told["teachers"]["choice"]).write(loud)
    with pytest.raises(KitError, match="its vectors of 12 of 12 questions are not numbers"):
        _Teacher(run).vectors(dataset)


def test_a_dry_run_tells_what_the_teacher_takes(told, tmp_path, monkeypatch, capsys):
    settings = {**told["settings"], "teacher_ranker": str(told["teachers"]["choice"])}
    record = dry_run(MultipleChoiceRun(**settings, out=tmp_path / "out"))
    # 160 questions of 3 options, 64 numbers of 2 bytes each.
    assert "0.1 MB of disk" in (said := capsys.readouterr().err) or "61.4 kB of disk" in said
    assert record["steps"] == 20 and not list(tmp_path.iterdir())


FAULTS = [
    ({"teacher_ranker": "gone"}, "no such ranker on this machine"),
    ({"teacher_ranker": "{bert}"}, "this folder is no trained ranker"),
    ({"model": "{wide}"}, "of width 64, those of {wide} of width 32"),
    ({"form": "bi-encoder"}, "has the vector that its head scores, one of the form bi-encoder"),
    ({"set": {"marginal": {"kind": "sequence"}}}, "this ranker has no vector of an option"),
    ({"model": "{llama}", "form": "binary"}, "its backbone of the family decoder"),
    ({"model": "{llama}", "form": "options"}, "it is of the form options"),
]


@pytest.mark.parametrize("changes, message", FAULTS)
def test_a_teacher_that_does_not_fit_is_refused_before_any_work(changes, message, told, tmp_path):
    places = {
        "bert": told["bert"], "wide": str(other_bert(tmp_path / "wide", width=32)),
        "llama": str(backbone("llama", tmp_path / "llama")),
    }  # fmt: skip
    given = {key: value.format(**places) for key, value in changes.items() if key != "set"}
    settings = {
        **told["settings"], "teacher_ranker": str(told["teachers"]["choice"]), "out": tmp_path / "out",
        **given, **changes.get("set", {}),
    }  # fmt: skip
    command = "causal" if "llama" in given.get("model", "") else "multiple-choice"
    with pytest.raises(KitError) as caught:
        require_ranker(command, COMMANDS[command](**settings), dry=False)
    assert message.format(**places) in str(caught.value) and "do this:" in str(caught.value)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.training").exists()


def test_a_teacher_that_reads_snippets_apart_is_refused(told, tmp_path):
    apart = tmp_path / "apart"
    settings = {**told["settings"], "model": told["bert"], "marginal": {"kind": "sequence"}, "epochs": 0.1}
    train_ranker("multiple-choice", MultipleChoiceRun(**settings, out=apart))
    with pytest.raises(KitError, match="the teacher has no vector of an option: it reads snippets apart"):
        train(told, tmp_path / "out", teacher_ranker=str(apart))


def test_the_weight_without_a_teacher_is_idle(told, tmp_path):
    run = MultipleChoiceRun(**told["settings"], out=tmp_path / "out", teacher_cosine=0.5)
    assert list(run.idle()) == ["teacher_cosine has no effect without teacher_ranker"]
    with pytest.raises(ValueError, match="greater than 0"):
        MultipleChoiceRun(**told["settings"], out=tmp_path / "out", teacher_cosine=0)
