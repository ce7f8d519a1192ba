"""Rankers that are incomplete, too large or trained for something else, in a submission: one message each."""

import re
import shutil

import numpy as np
import pytest
import torch
from ranker_toys import backbone, files, rows, sharded
from submit_toys import OPTIONS, Submit, trained

from kaggle_rag.data.questions import Questions
from kaggle_rag.models.card import RankerCard
from kaggle_rag.models.checkpoints import INDEX, weights_sum
from kaggle_rag.models.layouts import OPTION
from kaggle_rag.models.streaming.skeleton import Skeleton
from kaggle_rag.rankers.trained import TrainedRanker
from training.rankers.settings import CausalRun, MultipleChoiceRun
from training.rankers.train import train_ranker


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    path, contexts = files(tmp_path_factory.mktemp("asked"), "test", rows(12, 0))
    return path, contexts


@pytest.fixture
def submit(asked, tmp_path, monkeypatch, capsys):
    return Submit(asked[0], tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return sharded(tmp_path_factory.mktemp("deep") / "deep", 4)


@pytest.fixture
def folder(deep, tmp_path):
    return shutil.copytree(deep, tmp_path / "deep")


def cut(path):
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - 8)


def renamed(path):
    """The index names another file than there is."""
    index = path.with_name(INDEX)
    index.write_text(index.read_text().replace(path.name, "model-elsewhere.safetensors"))


@pytest.mark.parametrize("check", [(), ("--check",)])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("damage", "said", "name"),
    [
        (lambda path: path.unlink(), "a file of the checkpoint is missing", None),
        (renamed, "a file of the checkpoint is missing", "model-elsewhere.safetensors"),
        (cut, "this file is damaged", None),
        (lambda path: path.with_name(INDEX).write_text("{}"), "this is no index of safetensors", INDEX),
    ],
)
def test_a_checkpoint_with_missing_or_truncated_files_is_refused_before_anything_is_written(
    submit, folder, damage, said, name, streamed, check
):
    shard = sorted(folder.glob("model-*.safetensors"))[5]
    damage(shard)
    code, printed = submit([trained(folder, **OPTIONS, streamed=streamed)], *check)
    assert code == 2 and printed.count("error:") == 1 and said in printed and (name or shard.name) in printed
    assert not submit.out.exists() and not submit.folder.exists()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "a file of the checkpoint is missing"),
        (cut, "this file is damaged"),
        (lambda path: shutil.copy(sorted(path.parent.glob("model-*"))[6], path), "a different backbone"),
        (lambda path: shutil.rmtree(path.parent), "is not on this machine"),
    ],
)
def test_an_adapter_whose_backbone_is_another_or_damaged_is_refused_before_anything_is_written(
    submit, folder, tmp_path, damage, said, streamed
):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    RankerCard(
        form="options", layout=OPTION, max_tokens=48, snippets=0, labels=1, base=str(folder),
        base_sha256=weights_sum(folder), nf4=False,
    ).write(adapter)  # fmt: skip
    damage(sorted(folder.glob("model-*.safetensors"))[5])
    code, printed = submit([trained(adapter, device="cpu", streamed=streamed)])
    assert code == 2 and printed.count("error:") == 1 and said in printed and folder.name in printed
    assert not submit.out.exists() and not submit.folder.exists()


def test_a_shard_that_is_lost_between_its_check_and_its_reading_leaves_the_submission(
    submit, folder, monkeypatch, tmp_path
):
    small = sharded(tmp_path / "small", 1, seed=1)
    through = Skeleton.through

    def losing(self, layer, hidden, batch):
        for path in folder.glob("model-*.safetensors"):
            path.unlink()
        return through(self, layer, hidden, batch)

    monkeypatch.setattr(Skeleton, "through", losing)
    code, printed = submit([trained(small, **OPTIONS), trained(folder, **OPTIONS, streamed=True)])
    assert code == 0 and submit.valid() and "FAILED: rank: deep (CheckpointError" in printed
    assert [(name, count, bool(failure)) for name, count, failure in submit.stages()] == [
        ("rank: small", 12, False), ("rank: deep", 0, True),
    ]  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
