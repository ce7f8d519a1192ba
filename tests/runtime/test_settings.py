"""Which settings are paths and models is read from their types; those of a file are relative to it."""

from pathlib import Path

import pytest
import yaml

from kaggle_rag.config import Solution, load
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.settings import keys_of, read_settings
from training.rankers.settings import COMMANDS
from training.retrieval.settings import RerankerSettings, RetrieverSettings

MODELS = [
    "encoder", "encoders.*", "contexts.reranker", "rankers.*.options.folder", "rankers.*.options.base",
    "generate.model",
]  # fmt: skip


def test_the_paths_and_models_of_a_solution():
    paths = ["questions", "index", "contexts_file", "out", "stack", "out_of_fold"]
    assert keys_of(Solution) == (paths, MODELS)


@pytest.mark.parametrize("model", [*COMMANDS.values(), RetrieverSettings, RerankerSettings])
def test_the_paths_and_models_of_a_training(model):
    paths, models = keys_of(model)
    told = {name for name, field in model.model_fields.items() if "Path" in str(field.annotation)}
    assert {path.removesuffix(".*") for path in paths} == told and "exclude.*" in paths
    # A re-ranker's teacher is a model, a ranker's a file of predictions.
    expected = {"model", "encoder", "teacher", "teacher_ranker"}
    assert set(models) == expected & set(model.model_fields) - told


def test_paths_of_a_file_are_relative_to_it_and_those_of_flags_are_not(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bge").mkdir()
    told = {
        "questions": "q.csv", "out": "/abs/s.csv", "encoder": "bge/", "encoders": {"b": "BAAI/bge-m3/"},
        "rankers": [{"kind": "trained", "options": {"folder": "bge", "base": "~/base", "form": "choice"}}],
    }  # fmt: skip
    (tmp_path / "in/s.yaml").write_text(yaml.safe_dump(told))
    found = load(tmp_path / "in/s.yaml", ["contexts.reranker=bge/"], {"index": "here/"})
    here = tmp_path / "in"
    assert (found.questions, found.out, found.index) == (here / "q.csv", Path("/abs/s.csv"), Path("here"))
    assert found.encoder == str(here / "bge") and found.encoders == {"b": "BAAI/bge-m3"}
    # A change is typed where the command is.
    assert found.contexts.reranker == "bge"
    options = {"folder": str(here / "bge"), "base": str(Path.home() / "base"), "form": "choice"}
    assert found.rankers[0].options == options
    (here / "r.yaml").write_text("questions: q.csv\nout: o\nmodel: bge\nexclude: [dev.csv, /abs/e.csv]\n")
    run = read_settings(COMMANDS["causal"], here / "r.yaml")
    assert run.exclude == (here / "dev.csv", Path("/abs/e.csv")) and run.model == str(here / "bge")


def test_a_part_of_a_list_is_changed_in_the_file():
    with pytest.raises(ConfigError, match="'rankers' is a list") as refused:
        load(None, ["rankers=[{kind: similarity}]", "rankers.0.weight=2"])
    assert "change it in the file" in str(refused.value)
    with pytest.raises(ConfigError, match="'keep' is no section"):
        load(None, ["contexts.keep=3", "contexts.keep.more=2"])
