"""A retriever that learns, goes on after a kill with the same weights, and says what it cannot do."""

import json
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from interrupts import stop_at
from model_toys import tiny_model
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from training_toys import WORDS, questions, toy, write_table

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError, KitError
from kaggle_rag.text.units import Unit
from training.__main__ import main
from training.loop.trainer import Progress
from training.retrieval.bi_encoder import figures, train_retriever
from training.retrieval.corpus import ListedPassages
from training.retrieval.dataset import _damaged
from training.retrieval.losses import RETRIEVER_LOSSES, can_denoise
from training.retrieval.settings import RetrieverSettings
from wiki_index.build import build
from wiki_index.corpus import Corpus
from wiki_index.plan import Plan

LEARN = {"positive": "fact", "batch": 12, "learning_rate": 3e-3, "epochs": 6, "evaluations": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy"))


def train(data, out, **changes):
    return train_retriever(RetrieverSettings(**{**data, **LEARN, "out": out, **changes}))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """An undisturbed run, in which no socket is even asked for."""
    out, asked = tmp_path_factory.mktemp("run") / "encoder", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *a, **k: asked.append(a))
        record = train(data, out)
    assert not asked
    return out, record


def test_recall_rises_on_a_task_that_can_be_learnt(trained):
    before, after = trained[1]["result"]["before"], trained[1]["result"]["after"]
    assert before["recall@1"] < 0.3 and after["recall@1"] >= 0.9
    assert len(trained[1]["result"]["evaluations"]) >= 8


def test_the_figures_are_those_of_a_brute_force_over_the_trained_model(trained, data):
    model = SentenceTransformer(str(trained[0]), device="cpu")
    rows = [row.split(",") for row in data["validation"].read_text().splitlines()[1:]]
    passages = model.encode(WORDS, normalize_embeddings=True)
    ranks = []
    for _, prompt, *options, _, fact in rows:
        cosines = passages @ model.encode(" ".join([prompt, *options]), normalize_embeddings=True)
        ranks.append(1 + int((cosines > cosines[WORDS.index(fact)]).sum()))
    ranks = np.array(ranks)
    after = trained[1]["result"]["after"]
    assert after["recall@1"] == pytest.approx((ranks == 1).mean())
    assert after["ndcg@10"] == pytest.approx(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean())


def test_mixed_precision_learns_as_much_and_keeps_float32_weights(data, trained, tmp_path):
    record = train(data, tmp_path / "out", precision="bf16")
    assert record["result"]["after"]["recall@1"] >= 0.9
    own, whole = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", trained[0]))
    floats = [name for name, tensor in own.items() if tensor.is_floating_point()]
    assert all(own[name].dtype == torch.float32 for name in floats)
    # It did compute in half precision: the steps are others.
    assert any(not torch.equal(own[name], whole[name]) for name in floats)


def test_a_precision_that_a_cpu_would_not_train_in_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr("training.retrieval.bi_encoder.make_dataset", lambda *_: pytest.fail("mined in vain"))
    with pytest.raises(ConfigError, match="a cpu does not train in fp16"):
        train(data, tmp_path / "out", precision="fp16", device="cpu")


def test_figures_of_a_hand_worked_ranking():
    found = figures([[4, 7, 1], [2, 3, 9]], [7, 5])
    assert found["recall@1"] == 0 and found["recall@5"] == 0.5
    assert found["ndcg@10"] == pytest.approx(0.5 / np.log2(3))


def test_the_trained_folder_is_an_encoder_and_holds_nothing_pickled(trained):
    assert Encoder(str(trained[0]), device="cpu").card.sha256 == trained[1]["result"]["sha256"]
    names = {path.name for path in trained[0].rglob("*")}
    assert "training.json" in names and "README.md" not in names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert not trained[0].with_name("encoder.training").exists()


def interrupted(data, out, monkeypatch, step, **changes):
    """Run until a step, then stop as Ctrl-C does."""
    monkeypatch.setattr(Progress, "on_step_end", stop_at(step))
    with pytest.raises(KeyboardInterrupt):
        train(data, out, **changes)
    monkeypatch.undo()


# Of the last two, the loss has weights of its own.
KILLED = [("infonce", 11, {}), ("infonce", 19, {}), ("triplet", 13, {"negatives": 1, "epochs": 1.25}),
          ("vicreg", 13, {"expander": 16, "epochs": 1.25}), ("tsdae", 3, {"epochs": 5})]  # fmt: skip


