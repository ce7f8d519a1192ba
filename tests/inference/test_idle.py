"""A setting that changes nothing is told, and what is told to change nothing changes nothing."""

import sys

import pytest
from question_tables import ROWS

from inference import __main__ as program
from inference.idle import idle
from kaggle_rag.config import load
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.index import Index
from kaggle_rag.retrieval.retriever import Retriever
from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.settings import validated
from training.__main__ import PROGRAM
from training.loop.flags import settings_of
from training.rankers.settings import COMMANDS, MultipleChoiceRun
from training.retrieval.losses import RETRIEVER_LOSSES
from training.retrieval.settings import RerankerSettings, RetrieverSettings


def told(changes, program="submit", **how):
    return " ".join(idle(load(None, changes), program, **how))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["contexts.rerank=9"], "contexts.rerank has no effect"),
        (["contexts.reranked=merged"], "contexts.reranked has no effect"),
        (["contexts.exact=true", "contexts.nprobe=4"], "contexts.nprobe has no effect"),
        (["contexts.exact=true", "contexts.retrievers={bm25: 1}"], "contexts.exact has no effect"),
        (["contexts.retrievers={bm25: 0.35}"], "the weight of bm25 has no effect"),
        (["encoders={bge: x}"], "encoders.bge has no effect"),
        (["encoders={bge: x}", "contexts_file=c.parquet"], "encoders has no effect"),
        (["contexts_file=c.parquet", "contexts.hits=3"], "contexts has no effect"),
        (["blend=ranks"], "blend has no effect"),
        (["stack=s.npz", "blend=ranks"], "the stack combines"),
        (["rankers=[{kind: similarity}, {kind: trained, weight: 0}]"], "rankers.1 (trained) is not used"),
        (["rankers=[{kind: similarity, options: {temperature: 2}}]"], "rankers.0.options.temperature has no"),
        (["device=cpu", "limits.gpu=8GB"], "limits.gpu has no effect"),
    ],
)
def test_a_setting_without_effect_is_told(changes, said):
    assert said in told(changes)


UNREAD = [("contexts", "blend"), ("contexts", "rankers.0.weight"), ("ask", "limit"), ("ask", "top")]


@pytest.mark.parametrize(("program", "key"), UNREAD)
def test_a_setting_that_was_typed_for_a_program_that_does_not_read_it_is_told(program, key):
    assert f"{key} has no effect: {program} does not read" in told([], program, typed=[key])
    assert not told([], "submit", typed=[key])


def test_the_programs_tell_it(facts_index, tmp_path, monkeypatch, capsys):
    sets = ["--set", "contexts.rerank=9", "--set", "top=5"]
    asked = ["--prompt", "Which moon?", "--option", "Titan", "--option", "Phobos"]
    monkeypatch.setattr(sys, "argv", ["inference", "ask", "--index", str(facts_index), *asked, *sets])
    assert run_program(program.main) == 0
    err = capsys.readouterr().err
    assert "note: contexts.rerank has no effect" in err and "note: top has no effect" in err


# A base, a change, and whether the change is without effect there.
SEARCHES = [
    ({"forms": ["all"], "instruction_forms": ["all"]}, {"merge": "best+mean"}, True),
    ({"forms": ["each"], "instruction_forms": ["each"], "per": "option"}, {"merge": "best+mean"}, True),
    ({"forms": ["all", "each"]}, {"merge": "best+mean"}, False),
    ({"forms": ["each"], "instruction_forms": ["each"]}, {"merge": "best+mean"}, False),
    ({"forms": ["all"], "instruction_forms": ["all"]}, {"fusion": "rrf"}, True),
    ({"forms": ["all", "each"], "hits": 3}, {"fusion": "rrf"}, False),
    ({}, {"retrievers": {"minilm": 0.3}}, True),
    ({}, {"rerank": 3}, True),
]  # fmt: skip


