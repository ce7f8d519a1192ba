"""No false alarm on sound bundles of different make; and the faults of real ones are found."""

import csv
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import FACTS
from model_toys import tiny_cross_encoder
from ranker_toys import backbone, task
from rehearsal_toys import call

from inference.notebook.rehearsal.machine import Means
from inference.notebook.rehearsal.rehearse import Wanted, rehearse
from inference.notebook.rehearsal.verdict import ErrorClass
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER

pytest.importorskip("nbclient")
pytestmark = pytest.mark.slow

SIMILARITY = {"kind": "similarity", "options": {"temperature": 0.5}}


@pytest.fixture(scope="module")
def parts(facts_index, encoder, tiny, tmp_path_factory):
    """Indexes and rankers that the solutions name."""
    from kaggle_rag.text.units import Unit
    from training.rankers.settings import CausalRun, MultipleChoiceRun
    from training.rankers.train import train_ranker
    from wiki_index.build import build
    from wiki_index.corpus import Corpus
    from wiki_index.plan import Plan

    folder = tmp_path_factory.mktemp("parts")
    corpus = folder / "facts.jsonl"
    corpus.write_text("".join(json.dumps({"title": t, "text": x}) + "\n" for t, x in FACTS.items()))
    both = {"tiny": tiny, "minilm": encoder}
    build(Plan(Corpus.open(corpus), folder / "hybrid", both, Unit("sentence"), lexical=True))
    settings = task(tmp_path_factory.mktemp("task"), count=8, judged=8)
    lora = {"model": str(backbone("llama", folder / "llama")), "peft": {"method": "lora"}}
    train_ranker("causal", CausalRun(**settings, **lora, out=folder / "lora", epochs=1))
    bert = str(backbone("bert", folder / "bert"))
    train_ranker(
        "multiple-choice", MultipleChoiceRun(**settings, model=bert, out=folder / "choice", epochs=1)
    )
    tiny_cross_encoder(folder / "cross")
    return {"facts": str(facts_index), "tiny": tiny.card.name, "folder": folder}


def trained(parts, name, **options):
    return {"kind": "trained", "options": {"folder": str(parts["folder"] / name), "snippets": 3, **options}}


# By what makes a bundle different: its settings.
SOLUTIONS = {
    "a trained ranker, JSON lines": lambda p: {
        "index": p["facts"], "rankers": [trained(p, "choice"), SIMILARITY],
    },
    "an adapter and its backbone, two options, GPU, no competition": lambda p: {
        "index": p["facts"], "rankers": [trained(p, "lora")], "device": None,
    },
    "a checkpoint without a card": lambda p: {
        "index": p["facts"], "rankers": [trained(p, "llama", form="options", max_tokens=48)],
    },
    "without an index": lambda p: {"rankers": [SIMILARITY]},
    "contexts per option, Parquet, one letter, a limit": lambda p: {
        "index": p["facts"], "contexts": {"per": "option"}, "blend": "ranks", "top": 1,
        "limits": {"time": "30m"},
    },
    "two retrievers, words and a re-ranker": lambda p: {
        "index": str(p["folder"] / "hybrid"), "encoder": p["tiny"], "encoders": {"minilm": DEFAULT_ENCODER},
        "contexts": {
            "retrievers": {"tiny": 0.4, "minilm": 0.3, "bm25": 0.3},
            "reranker": str(p["folder"] / "cross" / "pairs"),
        },
    },
}  # fmt: skip
ENDINGS = {"JSON lines": ".jsonl", "Parquet": ".parquet"}


def questions_file(path, width):
    letters = "ABCDE"[:width]
    rows = [
        {"id": n, "prompt": f"Which is number {n} of Mars?"}
        | {letter: f"moon {n + k}" for k, letter in enumerate(letters)}
        for n in range(12)
    ]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({**row, "id": f"q{row['id']}"}) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return path


