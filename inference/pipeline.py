"""The stages of an answer, each measured, each refused at its start when it cannot fit."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.batches import ContextBatches
from kaggle_rag.artifacts import MANIFEST, Manifest, sha256
from kaggle_rag.config import LimitSettings, Solution
from kaggle_rag.ensemble import Probabilities, blend
from kaggle_rag.errors import ArtifactError, ConfigError
from kaggle_rag.limits import Need, measured, release, require
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER
from kaggle_rag.models.devices import device_of
from kaggle_rag.questions import Questions
from kaggle_rag.rankers.base import Ranker, TellsNeed
from kaggle_rag.rankers.registry import make_ranker, takes_index
from kaggle_rag.retrieval.contexts import QuestionContexts, read_contexts, read_notes
from kaggle_rag.retrieval.encoder import Encoder
from kaggle_rag.retrieval.index import Index
from kaggle_rag.retrieval.kinds import ram_of
from kaggle_rag.stacking import Stack

if TYPE_CHECKING:
    from kaggle_rag.retrieval.crossencoder import CrossEncoder
    from kaggle_rag.retrieval.retriever import Retriever

# torch, the model and one batch of questions; measured on the sample and on 4,000 questions.
_BASE_RAM = 1_000_000_000
# The encoder's weights and the activations of one batch of 32,768 tokens, by arithmetic.
_BASE_GPU = 1_500_000_000

# Weights of a ranker before which the index is closed: opening it again costs a second.
_LARGE = 200_000_000


@dataclasses.dataclass
class Bench:
    """What the stages of one run share: the index and the encoder, opened once."""

    solution: Solution
    index: Index | None
    encoder: Encoder | None
    others: dict[str, Encoder] = dataclasses.field(default_factory=dict)

    @classmethod
    def open(cls, solution: Solution) -> Bench:
        require(Need("answering", _BASE_RAM, "raise limits.ram (--ram)"), ram=solution.limits.ram)
        if solution.index is None:
            return cls(solution, None, Encoder(solution.encoder or DEFAULT_ENCODER, device=solution.device))
        require(
            _contexts_need(solution.index, solution.device),
            ram=solution.limits.ram,
            gpu=solution.limits.gpu,
        )
        index = Index(solution.index)
        encoder = Encoder.of_index(index.manifest.encoder, name=solution.encoder, device=solution.device)
        others = {
            name: Encoder.of_index(index.dense[name].card.encoder, device=solution.device)
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
            fresh = Bench.open(self.solution)
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


def given(solution: Solution, *keys: str) -> None:
    """Raise ``ConfigError`` unless every key is set."""
    if missing := [key for key in keys if getattr(solution, key) is None]:
        raise ConfigError(
            "not given: " + ", ".join(missing),
            expected=", ".join(f"--{key}" for key in missing) + " or the same keys in solution.yaml",
        )


def check_out(solution: Solution, endings: set[str], inputs: Sequence[Path] = ()) -> None:
    """Refuse, before any work, an ``out`` that is an input, has another ending, or cannot be written."""
    out = solution.out
    assert out is not None
    if out.suffix.lower() not in endings:
        raise ConfigError(
            f"the ending of {out.name!r} is not that of what is written",
            where="--out",
            expected=" or ".join(sorted(endings)),
        )
    for path in (solution.questions, solution.contexts_file, *inputs):
        if path and path.exists() and out.exists() and out.samefile(path):
            raise ConfigError("this would overwrite an input", where=out, cure="choose another --out")
    index = solution.index
    if index and (index / MANIFEST).exists() and out.resolve().is_relative_to(index.resolve()):
        raise ConfigError("this lies inside the index", where=out, cure="choose another --out")
    if out.exists() and not out.is_file():
        raise ConfigError("this is no file that could be written", where=out, cure="choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=out.parent).close()


def check_rankers(solution: Solution) -> None:
    """Make every ranker once without its model, so that a wrong setting is told before any search."""
    for settings in solution.rankers:
        made = make_ranker(settings.kind, settings.options, encoder=None, index=None)
        if solution.limits != LimitSettings():
            _require_room(made, solution)
    if solution.stack:
        _fitting_stack(solution)


def _fitting_stack(solution: Solution) -> Stack:
    assert solution.stack
    stack = Stack.load(solution.stack)
    if len(stack.rankers) != len(solution.rankers):
        raise ConfigError(
            f"this stack mixes {len(stack.rankers)} rankers, the settings name {len(solution.rankers)}",
            where=solution.stack,
            expected="the rankers that were cross-validated, in their order: " + ", ".join(stack.rankers),
        )
    return stack


def find_contexts(bench: Bench, questions: Questions, *, quiet: bool = False) -> list[QuestionContexts]:
    """The contexts stage in memory."""
    retriever = bench.retriever()
    with _stage("contexts", quiet):
        return retriever(questions, progress=not quiet)


def contexts_to_file(solution: Solution) -> bool:
    """The contexts stage on disk; ``False`` when ``out`` holds these very contexts already.

    Every batch of questions is kept beside ``out`` until all are there, so a killed run goes on.
    """
    given(solution, "questions", "index", "out")
    assert solution.questions and solution.index and solution.out
    check_out(solution, {".parquet"})
    questions = Questions.read(solution.questions)
    notes = _notes(solution)
    found = read_notes(solution.out)
    if found == notes:
        read_contexts(solution.out, questions)
        return False
    if found is None and solution.out.exists():
        raise ArtifactError(
            "a file that holds no contexts is there already", where=solution.out, cure="choose another --out"
        )
    retriever = Bench.open(solution).retriever()
    batches = ContextBatches(solution.out, questions, notes, retriever.batch)
    with _stage("contexts", quiet=False):
        batches.fill(retriever)
        batches.join()
    return True


def predict(
    bench: Bench, questions: Questions, contexts: Sequence[QuestionContexts] | None, *, quiet: bool = False
) -> Probabilities:
    """Every ranker with a say in turn, each given its memory back, then the blend or the stack of them."""
    stack = _fitting_stack(bench.solution) if bench.solution.stack else None
    asked = [settings for settings in bench.solution.rankers if settings.weight or stack]
    found: dict[int, Probabilities] = {}
    # Those that use the index come first, so that it can be closed before the others.
    for place in sorted(range(len(asked)), key=lambda place: not takes_index(asked[place].kind)):
        settings = asked[place]
        if takes_index(settings.kind):
            bench.open_again()
        with _stage(f"rank: {settings.kind}", quiet):
            made = make_ranker(settings.kind, settings.options, encoder=bench.encoder, index=bench.index)
            if _require_room(made, bench.solution) > _LARGE:
                bench.close()
            with made as ranker:
                found[place] = ranker.probabilities(questions, contexts)
        for note in ranker.notes:
            print(f"note: {note}", file=sys.stderr)
    tables = [found[place] for place in range(len(asked))]
    if stack:
        return stack.mixed(tables, questions.present)
    weights = [settings.weight for settings in asked]
    return blend(tables, weights, questions.present, bench.solution.blend)


def _require_room(made: Ranker, solution: Solution) -> int:
    """Refuse a ranker that the limits do not leave room for; give the bytes of its weights."""
    if not isinstance(made, TellsNeed):
        return 0
    need = made.need()
    require(need, ram=solution.limits.ram, gpu=solution.limits.gpu)
    return need.weights


def contexts_for(
    bench: Bench, questions: Questions, *, without: bool = False
) -> list[QuestionContexts] | None:
    """Contexts from the file or the index the solution names; ``None`` when asked to do without."""
    if without:
        return None
    if bench.solution.contexts_file is not None:
        return read_contexts(bench.solution.contexts_file, questions)
    return find_contexts(bench, questions)


def _contexts_need(index: Path, device: str | None) -> Need:
    # Mapped pages of a FAISS file count as resident while they are searched.
    manifest = Manifest.read(index)
    mapped = sum(ram_of(c.kind, manifest.passages, c.encoder.dim) for c in manifest.dense.values())
    return Need(
        "contexts",
        _BASE_RAM + mapped,
        "raise the limit, or build a smaller kind of index (wiki_index build --ram)",
        gpu=_BASE_GPU if device_of(device).startswith("cuda") else 0,
    )


def _notes(solution: Solution) -> dict[str, Any]:
    """What decides the contexts: the questions, the index, the settings."""
    assert solution.questions and solution.index
    Index(solution.index, verify_content=False)
    settings = json.loads(solution.contexts.model_dump_json())
    return {
        "questions": sha256(solution.questions),
        "index": sha256(solution.index / MANIFEST),
        "contexts": settings,
    }


@contextmanager
def _stage(name: str, quiet: bool) -> Iterator[None]:
    with measured(name) as usage:
        yield
    if not quiet:
        print(usage, file=sys.stderr)
