"""Answers to single questions: ranked letters, probabilities, and the best evidence."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from kaggle_rag.data.probabilities import Probabilities, ranking
from kaggle_rag.data.questions import LETTERS, Questions

if TYPE_CHECKING:
    from kaggle_rag.data.contexts import QuestionContexts
    from kaggle_rag.rankers.resources import Resources

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to a question of ``k`` options.

    Attributes
    ----------
    question : of one row.
    mixed : ``(1, k)``, of all rankers together.
    tables : ``(1, k)`` by ranker; empty where only one ranker at a time was in memory.
    """

    question: Questions
    contexts: QuestionContexts
    mixed: Probabilities
    tables: dict[str, Probabilities] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, as ``--json`` prints it."""
        (options,), (mixed,) = self.question.options, self.mixed
        order = [c for c in ranking(self.mixed, self.question.present)[0].tolist() if options[c] is not None]
        return {
            "prompt": self.question.prompts[0],
            "ranking": [
                {"letter": LETTERS[c], "option": options[c], "probability": float(np.float32(mixed[c]))}
                for c in order
            ],
            "evidence": [
                {
                    "title": e.title,
                    "text": e.text,
                    "distance": e.distance,
                    "score": e.score,
                    "query": e.query,
                    "found_by": e.retriever,
                }
                for e in self.contexts.evidence()[:_SHOWN]
            ],
        }

    def text(self) -> str:
        """The same for reading."""
        found = self.as_json()
        lines = ["probability of each option:"]
        lines += [f"{row['letter']}  {row['probability']:6.1%}  {row['option']}" for row in found["ranking"]]
        lines += ["", "evidence: distance (0 is the same text), [query that found it], title: text"]
        lines += [
            f"{each['distance']:.3f}  [{each['query']}] {each['title']}: {each['text']}"
            for each in found["evidence"]
        ]
        return "\n".join(lines)


class Session:
    """Answers questions one after another with models that are opened once."""

    def __init__(self, resources: Resources) -> None:
        from inference.checks import active_rankers
        from inference.predictions import names_of
        from inference.ranker_turn import require_room, workspace
        from kaggle_rag.rankers.registry import make_ranker

        self.resources, self.retriever = resources, resources.retriever()
        self._open = ExitStack()
        active = active_rankers(resources.solution)
        with ExitStack() as opened:
            rankers = []
            for settings in active:
                ranker = make_ranker(
                    settings.kind, settings.options, encoder=resources.encoder, index=resources.index,
                    workspace=workspace(resources.solution),
                )  # fmt: skip
                require_room(ranker, resources.solution)
                rankers.append(opened.enter_context(ranker))
            self._open = opened.pop_all()
        self.rankers = dict(zip(names_of([(each.kind, each.options) for each in active]), rankers))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def answer(self, question: Questions) -> Answer:
        from inference.cascade import mixed

        contexts = self.retriever(question)
        tables = {name: ranker.probabilities(question, contexts) for name, ranker in self.rankers.items()}
        blended = mixed(self.resources.solution, [*tables.values()], question.present)
        return Answer(question, contexts[0], blended, tables)


def answer(resources: Resources, question: Questions) -> Answer:
    """The answer to a single question; only one ranker is in memory at a time."""
    from inference.predict import predict

    contexts = resources.retriever()(question)
    return Answer(question, contexts[0], predict(resources, question, contexts))
