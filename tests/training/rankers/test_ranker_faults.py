"""What a user can get wrong with rankers: one message each, that names the cure, and exit code 2."""

import json
import shutil
import sys

import pytest
import torch
from ranker_toys import WORDS, backbone, files, rows, task
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMultipleChoice

from kaggle_rag.data.contexts import read_contexts
from kaggle_rag.data.questions import Questions
from kaggle_rag.rankers.registry import make_ranker
from kaggle_rag.runtime.errors import ConfigError, run_program
from training.__main__ import main
from training.rankers.preparing import own_device


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    made = task(folder, count=32, judged=12, words=WORDS[:6])
    models = {kind: str(backbone(kind, folder / kind)) for kind in ("bert", "llama", "t5", "roberta")}
    return {"told": {**made, "epochs": 1}, "models": models, "folder": folder}


def program(capsys, monkeypatch, *words):
    """Exit code and what was said, as the shell gets them."""
    monkeypatch.setattr(sys, "argv", ["training", *map(str, words)])
    # The program's own streams stay: pytest's have no encoding to set.
    code = run_program(main)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


def train(told, capsys, monkeypatch, command, out, *more, **changes):
    settings = {**told["told"], "out": out, **changes}
    flags = [w for k, v in settings.items() if v is not None for w in ("--" + k.replace("_", "-"), v)]
    return program(capsys, monkeypatch, command, *flags, *more)


def changed(folder, name, change):
    return files(folder, name, [change(dict(row)) for row in rows(32, 0, words=WORDS[:6])])


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            "answers",
            lambda row: row | {"answer": ""},
            "32 of 32 questions have no answer (id 0-0, 0-1, 0-2, ...)",
        ),
        ("one", lambda row: row | {"answer": "A"}, "all 32 answers are A: there is nothing to learn"),
    ],
)
def test_questions_that_teach_nothing(name, change, message, told, tmp_path, capsys, monkeypatch):
    questions, contexts = changed(tmp_path, name, change)
    code, said = train(told, capsys, monkeypatch, "multiple-choice", tmp_path / "out",
                       model=told["models"]["bert"], questions=questions, contexts_file=contexts)  # fmt: skip
    assert code == 2 and message in said and not (tmp_path / "out.training").exists()


