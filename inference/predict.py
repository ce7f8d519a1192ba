"""The stages of an answer, each measured, each refused at its start when it cannot fit."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.batches import ContextBatches
from inference.checks import asked_rankers, check_contexts, fitting_stack, read_questions
from inference.needs import require_limits
from kaggle_rag.config import LimitSettings, Solution
from kaggle_rag.data.contexts import QuestionContexts, read_contexts, read_notes
from kaggle_rag.data.probabilities import Probabilities
from kaggle_rag.data.questions import Questions
from kaggle_rag.ensembling.blending import blend
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.devices import device_of
from kaggle_rag.rankers.base import Ranker, TellsNeed
from kaggle_rag.rankers.registry import make_ranker, numbered, takes_index
from kaggle_rag.runtime.errors import ArtifactError, CheckpointError, ConfigError
from kaggle_rag.runtime.faults import Gathered
from kaggle_rag.runtime.files import sha256
from kaggle_rag.runtime.limits import measured, release, require

if TYPE_CHECKING:
    from kaggle_rag.retrieval.crossencoder import CrossEncoder
    from kaggle_rag.retrieval.retriever import Retriever

# Weights of a ranker before which the index is closed: opening it again costs a second.
_LARGE = 200_000_000


@dataclasses.dataclass
class Resources:
    """What the stages of one run share: the index and the encoder, opened once."""

    solution: Solution
    index: Index | None
    encoder: Encoder | None
    others: dict[str, Encoder] = dataclasses.field(default_factory=dict)

    @classmethod
    def open(cls, solution: Solution) -> Resources:
        require_limits(solution, search=solution.index is not None, device=device_of(solution.device))
        if solution.index is None:
            return cls(solution, None, Encoder(solution.encoder or DEFAULT_ENCODER, device=solution.device))
        index = Index(solution.index)
        encoder = Encoder.of_index(index.manifest.encoder, name=solution.encoder, device=solution.device)
        others = {
            name: Encoder.of_index(
                index.dense[name].card.encoder, name=solution.encoders.get(name), device=solution.device
            )
            for name in solution.contexts.retrievers
            if name in index.dense and name != index.manifest.default
        }
        return cls(solution, index, encoder, others)

    def close(self) -> None:
        """Give the memory of index and encoders back; `open_again` takes it up."""
        self.index, self.encoder, self.others = None, None, {}
        release()

    def open_again(self) -> None:
        """Open what `close` closed; nothing where all is open."""
        if self.encoder is None:
            fresh = Resources.open(self.solution)
            self.index, self.encoder, self.others = fresh.index, fresh.encoder, fresh.others

    def retriever(self) -> Retriever:
        """The retriever of the settings over the open index."""
        from kaggle_rag.retrieval.retriever import Retriever

        self.open_again()
        if self.index is None or self.encoder is None:
            raise ConfigError("no index to find contexts in", expected="--index")
        settings, device = self.solution.contexts, self.solution.device
        reranker = _reranker(settings.reranker, device)
        return Retriever(self.index, self.encoder, settings, self.others, reranker)


def _reranker(name: str | None, device: str | None) -> CrossEncoder | None:
    if not name:
        return None
    from kaggle_rag.retrieval.crossencoder import CrossEncoder

    return CrossEncoder(name, device)


def make_rankers(solution: Solution, *, search: bool = True) -> None:
    """Make every ranker once without its model, so that a wrong setting is told before any search.

    Raises
    ------
    KitError : all that is wrong with them, the device, and the re-ranker where contexts are searched.
    """
    found = Gathered()
    with found.check():
        device_of(solution.device)
    with found.check():
        require_limits(solution, search=search, device=device_of(solution.device))
    if search and solution.contexts.reranker:
        with found.check():
            _require_scores(solution.contexts.reranker)
    for number, settings in enumerate(solution.rankers):
        if settings not in asked_rankers(solution):
            continue
        with found.check(), numbered(number):
            made = make_ranker(settings.kind, settings.options, encoder=None, index=None)
            if solution.limits != LimitSettings():
                require_room(made, solution)
    found.tell()


def _require_scores(reranker: str) -> None:
    from kaggle_rag.retrieval.crossencoder import has_head

    folder = resolve(reranker).path
    if not has_head(folder):
        raise CheckpointError(
            "this model has no trained head that scores a pair", where=folder,
            expected="a cross-encoder: a model saved with one score a pair",
            cure=f"train one from it: python -m training reranker --model {folder}",
        )  # fmt: skip


def find_contexts(bench: Resources, questions: Questions, *, quiet: bool = False) -> list[QuestionContexts]:
    """The contexts stage in memory."""
    retriever = bench.retriever()
    with _stage("contexts", quiet):
        return retriever(questions, progress=not quiet)


def contexts_to_file(solution: Solution) -> bool:
    """The contexts stage on disk; ``False`` when ``out`` holds these very contexts already.

    Every batch of questions is kept beside ``out`` until all are there, so a killed run goes on.
    """
    check_contexts(solution)
    assert solution.questions and solution.index and solution.out
    questions = read_questions(solution)
    notes = _notes(solution)
    found = read_notes(solution.out)
    if found == notes:
        read_contexts(solution.out, questions)
        return False
    if found is None and solution.out.exists():
        raise ArtifactError(
            "a file that holds no contexts is there already", where=solution.out, cure="choose another --out"
        )
    if found is not None:
        _refuse_other(solution.out, found, notes)
    retriever = Resources.open(solution).retriever()
    batches = ContextBatches(solution.out, questions, notes, retriever.batch)
    with _stage("contexts", quiet=False):
        batches.fill(retriever)
        batches.join()
    return True


def _refuse_other(out: Path, found: dict[str, Any], notes: dict[str, Any]) -> None:
    """Contexts that took hours are not written over because a flag names their file."""
    told = {"questions": "questions", "index": "index", "contexts": "settings", "limit": "limit"}
    differing = [name for key, name in told.items() if found.get(key) != notes.get(key)]
    raise ArtifactError(
        f"contexts with other {' and '.join(differing or ['notes'])} are there already", where=out,
        cure="choose another --out, or remove that file first",
    )  # fmt: skip


def predict(
    bench: Resources,
    questions: Questions,
    contexts: Sequence[QuestionContexts] | None,
    *,
    quiet: bool = False,
) -> Probabilities:
    """Every ranker with a say in turn, each given its memory back, then the blend or the stack of them."""
    asked = asked_rankers(bench.solution)
    found: dict[int, Probabilities] = {}
    # Those that use the index come first, so that it can be closed before the others.
    for place in sorted(range(len(asked)), key=lambda place: not takes_index(asked[place].kind)):
        settings = asked[place]
        if takes_index(settings.kind):
            bench.open_again()
        with _stage(f"rank: {settings.kind}", quiet):
            made = make_ranker(settings.kind, settings.options, encoder=bench.encoder, index=bench.index)
            if require_room(made, bench.solution) > _LARGE:
                bench.close()
            with made as ranker:
                found[place] = ranker.probabilities(questions, contexts)
        for note in ranker.notes:
            print(f"note: {note}", file=sys.stderr)
    return mixed(bench.solution, [found[place] for place in range(len(asked))], questions)


def mixed(solution: Solution, tables: Sequence[Probabilities], questions: Questions) -> Probabilities:
    """The blend or the stack of the tables of `asked_rankers`."""
    if solution.stack:
        return fitting_stack(solution).mixed(tables, questions.present)
    weights = [each.weight for each in asked_rankers(solution)]
    return blend(tables, weights, questions.present, solution.blend)


def require_room(made: Ranker, solution: Solution) -> int:
    """Refuse a ranker that the limits do not leave room for; give the bytes of its weights."""
    if not isinstance(made, TellsNeed):
        return 0
    need = made.need()
    require(need, ram=solution.limits.ram, gpu=solution.limits.gpu)
    return need.weights


def contexts_for(
    bench: Resources, questions: Questions, *, without: bool = False
) -> list[QuestionContexts] | None:
    """Contexts from the file or the index the solution names; ``None`` when asked to do without."""
    if without:
        return None
    if bench.solution.contexts_file is not None:
        return read_contexts(bench.solution.contexts_file, questions)
    return find_contexts(bench, questions)


def _notes(solution: Solution) -> dict[str, Any]:
    """What decides the contexts: the questions, the index, the settings."""
    assert solution.questions and solution.index
    Index(solution.index, verify_content=False)
    settings = json.loads(solution.contexts.model_dump_json())
    # Files that were made without a limit have no such note.
    limit = {"limit": solution.limit} if solution.limit else {}
    return {
        "questions": sha256(solution.questions),
        "index": sha256(solution.index / MANIFEST),
        "contexts": settings,
        **limit,
    }


@contextmanager
def _stage(name: str, quiet: bool) -> Iterator[None]:
    with measured(name) as usage:
        yield
    if not quiet:
        print(usage, file=sys.stderr)