@pytest.mark.parametrize(("base", "change", "without"), SEARCHES)
def test_what_is_told_to_change_nothing_in_a_search_changes_nothing(
    base, change, without, facts_index, encoder
):
    questions = Questions.from_rows(ROWS, "test")

    def found(settings):
        retriever = Retriever(Index(facts_index), encoder, settings)
        return [[(e.row, e.query) for e in contexts.evidence()] for contexts in retriever(questions)]

    plain, changed = (
        validated(type(load(None)), {"contexts": part}, "test") for part in (base, {**base, **change})
    )
    key = "the weight of" if "retrievers" in change else f"contexts.{next(iter(change))} has no effect"
    assert (key in " ".join(idle(changed, "submit"))) == without
    # A sum of ranks may end in the order of a maximum of cosines: only what is told is a promise.
    if without:
        assert found(plain.contexts) == found(changed.contexts)


RUN = {"questions": "q.csv", "out": "o", "model": "m"}
MINED = {**RUN, "passages": "p.txt"}
FALSE = [
    (MultipleChoiceRun, RUN, {"adversarial_size": 0.2}, "adversarial_size has no effect"),
    (MultipleChoiceRun, RUN, {"drop_snippets": 0.2}, "drop_snippets has no effect without contexts_file"),
    (MultipleChoiceRun, RUN, {"shuffle_options": False}, "shuffle_options has no effect in the form choice"),
    (COMMANDS["causal"], {**RUN, "form": "letters"}, {"shuffle_options": False}, ""),
    (MultipleChoiceRun, {**RUN, "template": {"first": "{options}"}}, {"shuffle_options": False}, ""),
    (RetrieverSettings, MINED, {"margin": 0.9}, "margin has no effect without negatives"),
    (RetrieverSettings, {**MINED, "negatives": 2}, {"margin": 0.9}, ""),
    (RetrieverSettings, {**MINED, "held_out": 0}, {"pool": 50}, "pool has no effect without an evaluation"),
    (RetrieverSettings, {**MINED, "held_out": 0, "validation": "v.csv"}, {"pool": 50}, "held_out has no"),
    (RetrieverSettings, {**MINED, "loss": "triplet", "negatives": 1}, {"scale": 9}, "only to infonce"),
    (RetrieverSettings, MINED, {"mini_batch": 9}, "it applies only to infonce-cached"),
    (RetrieverSettings, {**MINED, "loss": "infonce-cached"}, {"mini_batch": 9, "scale": 9}, ""),
    # Without an index it is what mines.
    (RetrieverSettings, MINED, {"encoder": "e"}, ""),
    (RerankerSettings, {**MINED, "held_out": 0}, {"candidates": 9}, "candidates has no effect"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "base", "change", "said"), FALSE)
def test_a_setting_of_a_training_without_effect_is_told(model, base, change, said):
    lines = " ".join(validated(model, {**base, **change}, "test").idle())
    assert said in lines and (said or not lines)


def test_the_training_program_tells_it(capsys):
    words = ["multiple-choice", "--questions", "q.csv", "--out", "o", "--model", "m"]
    for more, noted in ((["--adversarial-size", "0.2"], True), ([], False)):
        settings_of(PROGRAM.parser().parse_args([*words, *more]), MultipleChoiceRun)
        assert ("note: adversarial_size has no effect" in capsys.readouterr().err) == noted


@pytest.mark.parametrize("loss", RETRIEVER_LOSSES)
@pytest.mark.parametrize(
    ("key", "values"),
    [("scale", (1.0, 50.0)), ("mini_batch", (1, 7)), ("vicreg_weights", ((1, 1, 1), (1, 2, 1))),
     ("expander", (0, 16))],
)
def test_the_table_of_losses_knows_what_each_takes(loss, key, values, encoder):
    """By the modules themselves: one that takes a setting keeps its number."""

    def kept(value):
        settings = RetrieverSettings(**MINED, loss=loss, negatives=1, teacher="t", **{key: value})
        made = RETRIEVER_LOSSES[loss].make(encoder.model, settings)
        kinds = int, float, tuple
        return [v for part in made.modules() for v in vars(part).values() if isinstance(v, kinds)]

    assert (kept(values[0]) != kept(values[1])) == (key in RETRIEVER_LOSSES[loss].takes)
