"""Index, encoders and re-ranker, opened once for all stages of a run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from kaggle_rag.config import ContextSettings, Solution
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.models.devices import device_of
from kaggle_rag.rankers.needs import require_limits
from kaggle_rag.rankers.registry import takes_index
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.limits import release

if TYPE_CHECKING:
    from kaggle_rag.retrieval.rereading import PairScorer
    from kaggle_rag.retrieval.retriever import Retriever


@dataclasses.dataclass
class Resources:
    """What the stages of one run share: the index and the encoders, opened once."""

    solution: Solution
    index: Index | None
    encoder: Encoder | None
    others: dict[str, Encoder] = dataclasses.field(default_factory=dict)

    @classmethod
    def open(cls, solution: Solution) -> Resources:
        require_limits(solution, search=solution.index is not None, device=device_of(solution.device))
        if solution.index is None:
            # Trained rankers encode nothing: no encoder need be there.
            encodes = any(takes_index(each.kind) for each in solution.rankers)
            name, device = solution.encoder or DEFAULT_ENCODER, solution.device
            return cls(solution, None, Encoder(name, device=device) if encodes else None)
        index = Index(solution.index)
        encoder = index.encoder(location=solution.encoder, device=solution.device)
        others = {
            name: index.encoder(name, location=solution.encoders.get(name), device=solution.device)
            for name in solution.contexts.retrievers
            if name in index.dense and name != index.manifest.default
        }
        return cls(solution, index, encoder, others)

    def close(self) -> None:
        """Free the memory of index and encoders; `open_again` reopens them."""
        self.index, self.encoder, self.others = None, None, {}
        release()

    def open_again(self) -> None:
        """Open what `close` closed; do nothing if all is open."""
        if self.encoder is None:
            fresh = Resources.open(self.solution)
            self.index, self.encoder, self.others = fresh.index, fresh.encoder, fresh.others

    def retriever(self) -> Retriever:
        """The retriever of the settings over the index, reopened if needed."""
        from kaggle_rag.retrieval.retriever import Retriever

        self.open_again()
        if self.index is None or self.encoder is None:
            raise ConfigError("no index to find contexts in", expected="--index")
        settings, device = self.solution.contexts, self.solution.device
        reranker = _reranker(settings, device)
        return Retriever(self.index, self.encoder, settings, self.others, reranker)


def _reranker(settings: ContextSettings, device: str | None) -> PairScorer | None:
    if not settings.reranker:
        return None
    if settings.late:
        from kaggle_rag.retrieval.late_interaction import LateInteraction

        return LateInteraction(settings.reranker, device)
    from kaggle_rag.retrieval.crossencoder import CrossEncoder

    return CrossEncoder(settings.reranker, device)