def bundled(settings, folder, monkeypatch, *flags):
    folder.mkdir(exist_ok=True)
    config = folder / "solution.yaml"
    config.write_text(yaml.safe_dump({"device": "cpu", **settings}))
    names = ["--owner", "me", "--slug", "exam", "--title", "An exam", *flags]
    command = ["bundle", "--config", config, "--wheels", "none", *names, "--out", folder / "bundle"]
    assert call(monkeypatch, *command) == 0
    return folder / "bundle"


@pytest.mark.parametrize("make", SOLUTIONS)
def test_a_sound_bundle_passes(parts, tmp_path, monkeypatch, make):
    pair, ending = "two options" in make, next((ENDINGS[kind] for kind in ENDINGS if kind in make), ".csv")
    flags = [] if pair else ["--competition", "the-exam"]
    bundle = bundled(SOLUTIONS[make](parts), tmp_path, monkeypatch, *flags)
    questions = questions_file(tmp_path / f"test{ending}", 2 if pair else 5)
    report = rehearse(Wanted(bundle, questions, quick=True, ram=4 * 10**9, tmp=10**8))
    assert report.passed and not report.results[0].warnings, report.text()
    assert report.results[0].questions == 20


def test_a_sound_bundle_passes_every_case_and_without_namespaces(parts, tmp_path, monkeypatch):
    similarity = {"index": parts["facts"], "rankers": [SIMILARITY]}
    bundle = bundled(similarity, tmp_path, monkeypatch, "--competition", "the-exam")
    questions = questions_file(tmp_path / "test.csv", 5)
    report = rehearse(Wanted(bundle, questions, ram=4 * 10**9, tmp=10**8))
    assert report.passed, report.text()
    assert report.forecast.own_limit == 8.5 * 3600 and report.forecast.seconds < 600
    less = Means(namespaces=False, own_tmp=False, control_group=False)
    report = rehearse(Wanted(bundle, questions, quick=True, ram=4 * 10**9, tmp=10**8), less)
    assert report.passed, report.text()


def spoiled(bundle, **changes):
    """The bundle with other settings."""
    settings = bundle / "solution.yaml"
    settings.write_text(yaml.safe_dump({**yaml.safe_load(settings.read_text()), **changes}))
    listed = json.loads((bundle / "bundle.json").read_text())
    listed["files"]["solution.yaml"]["bytes"] = settings.stat().st_size
    (bundle / "bundle.json").write_text(json.dumps(listed))


def test_faults_of_a_real_bundle(parts, tmp_path, monkeypatch):
    """A model that needs the hub, a ranker beyond the memory, and a plan that overruns."""
    bundle = bundled(
        {"index": parts["facts"], "rankers": [trained(parts, "choice")]}, tmp_path, monkeypatch,
        "--competition", "the-exam",
    )  # fmt: skip
    questions = questions_file(tmp_path / "test.csv", 5)
    wanted = {"quick": True, "ram": 4 * 10**9, "tmp": 10**8}
    # torch alone takes more than that.
    report = rehearse(Wanted(bundle, questions, **{**wanted, "ram": 10**8}))
    fault = report.results[0].fault
    assert fault.error is ErrorClass.COMPUTE and "more than 0.10 GB of memory" in fault.cause
    report = rehearse(Wanted(bundle, questions, **wanted, limit=2.0))
    assert report.results[0].fault.error is ErrorClass.TIMEOUT
    spoiled(bundle, encoder="intfloat/e5-base-v2")
    report = rehearse(Wanted(bundle, questions, **wanted))
    fault = report.results[0].fault
    assert fault.error is ErrorClass.EXCEPTION and fault.cause.endswith(
        "cannot be reached: intfloat/e5-base-v2"
    )
    assert any("encoder is 'intfloat/e5-base-v2'" in each.cause for each in report.static)
    shutil.rmtree(bundle / "kit" / "kaggle_rag" / "text")
    report = rehearse(Wanted(bundle, questions, **wanted))
    assert report.results[0].fault.error is ErrorClass.EXCEPTION
    assert "is missing or incomplete" in report.results[0].fault.cause
