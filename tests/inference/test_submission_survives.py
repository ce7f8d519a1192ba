"""A submission always exists: killed, failing, out of time or out of memory, what is known so far stands."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
from question_tables import ROWS
from ranker_toys import WORDS, asked, backbone

from inference import __main__ as program
from inference.predictions import PredictionStore, names_of
from inference.run_log import Clock, RunLog
from kaggle_rag.config import RankerSettings, load
from kaggle_rag.data.questions import Questions
from kaggle_rag.data.submission import validate
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.models.loading import load_backbone, with_packing
from kaggle_rag.models.writer import Writer
from kaggle_rag.rankers.similarity import SimilarityRanker
from kaggle_rag.rankers.trained import TrainedRanker
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.runtime.errors import CheckpointError, ConfigError, LimitError, run_program
from kaggle_rag.runtime.limits import parse_duration


def write(path, count):
    """Many questions, so that a run takes a while."""
    rows = [
        {**ROWS[n % len(ROWS)], "id": str(n), "prompt": f"{ROWS[n % len(ROWS)]['prompt']} {n}"}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def run(facts_index, tmp_path, monkeypatch, capsys):
    """``submit`` of 20 questions; gives the exit code and what was printed."""
    questions = write(tmp_path / "questions.jsonl", 20)

    def run(*flags):
        command = ["submit", "--questions", questions, "--index", facts_index, "--out", tmp_path / "s.csv"]
        monkeypatch.setattr(sys, "argv", ["inference", *map(str, [*command, *flags])])
        code = run_program(program.main)
        return code, capsys.readouterr().err

    run.questions, run.out = Questions.read(questions), tmp_path / "s.csv"
    run.valid = lambda: validate(run.out, run.questions.ids, run.questions.options)
    return run


TWO = "rankers=[{kind: similarity}, {kind: similarity, options: {score: novel}}]"


def failing(monkeypatch, error, score="novel"):
    """One of the two rankers fails."""
    answer = SimilarityRanker.probabilities

    def probabilities(self, questions, contexts):
        if self.score == score:
            raise error
        return answer(self, questions, contexts)

    monkeypatch.setattr(SimilarityRanker, "probabilities", probabilities)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: device lost"), MemoryError("no memory"), OSError("input is gone")]
)
def test_a_ranker_that_fails_leaves_what_the_others_answered(run, monkeypatch, error):
    assert run()[0] == 0
    alone = run.out.read_bytes()
    failing(monkeypatch, error)
    code, said = run("--set", TWO)
    assert code == 0 and run.out.read_bytes() == alone
    assert f"FAILED: rank: similarity-2 ({type(error).__name__}: {error})" in said
    stages = json.loads((run.out.with_name("s.predictions") / "run.json").read_text())["stages"]
    assert [bool(stage["failure"]) for stage in stages] == [False, False, True]


def test_strict_stops_at_the_first_failure(run, monkeypatch):
    failing(monkeypatch, RuntimeError("broken"), score="weighed")
    with pytest.raises(RuntimeError, match="broken"):
        run("--set", TWO, "--strict")
    # The guess stands.
    assert run.valid()


def test_where_every_ranker_fails_the_guess_stands_and_the_program_says_so(run, monkeypatch):
    failing(monkeypatch, RuntimeError("broken"), score="weighed")
    code, said = run()
    assert code == 2 and "no ranker answered" in said
    # Equal probabilities: the letters in their order.
    assert all(row == sorted(row) for row in run.valid())


def test_a_search_that_fails_leaves_rankers_the_words_of_the_questions(run, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("inference.submit._search", lambda *given: 1 / 0)
        code, said = run()
    assert code == 0 and "FAILED: contexts (ZeroDivisionError" in said and run.valid()
    closed = run.out.read_bytes()
    # Once the search works, nothing of that is taken up.
    code, said = run()
    assert code == 0 and "there already" not in said and run.out.read_bytes() != closed


def test_answers_that_stay_are_blended_as_the_solution_says_now(run, tmp_path):
    """Weight and temperature of a ranker may be fitted after it has answered, and a ranker taken out."""
    from inference.blend import blend_runs

    folder = run.out.with_name("s.predictions")
    assert run("--set", TWO)[0] == 0
    weighed = TWO.replace("novel}", "novel}, weight: 3, temperature: 2.0")
    code, said = run("--set", weighed)
    assert code == 0 and said.count("all 20 answers were there already") == 2
    blend_runs([folder], tmp_path / "blend.csv")
    assert (tmp_path / "blend.csv").read_bytes() == run.out.read_bytes()
    assert run("--set", TWO.replace(", {kind: similarity, options: {score: novel}}", ""))[0] == 0
    blend_runs([folder], tmp_path / "one.csv")
    assert (tmp_path / "one.csv").read_bytes() == run.out.read_bytes()
    assert (folder / "similarity-2.parquet").exists()


def test_overflow_without_memory_for_float32_is_left_to_other_rankers(tmp_path, monkeypatch):
    import kaggle_rag.rankers.trained as trained

    folder = backbone("llama", tmp_path / "model")
    questions = Questions.from_rows(
        [{"id": n, "prompt": f"which {w}", "A": "red", "B": "blue"} for n, w in enumerate(WORDS[:6])], "test"
    )
    options = {"form": "options", "max_tokens": 48, "device": "cpu", "precision": "fp16"}
    scores, float32 = TrainedRanker._scores, trained.in_float32

    def overflowing(self, writer, items):
        logits = scores(self, writer, items)
        logits[:2] = np.inf
        return logits

    @contextlib.contextmanager
    def full(model):
        with float32(model):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        yield

    monkeypatch.setattr(TrainedRanker, "_scores", overflowing)
    monkeypatch.setattr(trained, "in_float32", full)
    with TrainedRanker(str(folder), **options) as ranker:
        dtypes = [each.dtype for each in ranker._backbone.model.parameters()]
        found = ranker.probabilities(questions, None)
        assert np.isnan(found[:2]).all() and found[2:].sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert "left to other rankers" in str(ranker.notes[-1])
        assert [each.dtype for each in ranker._backbone.model.parameters()] == dtypes
        with pytest.raises(CheckpointError, match="are not numbers"):
            ranker.probabilities(questions.take([0, 1]), None)


def test_a_wrong_setting_leaves_no_guess_behind(run):
    code, _ = run("--set", "rankers=[{kind: similarity, options: {temperature: -1}}]")
    assert code == 2 and not run.out.exists()


def test_a_restart_takes_up_what_was_answered_and_nothing_that_was_made_otherwise(run, monkeypatch):
    assert run("--set", TWO)[0] == 0
    whole = run.out.read_bytes()
    failing(monkeypatch, AssertionError("asked again"))
    code, said = run("--set", TWO)
    assert code == 0 and "similarity-2: all 20 answers were there already" in said
    assert run.out.read_bytes() == whole
    # Other contexts are other inputs, and other options another ranker.
    assert "FAILED: rank: similarity-2" in run("--set", TWO, "--set", "contexts.keep=3")[1]
    other = TWO.replace("novel}", "novel, temperature: 0.5}")
    assert "FAILED: rank: similarity-2" in run("--set", other)[1]


def test_batches_that_were_answered_before_a_kill_are_not_asked_again(run, monkeypatch):
    monkeypatch.setattr("inference.ranker_turn._BATCH", 8)
    answer, seen = SimilarityRanker.probabilities, []

    def probabilities(self, questions, contexts):
        if len(seen) == 2:
            seen.append(())
            raise KeyboardInterrupt
        seen.append(questions.ids)
        return answer(self, questions, contexts)

    monkeypatch.setattr(SimilarityRanker, "probabilities", probabilities)
    assert run()[0] == 130 and run.valid()
    assert run()[0] == 0
    asked_for = [key for ids in seen for key in ids]
    assert sorted(asked_for) == sorted(run.questions.ids)


@pytest.mark.parametrize(("command", "out"), [("submit", "s.csv"), ("predict", "p.predictions")])
def test_what_a_ranker_says_of_any_batch_reaches_the_user(
    run, command, out, facts_index, tmp_path, monkeypatch, capsys
):
    """Many rows are too long, and how they fall into batches changes nothing of what is said of them."""
    options = {"folder": str(backbone("llama", tmp_path / "llama")), "form": "options", "max_tokens": 8}
    rankers = "rankers=" + json.dumps([{"kind": "trained", "options": {**options, "device": "cpu"}}])
    index = ("--index", facts_index) if command == "submit" else ("--without-contexts",)
    said = []
    for size in (512, 7):
        monkeypatch.setattr("inference.ranker_turn._BATCH", size)
        monkeypatch.setattr("inference.answering._BATCH", size)
        words = ["--questions", tmp_path / "questions.jsonl", *index, "--out", tmp_path / f"{size}.{out}"]
        monkeypatch.setattr(sys, "argv", ["inference", command, *map(str, words), "--set", rankers])
        assert run_program(program.main) == 0
        said.append([line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")])
    assert said[0] == said[1] and sum("rows lost words of the question" in line for line in said[0]) == 1


@pytest.mark.parametrize("ending, answered", [("weighed", [20, 8, 0]), ("novel", [20, 20, 8])])
def test_time_runs_out_while_a_ranker_answers(run, monkeypatch, ending, answered):
    """A clock that stands still until this ranker has answered once; the next one is not asked at all."""
    monkeypatch.setattr("inference.ranker_turn._FIRST", 8)
    answer, now = SimilarityRanker.probabilities, [0.0]

    def probabilities(self, questions, contexts):
        table = answer(self, questions, contexts)
        now[0] += 1e6 * (self.score == ending)
        return table

    monkeypatch.setattr(SimilarityRanker, "probabilities", probabilities)
    monkeypatch.setattr(Clock, "elapsed", lambda self: now[0])
    code, said = run("--set", TWO, "--time", "10m")
    assert code == 0 and run.valid() and "limits.time" in said
    assert ("similarity-2 was skipped" in said) == (ending == "weighed")
    stages = json.loads((run.out.with_name("s.predictions") / "run.json").read_text())["stages"]
    assert [stage["questions"] for stage in stages] == answered


def test_where_the_first_ranker_failed_late_the_next_one_answers_all_the_same(run, monkeypatch):
    """A few questions, for without any answer there would be no submission."""
    monkeypatch.setattr("inference.ranker_turn._FIRST", 8)
    answer, now = SimilarityRanker.probabilities, [0.0]

    def probabilities(self, questions, contexts):
        if self.score == "weighed":
            now[0] = 1e6
            raise RuntimeError("lost")
        return answer(self, questions, contexts)

    monkeypatch.setattr(SimilarityRanker, "probabilities", probabilities)
    monkeypatch.setattr(Clock, "elapsed", lambda self: now[0])
    code, said = run("--set", TWO, "--time", "10m")
    assert code == 0 and run.valid() and "FAILED: rank: similarity" in said
    stages = json.loads((run.out.with_name("s.predictions") / "run.json").read_text())["stages"]
    assert [stage["questions"] for stage in stages][1:] == [0, 8]


def test_a_batch_of_contexts_that_would_end_too_late_is_not_begun(run, monkeypatch):
    """The search has half of the time, some 73 seconds: room for one batch of 50, not for most of two."""
    monkeypatch.setattr("kaggle_rag.retrieval.retriever.BATCH", 8)
    search, now = Retriever.stream, [0.0]

    def slowly(self, questions):
        now[0] += 50
        return search(self, questions)

    monkeypatch.setattr(Retriever, "stream", slowly)
    monkeypatch.setattr(Clock, "elapsed", lambda self: now[0])
    monkeypatch.setattr("inference.context_batches.time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    assert run("--time", "150s")[0] == 0 and now[0] == 50


@pytest.mark.parametrize(("limit", "found"), [("120s", 8), ("150s", 16)])
def test_questions_that_are_searched_together_end_in_time(run, monkeypatch, limit, found):
    """All 20 go over the vectors at once, 30 seconds; each context then takes 5."""
    monkeypatch.setattr("kaggle_rag.retrieval.retriever.BATCH", 8)
    put_together, now, passes = Retriever._batch, [0.0], []

    def slowly(self, questions):
        passes.append(len(questions))
        now[0] += 30
        for each in put_together(self, questions):
            now[0] += 5
            yield each

    monkeypatch.setattr(Retriever, "_batch", slowly)
    monkeypatch.setattr(Clock, "elapsed", lambda self: now[0])
    monkeypatch.setattr("inference.context_batches.time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    code, said = run("--time", limit, "--set", "contexts.exact=true")
    assert code == 0 and passes == [20] and f"contexts were found for {found} of 20" in said
    stages = json.loads((run.out.with_name("s.predictions") / "run.json").read_text())["stages"]
    assert stages[0]["questions"] == found


@pytest.mark.parametrize("exact", ["true", "false"])
@pytest.mark.parametrize(("broken", "found"), [([9], 12), ([0, 19], 8), ([0, 8, 19], 0)])
def test_a_question_that_breaks_the_search_costs_its_batch_alone(run, monkeypatch, exact, broken, found):
    """Two batches that fail in a row end it; what was found before stays."""
    monkeypatch.setattr("kaggle_rag.retrieval.retriever.BATCH", 8)
    lost = {run.questions.ids[row] for row in broken}
    put_together = Retriever._batch

    def breaking(self, questions):
        for question, each in zip(questions, put_together(self, questions)):
            if question.id in lost:
                raise RuntimeError("CUDA out of memory")
            yield each

    with monkeypatch.context() as patched:
        patched.setattr(Retriever, "_batch", breaking)
        code, said = run("--set", f"contexts.exact={exact}")
    assert code == 0 and run.valid() and "FAILED: contexts (RuntimeError: CUDA out of memory)" in said
    assert f"contexts were found for {found} of 20 questions" in said
    partly = run.out.read_bytes()
    # Once it works, the others are found too, and everybody is asked again.
    code, said = run("--set", f"contexts.exact={exact}")
    assert code == 0 and "there already" not in said and "contexts were found for" not in said
    whole = run.out.read_bytes()
    assert whole != partly
    monkeypatch.setattr(Retriever, "_batch", breaking)
    with pytest.raises(RuntimeError, match="CUDA"):
        run("--set", f"contexts.exact={exact}", "--set", "contexts.keep=7", "--strict")


def test_a_blend_is_over_those_that_answered():
    nan = np.full(2, np.nan)
    present = np.ones((3, 2), bool)
    a = np.array([[0.8, 0.2], [0.6, 0.4], nan], np.float32)
    b = np.array([[0.4, 0.6], nan, nan], np.float32)
    by_hand = [[(0.8 + 3 * 0.4) / 4, (0.2 + 3 * 0.6) / 4], [0.6, 0.4], [0.5, 0.5]]
    assert blend([a, b], [1, 3], present) == pytest.approx(np.array(by_hand), abs=1e-6)
    by_rank = [[(1 + 3 / 2) / 6, (1 / 2 + 3) / 6], [2 / 3, 1 / 3], [0.5, 0.5]]
    assert blend([a, b], [1, 3], present, "ranks") == pytest.approx(np.array(by_rank), abs=1e-6)
    # The geometric means of the options, which then sum to 1.
    means = np.array([0.8 * 0.4**3, 0.2 * 0.6**3]) ** (1 / 4)
    by_logit = [means / means.sum(), [0.6, 0.4], [0.5, 0.5]]
    assert blend([a, b], [1, 3], present, "logits") == pytest.approx(np.array(by_logit), abs=1e-6)


def test_durations_are_read_and_others_refused():
    assert [parse_duration(text) for text in ("8.5h", "40m", "90s", " 12 ")] == [30600, 2400, 90, 12]
    for text in ("soon", "-1m", "1d", ""):
        with pytest.raises(ConfigError, match="cannot read the duration"):
            parse_duration(text)
    assert load(None, ["limits.time=15m"]).limits.time == 900


def test_names_of_rankers_are_their_own():
    rankers = [("trained", {"folder": "a/deberta"}), ("trained", {"folder": "b/deberta"}), ("similarity", {})]
    assert names_of(rankers) == ["deberta", "deberta-2", "similarity"]
    # That file is taken.
    assert names_of([("trained", {"folder": "a/contexts"})]) == ["contexts-2"]


def test_a_clock_counts_from_the_start_of_the_process():
    clock = Clock(1000.0)
    assert 0 < clock.elapsed() < 7200 and clock.left() < 1000
    assert Clock(None).left() == float("inf") and Clock(None).after(0.5) == 0


def test_a_table_of_stages_names_each_failure(capsys):
    log = RunLog(Clock(None))
    with log.stage("one") as stage:
        stage.questions = 1234
    with log.stage("two"):
        raise ValueError("of no use")
    assert "1,234" in log.text() and log.text().splitlines()[-1].endswith("FAILED")
    assert "FAILED: two (ValueError: of no use)" in capsys.readouterr().err


def test_predictions_of_other_questions_are_not_taken(run, tmp_path):
    table = np.full((20, run.questions.width), 0.25, np.float32)
    for key, taken in (({"a": 1}, True), ({"a": 2}, False)):
        store = PredictionStore(tmp_path / "t.predictions", run.questions, key)
        with store.work.claimed():
            assert np.isfinite(store.load("r", {"kind": "x"})).all() == (taken and key == {"a": 9})
            store.save("r", table, {"kind": "x"}, RankerSettings())
            assert np.array_equal(store.load("r", {"kind": "x"}), table)
            assert np.isnan(store.load("r", {"kind": "y"})).all()


def test_a_batch_that_does_not_fit_is_halved(tmp_path, capsys):
    loaded = load_backbone(str(backbone("llama", tmp_path)), "options", device="cpu")
    loaded.model.eval()
    packed, _ = with_packing(loaded)
    rng = np.random.default_rng(0)
    items = [
        asked("which", tuple(rng.choice(WORDS, 3)), (" ".join(rng.choice(WORDS, 9)),) * 3, 0)
        for _ in range(20)
    ]
    writer = Writer(packed.tokenizer, packed.form.layout, 48)
    expected = packed.form.score(packed, writer, items)
    most = 90

    def limited(module, given):
        if given[0].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    packed.model.get_input_embeddings().register_forward_pre_hook(limited)
    assert packed.form.score(packed, writer, items) == pytest.approx(expected, abs=1e-5)
    assert "out of memory: asking in batches of" in capsys.readouterr().err
    most = 3
    with pytest.raises(LimitError, match="one question does not fit"):
        packed.form.score(packed, writer, items)


def test_questions_that_overflow_in_half_precision_are_answered_in_float32(tmp_path):
    folder = backbone("llama", tmp_path / "model")
    loaded = load_backbone(str(folder), "options", device="cpu")
    with torch.no_grad():
        # The greatest number of float16 is 65,504: weights of some hundreds fit, and what they make does not.
        loaded.model.get_output_embeddings().weight *= 1e4
        loaded.model.model.norm.weight *= 100
    loaded.model.save_pretrained(folder)
    rows = [{"id": n, "prompt": f"which {word}", "A": "red", "B": "blue"} for n, word in enumerate(WORDS[:6])]
    questions = Questions.from_rows(rows, "test")
    tables = {}
    for precision in ("fp32", "fp16"):
        options = {"form": "options", "max_tokens": 48, "device": "cpu", "precision": precision}
        with TrainedRanker(str(folder), **options) as ranker:
            model = ranker._backbone.model
            dtypes = [each.dtype for each in (*model.parameters(), *model.buffers())]
            # Not every tensor is in half precision: the frequencies of positions stay as exact as they were.
            assert torch.float32 in dtypes
            tables[precision] = ranker.probabilities(questions, None)
            assert [each.dtype for each in (*model.parameters(), *model.buffers())] == dtypes
            assert np.array_equal(ranker.probabilities(questions, None), tables[precision])
            assert any("overflowed in fp16" in str(note) for note in ranker.notes) == (precision == "fp16")
    assert tables["fp16"].argmax(1).tolist() == tables["fp32"].argmax(1).tolist()


def killed(command, environment, moment, number):
    """The program, killed after so many seconds; whether it was still running."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(moment)
    running = process.poll() is None
    if running:
        process.send_signal(number)
    process.wait()
    return running


