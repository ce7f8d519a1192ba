"""The tutorials, command by command, as a reader would type them; only the network is stood in for."""

import csv
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from hub_toys import cached, hub_folder
from question_tables import first
from test_readme import blocks

from kaggle_rag.data.questions import Questions
from kaggle_rag.data.submission import read_submission
from kaggle_rag.sample import ARTICLES, TEST, TRAIN

pytestmark = pytest.mark.slow
DOCS = ROOT / "docs"
COUNT = 12

# Kaggle's client, as far as the tutorials ask it: files to download, and a dataset that is ready.
KAGGLE = """\
#!/bin/sh
case "$1 $2" in
"competitions download") mkdir -p data; cp "$STAND_IN/$4.zip" data/ ;;
"datasets status") echo ready ;;
esac
echo "$@" >> "$STAND_IN/kaggle.log"
"""
# That of the hub of models and datasets.
HF = """\
#!/bin/sh
mkdir -p "${8%/}"; cp -r "$STAND_IN/wikipedia/." "${8%/}"
"""
UNZIP = f"""\
#!{sys.executable}
import sys, zipfile
zipfile.ZipFile(sys.argv[3]).extractall(sys.argv[5])
"""


class Place:
    """A folder to follow a tutorial in."""

    def __init__(self, folder):
        self.folder, self.stand_in, self.programs = folder, folder / "stand-in", folder / "bin"
        for made in (self.stand_in, self.programs):
            made.mkdir()
        for name, text in {"kaggle": KAGGLE, "hf": HF, "unzip": UNZIP}.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)

    def competition(self, slug, letters):
        """The archive of a competition's files, from the sample's questions."""
        rows = [[*csv.DictReader(path.open(newline="", encoding="utf-8"))][:COUNT] for path in (TRAIN, TEST)]
        with zipfile.ZipFile(self.stand_in / f"{slug}.zip", "w") as archive:
            for name, table in zip(("train.csv", "test.csv"), rows):
                path = self.folder / name
                _write(path, table, letters)
                archive.write(path, name)
                path.unlink()
            ids = "\n".join(f"{row['id']},A B C" for row in rows[1])
            archive.writestr("sample_submission.csv", f"id,prediction\n{ids}\n")

    def freeze(self):
        """What ``pip freeze`` prints here: a notebook that lacks nothing."""
        done = subprocess.run([sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if not line.startswith("-e")]
        (self.folder / "freeze.txt").write_text("\n".join(lines))

    def follow(self, page):
        """Write the page's YAML files, and run its commands in their order."""
        text = (DOCS / page).read_text(encoding="utf-8")
        for before, block in zip(text.split("```yaml\n"), blocks(DOCS / page, "yaml")):
            name = before.rstrip().splitlines()[-1].strip(":").partition("`")[2].partition("`")[0]
            if name.endswith(".yaml"):
                (self.folder / name).write_text(block)
        for block in blocks(DOCS / page, ""):
            self.run(block)

    def run(self, block):
        """Run commands; what they would download is in the cache already."""
        block = block.replace(" --online", "")
        path = [str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "STAND_IN": str(self.stand_in),
            "PATH": os.pathsep.join(path),
            "PIP_NO_INDEX": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(self.folder / "hub"),
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-euc", block], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _write(path, rows, letters):
    """A table with as many options as the competition has."""
    made = []
    for row in rows:
        more = {"E": "none of these"} if "E" in letters else {}
        kept = {key: value for key, value in row.items() if "E" not in letters or key != "is_question"}
        made.append({**kept, **more})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, made[0])
        writer.writeheader()
        writer.writerows(made)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_the_science_exam(place):
    place.competition("kaggle-llm-science-exam", "ABCDE")
    corpus = place.stand_in / "wikipedia" / "20231101.en"
    corpus.mkdir(parents=True)
    (corpus / "articles.jsonl").write_bytes(ARTICLES.read_bytes())
    place.freeze()
    place.follow("tutorial.md")
    asked = Questions.read(place.folder / "data" / "test.csv")
    assert asked.width == 5
    assert [str(key) for key, _ in read_submission(place.folder / "submission.csv").items()] == [
        str(key) for key in asked.ids
    ]
    pages = ["baseline.html", "experiment.html"]
    assert all((place.folder / page).stat().st_size > 10_000 for page in pages)
    calls = (place.stand_in / "kaggle.log").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["competitions", "datasets", "kernels", "competitions"]


def test_questions_and_instructions(place):
    place.competition("exam-of-instructions", "ABCD")
    (place.folder / "articles.jsonl").write_bytes(ARTICLES.read_bytes())
    place.freeze()
    place.follow("tutorial-with-instructions.md")
    asked = Questions.read(place.folder / "data" / "test.csv")
    assert asked.width == 4 and 0 < asked.is_question.sum() < COUNT
    assert len(read_submission(place.folder / "submission.csv")) == COUNT
    page = (place.folder / "check.html").read_text()
    assert "instruction" in page


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