def test_limits_that_nothing_fits_say_the_least_that_would(submit, deep, streamed):
    options = {**OPTIONS, "batch_tokens": 300_000, "streamed": streamed}
    code, printed = submit([trained(deep, **options)], "--ram", "1.1GB")
    assert code == 2 and printed.count("error:") == 1 and not submit.out.exists()
    assert "deep' would need about" in printed and "at most its budget of 1.10 GB" in printed
    if not streamed:
        assert "rankers.options.streamed: true" in printed
        return
    # What it says is enough; answering itself needs 1 GB.
    tokens, least, unit = re.search(r"batch_tokens: (\d+), with which ([\d.]+) (.B) of RAM", printed).groups()
    enough = max(1e9, float(least) * {"GB": 1e9, "MB": 1e6}[unit] * 1.01)
    options["batch_tokens"] = int(tokens)
    assert submit([trained(deep, **options)], "--ram", f"{enough:.0f}")[0] == 0


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_row_longer_than_the_model_is_refused_where_a_setting_asks_for_it(submit, tmp_path, kind):
    """Both toys have 64 positions; a text that is longer is cut to the row."""
    form = "options" if kind == "llama" else "choice"
    folder = backbone(kind, tmp_path / kind)
    code, printed = submit([trained(folder, form=form, max_tokens=65, device="cpu")])
    assert code == 2 and not submit.out.exists()
    assert "rankers.0.options.max_tokens: this backbone reads at most 64 tokens, not 65" in printed
    if kind == "llama":
        questions = Questions.from_rows(
            [{"id": "1", "prompt": "amber " * 500, "A": "birch", "B": "cedar"}], "made"
        )
        with TrainedRanker(str(folder), **{**OPTIONS, "max_tokens": 64}) as ranker:
            assert np.isfinite(ranker.probabilities(questions, None)).all()


def trained_on(folder, kind, width, form):
    """A ranker trained for a step on questions of so many options."""
    questions, contexts = files(folder, "train", rows(16, 3, width=width))
    run = CausalRun if form == "letters" else MultipleChoiceRun
    settings = run(
        questions=questions, contexts_file=contexts, model=str(backbone(kind, folder / kind)), form=form,
        out=folder / form, epochs=1, max_tokens=48, held_out=0, device="cpu", batch=16,
    )  # fmt: skip
    train_ranker("causal" if form == "letters" else "multiple-choice", settings)
    return folder / form


@pytest.mark.parametrize(("kind", "form"), [("llama", "letters"), ("bert", "choice")])
def test_a_letter_that_was_never_an_answer_is_told_and_a_head_does_not_care(tmp_path, kind, form):
    ranker = trained_on(tmp_path, kind, 4, form)
    wide = Questions.from_rows(rows(4, 5, width=5), "made")
    with TrainedRanker(str(ranker), device="cpu") as opened:
        table = opened.probabilities(wide, None)
        said = [note for note in map(str, opened.notes) if "more than the 4 options that" in note]
        assert len(said) == (form == "letters") and table.shape == (4, 5)
        assert table.sum(axis=1) == pytest.approx(1, abs=1e-5)
    with TrainedRanker(str(ranker), device="cpu") as opened:
        opened.probabilities(Questions.from_rows(rows(4, 5, width=4), "made"), None)
        assert not opened.notes


@pytest.mark.parametrize("streamed", [False, True])
def test_a_gpu_that_is_lost_half_way_ends_its_stage_and_no_other(
    submit, deep, tmp_path, monkeypatch, streamed
):
    """A layer raises what torch raises then; the ranker behind it goes on."""
    larger = sharded(tmp_path / "larger", 6, seed=1)
    error = torch.AcceleratorError("CUDA error: unspecified launch failure")

    def lost(*given):
        raise error

    opened = TrainedRanker.__enter__

    def entered(self):
        ranker = opened(self)
        if self.folder == deep:
            model = self._stream._skeleton.model if streamed else self._backbone.model
            model.model.layers[2].mlp.register_forward_hook(lost)
        return ranker

    monkeypatch.setattr(TrainedRanker, "__enter__", entered)
    code, printed = submit([trained(deep, **OPTIONS, streamed=streamed), trained(larger, **OPTIONS)])
    assert code == 0 and submit.valid()
    assert "FAILED: rank: deep (AcceleratorError: CUDA error: unspecified launch failure)" in printed
    assert [(name, count, bool(failure)) for name, count, failure in submit.stages()] == [
        ("rank: deep", 0, True), ("rank: larger", 12, False),
    ]  # fmt: skip
    assert np.isfinite(submit.table("larger")).all()