@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_killed_at_any_moment_a_valid_submission_stands_and_a_restart_ends_the_same(
    facts_index, tmp_path, monkeypatch, kills
):
    questions = write(tmp_path / "questions.jsonl", 60)
    read = Questions.read(questions)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["submit", "--questions", questions, "--index", facts_index, "--set", TWO, "--out"]
    command = [sys.executable, "-m", "inference", *words]
    start = time.perf_counter()
    subprocess.run([*command, tmp_path / "undisturbed.csv"], env=environment, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    whole = (tmp_path / "undisturbed.csv").read_bytes()
    out, rng, stood = tmp_path / "killed.csv", random.Random(kills), []
    monkeypatch.setattr(sys, "argv", ["inference", *map(str, words), str(out)])

    def finished():
        assert run_program(program.main) == 0
        return out.read_bytes()

    for kill in range(kills):
        # A moment of every part of the run.
        moment = seconds * (kill + rng.random()) / kills
        running = killed([*command, out], environment, moment, (signal.SIGKILL, signal.SIGTERM)[kill % 2])
        if out.exists():
            validate(out, read.ids, read.options)
            stood.append(moment)
        if not running or kill % 5 == 4:
            assert finished() == whole
            out.unlink()
            shutil.rmtree(out.with_name("killed.predictions"))
    assert stood and finished() == whole


BAD = [
    {"id": "empty", "prompt": " ", "A": "iron", "B": "copper", "C": "gold"},
    {"id": "one", "prompt": "Which melts first?", "A": "iron", "B": None, "C": None},
    {"id": "unseen", "prompt": "\u200b\ufeff", "A": "\u2060", "B": "gold", "C": None},
    {"id": "none", "prompt": "Which melts first?", "A": None, "B": None, "C": None},
    {"id": "structure", "prompt": {"text": "?"}, "A": ["iron", {}], "B": "copper", "C": "gold"},
    {"id": "answer", "prompt": "Which melts first?", "A": "iron", "B": "copper", "C": "gold", "answer": "Z"},
    {"id": "truth", "prompt": "Which melts first?", "A": "iron", "B": "copper", "is_question": "maybe"},
]


@pytest.mark.parametrize("row", BAD, ids=lambda row: row["id"])
def test_a_bad_row_is_answered_by_what_can_be_read(run, tmp_path, row):
    good = {"id": "good", "prompt": "How many moons has Mars?", "A": "two", "B": "three", "C": "none"}
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (good, row)), encoding="utf-8")
    code, said = run("--questions", path)
    assert code == 0 and "note: 1 row is at fault," in said and "bad.jsonl, row 2" in said
    answered = validate(run.out, ["good", row["id"]])
    assert answered[0][0] == 0 and len(answered[1]) >= 2
    for flag in ("--strict", "--check"):
        run.out.unlink(missing_ok=True)
        code, said = run("--questions", path, flag)
        assert code == 2 and "bad.jsonl, row 2" in said and not run.out.exists()