@pytest.mark.parametrize(
    "command, kind, fitting",
    [
        ("causal", "bert", "multiple-choice"),
        ("multiple-choice", "llama", "causal"),
        ("causal", "t5", "seq2seq"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_the_command_that_fits_a_backbone_is_told(
    command, kind, fitting, more, told, tmp_path, capsys, monkeypatch
):
    code, said = train(
        told, capsys, monkeypatch, command, tmp_path / "out", *more, model=told["models"][kind]
    )
    assert code == 2 and f"python -m training {fitting}" in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command, kind, more, message",
    [
        ("multiple-choice", "bert", ["--form", "letters"], "does not support the form 'letters'"),
        ("multiple-choice", "bert", ["--form", "lettres"], "expected one of choice, bi-encoder, binary"),
        ("causal", "llama", ["--set", "peft.options.target_modules=[kv_proj]"], "q_proj"),
        ("causal", "llama", ["--set", "peft.options.rank=3"], "LoraConfig has no such setting"),
        ("causal", "llama", ["--set", "peft.method=adapters", "--set", "peft.options.modules_to_save=[heap]"],
         "the model has no module 'heap'"),
        ("causal", "llama", ["--set", "peft.method=lore"], "no such method, expected one of full, lora"),
        ("causal", "llama", ["--set", "peft.method=adapters", "--set", "peft.options.size=0"],
         "size: an integer"),
        ("causal", "llama", ["--set", "peft.method=adapters", "--set", "peft.options.target_modules=[x]"],
         "down_proj"),
        ("causal", "llama", ["--set", "peft.method=full", "--set", "peft.options.r=3"], "has no settings"),
        ("causal", "llama", ["--set", "peft.method=prefix", "--set", "peft.options.num_virtual_tokens=-1"],
         "prefix does not fit this backbone: Trying to create tensor with negative dimension"),
        ("causal", "llama", ["--set", "peft.options.r=abc"], "lora does not fit this backbone: '<='"),
        ("causal", "llama", ["--set", "peft.method=knowledge", "--set", "peft.options.encoder={bert}",
         "--set", "peft.options.snippet_tokens=65"], "this encoder reads at most 64 tokens, not 65"),
        ("causal", "llama", ["--set", "peft.method=knowledge", "--set", "peft.options.encoder={bert}",
         "--set", "peft.options.tokens=64"], "longer than the decoder's 64 positions"),
        ("multiple-choice", "bert", ["--set", "peft.method=knowledge"], "gives keys and values to a decoder"),
        ("causal", "llama", ["--form", "reward", "--margin", "nan"], "margin"),
        ("causal", "llama", ["--adversarial", "fgm"], "fgm perturbs embeddings"),
        ("multiple-choice", "bert", ["--set", "peft.method=prompt"], "use lora, or form: binary"),
        ("multiple-choice", "bert", ["--max-tokens", "65"], "reads at most 64 tokens, not 65"),
        ("multiple-choice", "roberta", ["--max-tokens", "64"], "reads at most 63 tokens"),
        ("multiple-choice", "bert", ["--frozen-layers", "3"], "the backbone has 2 layers"),
        ("multiple-choice", "bert", ["--set", "template.first='{contexts}'"], "unknown field {contexts}"),
        ("multiple-choice", "bert", ["--device", "tpu9"], "no device 'tpu9'"),
        ("multiple-choice", "bert", ["--device", "cpu", "--precision", "fp16"],
         "a cpu does not train in fp16"),
        ("multiple-choice", "bert", ["--others", "true"], "others applies only to the form binary"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(command, kind, more, message, told, tmp_path, capsys, monkeypatch):
    more = [word.replace("{bert}", str(told["models"]["bert"])) for word in more]
    code, said = train(
        told, capsys, monkeypatch, command, tmp_path / "out", *more, model=told["models"][kind]
    )
    assert code == 2 and message in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "method, options, faults",
    [
        ("lora", {"rr": 3, "lora_alpa": 4, "init_lora_weights": "x", "r": 8},
         ["rr: LoraConfig has no such setting", "lora_alpa: LoraConfig has no such setting; did you mean"]),
        ("adapters", {"size": 0, "dropout": 2, "target_modules": "o_proj", "widht": 4},
         ["size: an integer", "dropout: a number", "target_modules: a list", "widht: BottleneckConfig"]),
        ("knowledge", {"tokens": 0, "vicreg": "much", "snippet_tokens": 1.5, "encoder": 5},
         ["tokens: an integer", "vicreg: could not convert", "snippet_tokens: an int", "encoder: a folder"]),
    ],
)  # fmt: skip
def test_all_faults_of_a_method_are_told_at_once_with_those_of_the_files(
    method, options, faults, told, tmp_path, capsys, monkeypatch
):
    more = [f"peft.method={method}", *(f"peft.options.{key}={value}" for key, value in options.items())]
    words = [word for change in more for word in ("--set", change)]
    code, said = train(told, capsys, monkeypatch, "causal", tmp_path / "out", *words,
                       model=told["models"]["llama"], exclude=tmp_path / "no.csv")  # fmt: skip
    assert code == 2 and "2 things must be fixed" in said and "no.csv" in said, said
    assert f"peft.options: {len(faults)} settings are invalid" in said.replace("\n", " "), said
    assert all(fault in said for fault in faults) and said.count("size: ") <= 1, said


def test_settings_that_contradict_each_other_are_all_told(told, tmp_path, capsys, monkeypatch):
    code, said = train(told, capsys, monkeypatch, "causal", tmp_path / "out", "--fold", 1, "--others", "true",
                       "--form", "letters", "--drop-weight", 0.5, model=told["models"]["llama"])  # fmt: skip
    parts = ("folds and fold belong", "others applies only", "drop_weight needs")
    assert code == 2 and all(part in said for part in parts), said


def test_all_faults_of_a_training_are_told_at_once(told, tmp_path, capsys, monkeypatch):
    questions, contexts = changed(tmp_path, "one", lambda row: row | {"answer": "A"})
    wrong = {"model": tmp_path / "gone", "exclude": tmp_path / "no.csv", "drop": "list.csv"}
    code, said = train(told, capsys, monkeypatch, "causal", tmp_path / "out",
                       questions=questions, contexts_file=contexts, **wrong)  # fmt: skip
    assert code == 2 and "4 things must be fixed" in said, said
    for fault in ("gone", "all 32 answers are A", "no.csv", "list.csv"):
        assert fault in said, fault
    code, said = program(
        capsys, monkeypatch, "retriever", "--questions", tmp_path / "q.csv", "--model", tmp_path / "gone",
        "--passages", tmp_path / "p.txt", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 2 and "3 things must be fixed" in said, said
    assert all(fault in said for fault in ("q.csv", "gone", "p.txt"))
    assert not list(tmp_path.glob("out*"))


def test_more_options_than_a_model_has_letters_for(told, tmp_path, capsys, monkeypatch):
    """The toy's tokenizer has letters to E; a question of seven options comes last."""
    wide = rows(1, 9, width=7)[0] | {"context": "amber"}
    wide |= dict(zip("ABCDEFG", WORDS)) | {"id": "wide", "answer": "B"}
    questions, contexts = files(tmp_path, "wide", [*rows(20, 0), wide])
    code, said = train(told, capsys, monkeypatch, "causal", tmp_path / "out", "--form", "letters",
                       model=told["models"]["llama"], questions=questions,
                       contexts_file=contexts)  # fmt: skip
    assert code == 2 and "does not distinguish the letters" in said and "form: options" in said


def test_27_options_and_contexts_of_other_questions(told, tmp_path, capsys, monkeypatch):
    names = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "AA"]
    (tmp_path / "wide.csv").write_text(",".join(["id", "prompt", *names, "answer"]) + "\n"
                                       + ",".join(["1", "p", *names, "AA"]) + "\n")  # fmt: skip
    code, said = train(told, capsys, monkeypatch, "multiple-choice", tmp_path / "out",
                       model=told["models"]["bert"], questions=tmp_path / "wide.csv", contexts_file=None,
                       validation=None, validation_contexts=None)  # fmt: skip
    assert code == 2 and "AA" in said
    code, said = train(
        told, capsys, monkeypatch, "multiple-choice", tmp_path / "out", model=told["models"]["bert"],
        contexts_file=told["told"]["validation_contexts"],
    )  # fmt: skip
    assert code == 2 and "contexts" in said and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def ranker(told):
    """An adapter, and the whole weights it belongs to."""
    from training.rankers.settings import RankerRun
    from training.rankers.train import train_ranker

    out = told["folder"] / "lora"
    train_ranker("causal", RankerRun(**told["told"], out=out, model=told["models"]["llama"], form="binary",
                                     peft={"method": "lora"}))  # fmt: skip
    return out


def asked(told, folder, **options):
    read = Questions.read(told["told"]["validation"])
    contexts = read_contexts(told["told"]["validation_contexts"], read)
    with make_ranker("trained", {"folder": str(folder), "device": "cpu", **options}) as made:
        return made.probabilities(read, contexts)


def test_a_ranker_tells_of_questions_that_it_could_not_read_whole(told, ranker):
    read = Questions.read(told["told"]["validation"])
    notes = []
    for tokens in (64, 6):
        with make_ranker("trained", {"folder": str(ranker), "device": "cpu", "max_tokens": tokens}) as made:
            made.probabilities(read, None)
        notes.append([*map(str, made.notes)])
    assert notes[0] == [] and "rows lost words of the question: max_tokens 6 is too low" in notes[1][0]


def refused(told, folder, **options):
    from kaggle_rag.runtime.errors import KitError

    with pytest.raises(KitError) as caught:
        asked(told, folder, **options)
    return str(caught.value)


def test_an_adapter_whose_backbone_is_elsewhere_missing_or_different(told, ranker, tmp_path):
    card = json.loads((ranker / "ranker.json").read_text())
    moved = told["folder"] / "moved"
    shutil.copytree(card["base"], moved)
    plain = asked(told, ranker)
    assert (asked(told, ranker, base=str(moved)) == plain).all()
    assert "is not on this machine" in refused(told, ranker, base=str(tmp_path / "gone"))
    other = backbone("llama", tmp_path / "other", seed=1)
    assert "trained on a different backbone" in refused(told, ranker, base=str(other))


def rewritten(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "adapter_model.safetensors").unlink(), "a file of the ranker is missing"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "the file has 2 bytes"),
        (lambda f: (f / "ranker.json").write_text("{"), "ranker.json is damaged"),
        (lambda f: (f / "ranker.json").write_text("{}"), "a different version"),
        (lambda f: rewritten(f / "ranker.json", "binary", "choice"), "changed after it was written"),
        (lambda f: (f / "ranker.json").unlink(), "no trained ranker found"),
    ],
)  # fmt: skip
def test_a_damaged_folder(damage, message, told, ranker, tmp_path):
    folder = tmp_path / "ranker"
    shutil.copytree(ranker, folder)
    damage(folder)
    found = refused(told, folder)
    assert message in found and "index" not in found


def test_one_changed_byte_is_found(told, ranker, tmp_path):
    folder = tmp_path / "ranker"
    shutil.copytree(ranker, folder)
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "checksum differs from that of the ranker" in refused(told, folder)


def test_a_missing_folder_and_one_among_the_inputs(told, ranker, tmp_path, monkeypatch):
    assert "no ranker 'gone/ranker' on this machine" in refused(told, "gone/ranker")
    shutil.copytree(ranker, tmp_path / "my-ranker/1")
    monkeypatch.setenv("KAGGLE_RAG_INPUTS", str(tmp_path))
    assert (asked(told, "my-ranker") == asked(told, ranker)).all()


def test_merging_what_is_no_adapter_or_over_something(told, ranker, tmp_path, capsys, monkeypatch):
    (tmp_path / "there").mkdir()
    assert program(capsys, monkeypatch, "merge", ranker, tmp_path / "there")[0] == 2
    whole = tmp_path / "whole"
    code, said = program(capsys, monkeypatch, "merge", ranker, whole, "--device", "cpu")
    assert code == 0 and "merged; logits differ by" in said
    code, said = program(capsys, monkeypatch, "merge", whole, tmp_path / "again", "--device", "cpu")
    assert code == 2 and "no adapter" in said and not (tmp_path / "again").exists()


def test_merged_weights_that_answer_differently_are_not_written(told, ranker, tmp_path, monkeypatch):
    from peft.tuners.lora import LoraModel

    from kaggle_rag.runtime.errors import ArtifactError
    from training.rankers.merge import merge

    monkeypatch.setattr(LoraModel, "merge_and_unload", LoraModel.unload)
    with pytest.raises(ArtifactError, match="give different answers"):
        merge(ranker, tmp_path / "merged", device="cpu")
    assert not list(tmp_path.iterdir())


def _shortened(weights):
    name = next(name for name in weights if name.endswith("query.weight"))
    return weights | {name: weights[name][:3].clone()}


def _without_numbers(weights):
    return weights | {name: tensor * float("nan") for name, tensor in weights.items() if "classifier" in name}


@pytest.mark.parametrize(
    "change, message",
    [
        (_shortened, "its weights have other shapes than its config.json says"),
        (_without_numbers, "some of its weights are not numbers"),
        (lambda weights: {k: v for k, v in weights.items() if "classifier" not in k}, "has no head"),
    ],
)
def test_weights_of_a_checkpoint_trained_elsewhere_that_do_not_fit(change, message, told, tmp_path):
    folder = told["models"]["bert"]
    AutoModelForMultipleChoice.from_pretrained(folder).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{folder}/{name}", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(change(weights), tmp_path / "model.safetensors", {"format": "pt"})
    assert message in refused(told, tmp_path, form="choice", max_tokens=48)


def test_a_checkpoint_trained_elsewhere_answers_without_training_here(told, tmp_path):
    """A multiple-choice model of transformers, asked by a loop of its own."""
    torch.manual_seed(5)
    folder = told["models"]["bert"]
    model = AutoModelForMultipleChoice.from_pretrained(folder).eval()
    model.save_pretrained(tmp_path)
    shutil.copy(f"{folder}/tokenizer.json", tmp_path)
    shutil.copy(f"{folder}/tokenizer_config.json", tmp_path)
    found = asked(told, tmp_path, form="choice", max_tokens=48)
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    read = Questions.read(told["told"]["validation"])
    for row, (prompt, options, context) in enumerate(zip(read.prompts, read.options, read.contexts)):
        given = words([context] * 3, [f"{prompt} {option}" for option in options], return_tensors="pt")
        with torch.no_grad():
            logits = model(**{key: value[None] for key, value in given.items()}).logits[0]
        assert found[row] == pytest.approx(logits.softmax(0).numpy(), abs=1e-5)
    assert "needs max_tokens" in refused(told, tmp_path, form="choice")
    assert "no trained ranker" in refused(told, tmp_path)
    assert "no head for the form 'choice'" in refused(told, folder, form="choice", max_tokens=48)
    assert "does not support the form 'letters'" in refused(told, folder, form="letters", max_tokens=48)


def test_a_ranker_knows_its_form_and_its_settings(told, ranker):
    assert "answers in the form 'binary'" in refused(told, ranker, form="choice")
    assert "no precision 'int3'" in refused(told, ranker, precision="int3")
    assert "no attention 'flash'" in refused(told, ranker, attention="flash")
    assert "has no setting 'chunk'" in refused(told, ranker, chunk=3)


def test_a_training_on_another_gpu_than_the_first_is_told_how(told, tmp_path, monkeypatch):
    """The trainer takes the first that it sees, whatever it is told."""
    monkeypatch.setattr("training.rankers.preparing.device_of", lambda wanted: wanted)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=1 before the command"):
        own_device("cuda:1")
    assert own_device("cuda:0") == "cuda:0" and own_device("cuda") == "cuda"
