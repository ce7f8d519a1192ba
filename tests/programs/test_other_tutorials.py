"""The tutorials of other backbones and other machines, command by command: a worker of their own."""

import pytest
from hub_toys import cached, hub_folder
from question_tables import first
from test_readme import blocks
from tutorial_toys import COUNT, DOCS, Place

from kaggle_rag.data.submission import read_submission
from kaggle_rag.sample import ARTICLES, TEST, TRAIN

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_another_backbone(place, sample_index):
    first(TRAIN, COUNT, place.folder / "train.csv")
    hub = hub_folder("deberta", place.stand_in / "deberta")
    cached(hub, "microsoft/deberta-v3-small", place.folder / "hub" / "hub")
    hub_folder("llama", place.folder / "llama", safe=True)
    words = f"--questions train.csv --index {sample_index} --out train.parquet"
    place.run(f"python -m inference contexts {words}")
    place.follow("swap-the-backbone.md")
    assert (place.folder / "llama-whole" / "model.safetensors").is_file()
    assert (place.folder / "runs" / "deberta" / "oof.parquet").is_file()


def test_more_than_one_machine(place, sample_index, tmp_path):
    """Apart from what needs a cluster, or two processes: tests of their own run these."""
    first(TRAIN, COUNT, place.folder / "train.csv")
    first(TEST, COUNT, place.folder / "test.csv")
    (place.folder / "articles.jsonl").write_bytes(ARTICLES.read_bytes())
    for name, score in (("first", "novel"), ("second", "weighed")):
        (place.folder / f"{name}.yaml").write_text(
            f"index: index/\nrankers: [{{kind: similarity, options: {{score: {score}}}}}]\n"
        )
    build, answer, gpus, *rest = blocks(DOCS / "outgrow-one-machine.md", "")
    assert "--workers ray" in build and "--workers ray" in answer and "accelerate launch" in gpus
    for block in rest:
        place.run(block)
    assert len(read_submission(place.folder / "submission.csv")) == COUNT