@pytest.mark.parametrize("loss, step, changes", KILLED)
def test_a_killed_run_goes_on_and_ends_with_the_weights_of_an_undisturbed_one(
    loss, step, changes, trained, data, tmp_path, monkeypatch
):
    """Stopped in an epoch and after its end; batches drawn without equal texts, and simply shuffled."""
    if loss == "tsdae" and not can_denoise():
        pytest.skip("these releases cannot tie encoder and decoder")
    changes = {"loss": loss, **changes} if changes else {}
    whole = trained[0] if loss == "infonce" else tmp_path / "whole"
    if loss != "infonce":
        train(data, whole, **changes)
    interrupted(data, tmp_path / "out", monkeypatch, step, **changes)
    work = tmp_path / "out.training"
    assert list(work.glob("checkpoint-*")) and not list(work.rglob("training_args.bin"))
    # A checkpoint that was cut while it was written.
    (work / "checkpoint-900").mkdir()
    train(data, tmp_path / "out", **changes)
    left, right = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path / "out"))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_killed_run_goes_on_in_a_folder_that_was_moved(trained, data, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    interrupted(data, tmp_path / "a/out", monkeypatch, 19)
    (tmp_path / "a").rename(tmp_path / "b")
    record = train(data, tmp_path / "b/out")
    assert record["result"]["sha256"] == trained[1]["result"]["sha256"]


def test_a_finished_run_is_not_run_again_and_a_strangers_folder_is_left_alone(trained, data, tmp_path):
    assert train(data, trained[0])["result"] == trained[1]["result"]
    with pytest.raises(ArtifactError, match="which differs in epochs"):
        train(data, trained[0], epochs=5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="something else"):
        train(data, tmp_path / "mine")
    (tmp_path / "mine").rename(tmp_path / "out.training")
    with pytest.raises(ArtifactError, match="something other than"):
        train(data, tmp_path / "out")
    assert (tmp_path / "out.training/notes.txt").read_text() == "mine"


def test_an_unfinished_run_with_other_settings_is_left_alone(data, tmp_path, monkeypatch):
    interrupted(data, tmp_path / "out", monkeypatch, 5)
    with pytest.raises(ArtifactError, match="unfinished training run already exists, and differs in seed"):
        train(data, tmp_path / "out", seed=1)


def test_another_seed_gives_other_weights(trained, data, tmp_path):
    other = train(data, tmp_path / "out", seed=1)
    assert other["result"]["sha256"] != trained[1]["result"]["sha256"]


def test_training_stops_when_nothing_is_gained_and_keeps_the_best(data, tmp_path):
    record = train(data, tmp_path / "out", epochs=100, patience=2)
    result = record["result"]
    best = max(result["evaluations"], key=lambda line: (line["ndcg@10"], -line["step"]))
    assert result["steps"] < 500 and result["best step"] == best["step"] < result["steps"]
    assert result["after"]["ndcg@10"] == pytest.approx(best["ndcg@10"])


def test_the_rate_is_halved_after_two_evaluations_without_a_gain_also_when_resumed(
    data, tmp_path, monkeypatch
):
    """At a rate so low that nothing is ever gained; the last rate is then told by the number of halvings."""
    changes = {"schedule": "plateau", "learning_rate": 1e-12, "epochs": 3, "evaluations": 4}
    rates, log = [], Progress.on_log

    def on_log(self, args, state, control, **kwargs):
        rates.append(kwargs["logs"].get("learning_rate"))
        log(self, args, state, control, **kwargs)

    monkeypatch.setattr(Progress, "on_log", on_log)
    record = train(data, tmp_path / "whole", **changes)
    seen = [rate for rate in rates if rate is not None]
    # The first evaluation is a gain over nothing; from then on every second one halves the rate.
    halvings = (len(record["result"]["evaluations"]) - 1) // 2
    assert halvings >= 4 and seen[0] == 1e-12 and seen == sorted(seen, reverse=True)
    assert seen[-1] in (1e-12 / 2**halvings, 1e-12 / 2 ** (halvings - 1))
    interrupted(data, tmp_path / "out", monkeypatch, 15, **changes)
    again = train(data, tmp_path / "out", **changes)
    assert again["result"]["sha256"] == record["result"]["sha256"]


def test_passages_are_damaged_by_the_seed_and_never_emptied():
    passages = ListedPassages([f"{word} and some more words of it" for word in WORDS] + ["alone"], None)
    made = _damaged(passages, 1000, 0)
    assert made == _damaged(passages, 1000, 0) != _damaged(passages, 1000, 1)
    assert {each.positive for each in made} == set(passages.texts) and len(_damaged(passages, 5, 0)) == 5
    for each in made:
        left = iter(each.positive.split())
        # In their order, each of them from the passage.
        assert each.query and all(word in left for word in each.query.split())
    kept = [len(each.query.split()) for each in made if each.positive != "alone"]
    # 84 words, kept at 0.4: 34 of them, with a standard deviation of 4.5.
    assert 20 < sum(kept) < 48


def test_an_encoder_learns_from_the_scores_of_a_teacher(data, tmp_path):
    """The teacher finds every fact as good as every other: the margins that are learnt are 0."""
    rows = [row.split(",") for row in data["questions"].read_text().splitlines()[1:]]
    table = [{"id": row[0], "passage": word, "score": 0.5} for row in rows for word in WORDS]
    teacher = write_table(tmp_path / "teacher.csv", table)
    out = tmp_path / "out"
    train(data, out, loss="margin-mse", negatives=2, teacher=str(teacher), epochs=4)
    before, after = (_spread(folder, rows[0][1]) for folder in (data["model"], out))
    assert after < before / 3


def _spread(folder, question):
    """How far apart the facts are in their cosine to a question."""
    model = SentenceTransformer(str(folder), device="cpu")
    query, *facts = model.encode([question, *WORDS], normalize_embeddings=True)
    return np.ptp(np.stack(facts) @ query)


def test_a_lost_loss_stops_the_run_and_keeps_the_last_good_checkpoint(data, tmp_path, monkeypatch):
    class Lost(torch.nn.Module):
        def __init__(self, model, settings):
            super().__init__()
            self.inner, self.calls = RETRIEVER_LOSSES["infonce"].make(model, settings), 0

        def forward(self, features, labels):
            self.calls += 1
            return self.inner(features, labels) * (float("nan") if self.calls == 12 else 1.0)

    monkeypatch.setitem(
        RETRIEVER_LOSSES, "cosent", type(RETRIEVER_LOSSES["infonce"])(Lost, "tuple", distinct=True)
    )
    with pytest.raises(ConfigError, match=r"loss is nan at step 12[^$]*checkpoint-8"):
        train(data, tmp_path / "out", loss="cosent", evaluations=2)
    kept = load_file(tmp_path / "out.training/checkpoint-8/model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in kept.values())


class Touch:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_checkpoint_that_holds_an_object_is_refused_and_the_object_stays_asleep(
    data, tmp_path, monkeypatch
):
    interrupted(data, tmp_path / "out", monkeypatch, 11)
    (checkpoint,) = (tmp_path / "out.training").glob("checkpoint-*")
    torch.save({"state": Touch(tmp_path / "awake")}, checkpoint / "optimizer.pt")
    with pytest.raises(ArtifactError, match="contains more than numbers"):
        train(data, tmp_path / "out")
    assert not (tmp_path / "awake").exists()


def test_prompts_known_by_the_familys_name_stay_with_the_trained_model(data, tmp_path):
    shutil.copytree(data["model"], tmp_path / "e5-small")
    train(data, tmp_path / "out", model=str(tmp_path / "e5-small"), epochs=0.5)
    card = Encoder(str(tmp_path / "out"), device="cpu").card
    assert (card.query_prompt, card.passage_prompt) == ("query: ", "passage: ")


def test_positives_are_mined_from_an_index_that_no_other_encoder_may_search(data, tmp_path):
    corpus = tmp_path / "facts.jsonl"
    corpus.write_text("".join(json.dumps({"title": "", "text": f"{w} is {f}"}) + "\n" for w in WORDS for f in
                              ("one", "two", "six", "ten", "red", "big", "old", "hot")))  # fmt: skip
    encoder = Encoder(data["model"], device="cpu")
    build(Plan(Corpus.open(corpus), tmp_path / "index", {"tiny": encoder}, Unit("article")))
    assert len(Index(tmp_path / "index")) == 96
    mined = {"positive": None, "passages": None, "validation": None, "index": tmp_path / "index",
             "depth": 96, "batch": 4, "epochs": 0.5, "held_out": 0.25}  # fmt: skip
    notes = train(data, tmp_path / "out", **mined)["result"]["notes"]
    # Every option is a word of some passage, so each question has its support.
    assert notes["without a positive"] == 0 and notes["learnt from"] + notes["held out"] == 96
    (tmp_path / "other").mkdir()
    other = tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(ArtifactError, match="another encoder"):
        train(data, tmp_path / "out2", **mined, encoder=str(other))


def test_a_dry_run_counts_and_writes_nothing(data, tmp_path, capsys, monkeypatch):
    flags = {**data, **LEARN, "out": tmp_path / "out"}
    command = [w for name, value in flags.items() for w in ("--" + name.replace("_", "-"), str(value))]
    monkeypatch.setattr(sys, "argv", ["training", "retriever", *command, "--dry-run", "--json"])
    before = sorted(data["questions"].parent.rglob("*"))
    assert main() == 0
    found = json.loads(capsys.readouterr().out)
    # Three questions are near-duplicates of some to judge by; the others have two queries each.
    assert found["notes"]["excluded"] == 3 and found["notes"]["examples"] == 186
    assert found["steps"] == 6 * (186 // 12) and found["seconds"] > 0
    assert not list(tmp_path.iterdir()) and sorted(data["questions"].parent.rglob("*")) == before


def test_settings_of_a_file_are_relative_to_it_and_flags_override_them(data, tmp_path, monkeypatch, capsys):
    shutil.copy(data["questions"], tmp_path / "q.csv")
    told = {**LEARN, "questions": "q.csv", "out": "out", "epochs": 9}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(told))
    monkeypatch.setattr(
        sys, "argv",
        ["training", "retriever", "--config", str(tmp_path / "run.yaml"), "--model", data["model"],
         "--epochs", "0.25", "--queries", "1", "--batch", "4"],
    )  # fmt: skip
    assert main() == 0
    told = capsys.readouterr().out
    assert json.loads((tmp_path / "out/training.json").read_text())["plan"]["epochs"] == 0.25
    assert f"--encoder {tmp_path / 'out'}" in told and "encoder sha256" in told


def bad(tmp_path, name, change):
    """The toy's questions with each row changed."""
    import csv

    path = questions(tmp_path / f"{name}.csv", 8, 0)
    with path.open(newline="") as file:
        rows = [change(dict(row)) for row in csv.DictReader(file)]
    return write_table(path, rows)


@pytest.mark.parametrize(
    "name, change, settings, message",
    [
        ("answers", lambda row: row | {"answer": ""}, {}, "96 of 96 questions have no answer"),
        ("column", dict, {"positive": "gold"}, "column 'gold' is missing"),
        ("empty", lambda row: row | {"fact": " "}, {}, "row 1, column fact: the positive is empty"),
        ("few", dict, {"batch": 500}, "192 examples do not fill a batch of 500"),
        ("same", lambda row: row | {"fact": "amber"}, {}, "1 distinct positive does not fill a batch"),
    ],
)  # fmt: skip
def test_bad_questions_get_one_clear_message(name, change, settings, message, data, tmp_path):
    changes = {"questions": bad(tmp_path, name, change), "validation": None, "held_out": 0, **settings}
    with pytest.raises(InputError, match=message):
        train(data, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_all_faults_of_the_settings_are_told_at_once(monkeypatch, data, tmp_path):
    monkeypatch.setattr(
        sys, "argv",
        ["training", "retriever", "--questions", "q.csv", "--loss", "infonze", "--epochs", "-1",
         "--metric", "map", "--forms", "all", "some"],
    )  # fmt: skip
    with pytest.raises(KitError) as caught:
        main()
    told = str(caught.value)
    assert "5 settings are invalid" in told and "out: not given" in told and "epochs:" in told
    assert all(loss in told for loss in RETRIEVER_LOSSES) and "forms.1" in told and "metric" in told


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"index": "i", "passages": "p"}, "passages and index are both given"),
        ({"positive": None, "passages": None}, "nothing to train on"),
        ({"loss": "triplet"}, "'triplet' needs negatives: 1 or more"),
        ({"patience": 1, "validation": None, "held_out": 0}, "patience needs an evaluation"),
        ({"schedule": "plateau", "validation": None, "held_out": 0}, "plateau needs an evaluation"),
        ({"loss": "margin-mse", "negatives": 1}, "learns from a teacher's scores: set teacher"),
        ({"vicreg_weights": (1, -1, 1)}, "vicreg_weights are 0 or more"),
        ({"vicreg_weights": (float("nan"), 1, 1)}, "vicreg_weights are 0 or more"),
        ({"vicreg_weights": (0, 0, 0)}, "not all of them 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message, data):
    with pytest.raises(ValueError, match=message):
        RetrieverSettings(**{**data, **LEARN, "out": "o", **changes})


def test_help_is_quick_and_teaches(tmp_path):
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "training", "retriever", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "examples:" in told.stdout and "infonce" in told.stdout
    # What takes seconds to import is not imported.
    assert "torch" not in told.stderr and "transformers" not in told.stderr


def test_a_bad_command_leaves_with_code_2_and_one_message(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training", "retriever", "--questions", str(tmp_path / "no.csv"),
         "--positive", "fact", "--out", str(tmp_path / "out")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "no such file" in done.stderr and "Traceback" not in done.stderr