def test_a_bad_table_is_refused_all_the_same(run, tmp_path):
    path = tmp_path / "bad.jsonl"
    rows = [{"id": "1", "prompt": " ", "A": "iron", "B": "copper"}] * 2
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    code, said = run("--questions", path)
    assert code == 2 and "id '1'" in said and "two rows" in said and not run.out.exists()


def test_a_dry_run_says_what_each_stage_takes_and_writes_nothing(run, monkeypatch, capsys, tmp_path):
    def seconds(*flags):
        monkeypatch.setattr(sys, "argv", ["inference", *map(str, flags)])
        assert run_program(program.main) == 0
        return capsys.readouterr().out

    command = ["submit", "--questions", tmp_path / "questions.jsonl", "--out", run.out, "--dry-run"]
    said = seconds(*command, "--without-contexts", "--set", TWO, "--questions-expected", "1000000")
    assert "1,000,000 questions" in said and "rank: similarity-2" in said and "contexts" not in said
    assert "limits.time" not in said
    said = seconds(*command, "--without-contexts", "--time", "9h", "--questions-expected", "40")
    assert "limits.time: 9.0 hours; everything fits" in said
    said = seconds(*command, "--without-contexts", "--time", "1s", "--questions-expected", "9000000")
    assert "limits.time: 1 s\n" in said and "rank: similarity: only 0 of 9,000,000 questions" in said
    assert not run.out.exists() and not run.out.with_name("s.predictions").exists()


def test_a_duration_that_cannot_be_read_is_named_by_its_key(run):
    code, said = run("--time", "soon", "--set", "limits.ram=much")
    assert code == 2 and "limits.time" in said and "limits.ram" in said and not run.out.exists()
