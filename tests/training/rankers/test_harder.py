"""Harder training: an option that is none of the others, and two passes that must agree."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ranker_toys import WORDS, asked, backbone, files, rows, task

from kaggle_rag.models.writer import Writer
from training.rankers.dataset import EpochQuestions, RankerDataset
from training.rankers.harder import Changes, Lent, with_borrowed_option, with_none_of_above
from training.rankers.losses import symmetric_divergence
from training.rankers.preparing import prepared
from training.rankers.settings import MultipleChoiceRun, RankerRun
from training.rankers.train import train_ranker
from training.rankers.trainer import make_ranker_trainer

NONE = "None of the above"


def item(answer=1):
    options = ("amber", "birch", None, "cedar", "delta")
    return asked("the right ?", options, [f"{option} frost" for option in options], answer)


def test_half_of_the_time_the_right_option_is_gone():
    rng = np.random.default_rng(0)
    right = 0
    for _ in range(400):
        changed = with_none_of_above(item(), rng)
        (place,) = [n for n, option in enumerate(changed.options) if option == NONE]
        assert changed.answer == 1 and changed.options[2] is None
        right += place == 1
        kept = [n for n in (0, 1, 3, 4) if n != place]
        assert all(changed.options[n] == item().options[n] for n in kept)
        assert all(changed.contexts[n] == item().contexts[n] for n in kept)
        # Its own context would tell which option it was.
        assert changed.contexts[place] != item().contexts[place]
        assert changed.contexts[place] in [item().contexts[n] for n in (0, 3, 4)]
    # Binomial(400, 1/2): 200 with a standard deviation of 10.
    assert 150 < right < 250


@pytest.mark.parametrize("options", [("amber", "birch"), ("amber", "birch", "NONE OF THE ABOVE", "cedar")])
def test_a_question_that_cannot_be_changed_stays(options):
    known = asked("the right ?", options, ["frost"] * len(options), 0)
    assert all(with_none_of_above(known, np.random.default_rng(n)) == known for n in range(20))


def test_a_wrong_option_comes_from_another_question_about_the_article():
    first, second, third = (
        asked(f"{name} ?", options, [f"{option} of {name}" for option in options], 0)
        for name, options in zip("abc", (("amber", "birch"), ("Birch", "cedar"), ("elm", "fir")))
    )
    weak = second._replace(contexts=((), ()))
    lent = Lent([first, second, third], [first, weak, third], ["lake", "lake", "sea"])
    others = lent.options(0)
    assert [each.option for each in others] == ["Birch", "cedar"] and not lent.options(2)
    assert lent.borrowers() == 2 and [each.context for each in lent.options(0, weakened=True)] == [(), ()]
    for draw in range(20):
        changed = with_borrowed_option(first, others, np.random.default_rng(draw))
        # Birch is there already, however it is written; the right option stays.
        assert changed.options == ("amber", "cedar") and changed.answer == 0
        assert changed.contexts == (first.contexts[0], second.contexts[1])
    assert with_borrowed_option(third, lent.options(2), np.random.default_rng(0)) == third
    shared = first._replace(contexts=first.contexts[:1] * 2)
    assert with_borrowed_option(shared, others, np.random.default_rng(0)).contexts == shared.contexts
    for nothing in (Lent([first, second], None, [None, None]), Lent([first, second], None, [])):
        assert not nothing.options(0) and not nothing.borrowers()


def test_the_right_option_does_not_come_back_as_a_wrong_one():
    """Its article has one more question, with the same right option; none of the above takes its place."""
    first = asked("one ?", ("amber", "birch", "cedar"), ["frost"] * 3, 0)
    lent = Lent([first, first._replace(prompt="two ?")], None, ["lake", "lake"])
    changes = Changes(0, none_of_above=0.99, borrowed=0.99)
    for row in range(300):
        made = changes.made(first, None, Lent([first] * 300, None, ["lake"] * 300), row, 0)
        assert "amber" not in [o for n, o in enumerate(made.item.options) if n != made.item.answer]
    assert lent.options(0)


def test_a_teacher_says_nothing_of_a_question_whose_options_changed():
    changes = Changes(0, shuffle=True, none_of_above=0.5)
    known = asked("one ?", ("amber", "birch", "cedar"), ["frost"] * 3, 0)
    for row in range(50):
        made = changes.made(known, None, Lent([known], None, []), row, 0)
        assert made.same == (NONE not in made.item.options)
        if made.same:
            assert [known.options[column] for column in made.order] == [*made.item.options]


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"drop_best": 0.5}, [2, 1]), ({"no_context": 0.5}, [2, 0]), ({"weaker": 0.5}, [2, 3]),
        ({"borrowed": 0.5}, ["delta", "quartz"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rising", [0, 5])
def test_a_share_of_the_questions_changes_at_once_or_more_by_the_epoch(change, expected, rising):
    """Counted over 400 rows: half of them from the start, or 0, 1/8, ... 1/2 of them."""
    known = asked("the right ?", ("amber", "delta"), [" ".join(WORDS[:1])] * 2, 0)
    snippet = known.contexts[0][0]
    known = known._replace(contexts=((snippet, snippet),) * 2)
    weaker = known._replace(contexts=((snippet,) * 3,) * 2)
    changes = Changes(0, rising=rising, **change)
    other = asked("another ?", ("quartz", None), [""] * 2, 0)
    lent = Lent([known] * 400 + [other], None, [f"a{row}" for row in range(400)] + ["a0"])
    lent.about = {f"a{row}": [row, 400] for row in range(400)}
    for epoch in range(5):
        made = [changes.made(known, weaker, lent, row, epoch).item for row in range(400)]
        seen = [each.options[1] if "borrowed" in change else len(each.contexts[1]) for each in made]
        assert set(seen) <= set(expected)
        share = 0.5 * (epoch / 4 if rising else 1)
        # Three standard deviations of a binomial of 400.
        assert abs(seen.count(expected[1]) / 400 - share) <= 3 * (share * (1 - share) / 400) ** 0.5
        if "borrowed" not in change and rising == 0:
            again = [changes.made(known, weaker, lent, row, epoch).item for row in range(400)]
            assert made == again


def test_the_divergence_is_torchs_both_ways():
    torch.manual_seed(0)
    one, other = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    present = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 1, 1]]).bool()
    lowest = torch.finfo(torch.float32).min
    hidden = [each.masked_fill(~present, lowest) for each in (one, other)]
    weights = torch.tensor([1.0, 0.5, 1.0])
    batch = {"present": present, "labels": torch.tensor([0, 0, 0]), "weights": weights}
    total = 0
    for row, weight in enumerate(weights):
        p, q = (each[row][present[row]].log_softmax(0) for each in (one, other))
        both = F.kl_div(q, p.exp(), reduction="sum") + F.kl_div(p, q.exp(), reduction="sum")
        total = total + weight * both / 2
    found = symmetric_divergence(*hidden, batch)
    torch.testing.assert_close(found, total / 3)
    gradients = [torch.autograd.grad(each, one, retain_graph=True)[0] for each in (found, total / 3)]
    torch.testing.assert_close(*gradients)
    assert float(symmetric_divergence(hidden[0], hidden[0], batch)) == 0


def test_a_run_of_an_earlier_version_is_still_the_same_run(tmp_path):
    (tmp_path / "q.csv").write_text("id,prompt,A,B,answer\n1,p,x,y,A\n")
    known = {"model": "m", "questions": tmp_path / "q.csv", "out": tmp_path / "out"}
    plan = MultipleChoiceRun(**known).plan()
    later = {"marginal", "none_of_above", "r_drop", "teacher", "teacher_weight", "packed", "limit"}
    assert not later & plan.keys() and "label_smoothing" in plan
    changed = MultipleChoiceRun(**known, r_drop=0.5, none_of_above=0.1, packed=False).plan()
    assert {"r_drop", "none_of_above", "packed"} <= changed.keys()


def test_a_run_with_both_learns(tmp_path):
    train, contexts = files(tmp_path, "train", rows(256, 0, words=WORDS[:6]))
    held, held_contexts = files(tmp_path, "held", rows(40, 1, words=WORDS[:6]))
    record = train_ranker("multiple-choice", MultipleChoiceRun(
        model=str(backbone("bert", tmp_path / "bert")), questions=train, contexts_file=contexts,
        validation=held, validation_contexts=held_contexts, max_tokens=48, batch=16, device="cpu",
        learning_rate=1e-3, epochs=12, r_drop=0.3, none_of_above=0.1, drop_best=0.05, no_context=0.05,
        borrowed_options=0.2, rising=True, schedule="plateau", out=tmp_path / "out",
    ))  # fmt: skip
    assert record["result"]["after"]["map@3"] > 0.9


def test_two_passes_weigh_what_keeps_snippets_apart_once(tmp_path):
    """Without dropout both passes say the same: the loss is that of one pass, with all of its parts."""
    decoder, encoder = backbone("llama", tmp_path / "llama"), backbone("bert", tmp_path / "bert")
    reads = {"method": "knowledge", "options": {"encoder": str(encoder), "vicreg": 0.5}}
    given = {**task(tmp_path, count=8, judged=4), "model": str(decoder), "form": "options", "peft": reads}
    settings = RankerRun(**given, out=tmp_path / "out", r_drop=0.7)
    made, card = prepared(settings)
    items = RankerDataset.read(settings.questions, settings.contexts_file, None).items(0, made.form)
    learnt = EpochQuestions(items, made.form, Writer(made.tokenizer, card.layout, 48), Changes(seed=0))
    trainer = make_ranker_trainer(settings, made, card, learnt, [], tmp_path / "work", print)
    made.model.eval()
    batch, losses = made.collator()([learnt[n] for n in range(8)]), []
    for changes in ({}, {"r_drop": 0.0}):
        trainer.settings = settings.model_copy(update=changes)
        losses.append(trainer.compute_loss(made.model, batch).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    made.model.knowledge.config = dataclasses.replace(made.model.knowledge.config, vicreg=0.0)
    assert trainer.compute_loss(made.model, batch).item() < losses[0] - 0.1


def test_shuffled_options_leave_no_letter_out():
    """A question of four options in a table of five: inference always asks about A to D."""
    known = asked("the right ?", ("amber", "birch", "cedar", "delta", None), ["frost"] * 5, 2)
    orders = set()
    for epoch in range(300):
        made = Changes(seed=0, shuffle=True).made(known, None, Lent([known], None, []), 0, epoch)
        assert made.item.present == known.present and made.item.options[made.item.answer] == "cedar"
        assert tuple(known.options[column] for column in made.order) == made.item.options
        orders.add(made.item.options)
    assert len(orders) == 24
