"""Corpus to index, in steps that each leave complete files behind, so that a killed build can resume.

The work happens in ``OUT.building``; the folder becomes ``OUT`` in one rename once everything is
done. Each step's bytes depend only on the files before it, never on where a build was interrupted.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable
from typing import Any

from kaggle_rag.data.questions import Questions
from kaggle_rag.index.dense import FAISS_FILE, VECTORS_FILE, Dense
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import DENSE, LEXICAL, passages_name
from kaggle_rag.index.kinds import kind_of
from kaggle_rag.index.manifest import FORMAT, MANIFEST, DenseCard, Manifest
from kaggle_rag.index.passages import Passages
from kaggle_rag.index.vectors import VectorStore
from kaggle_rag.runtime.errors import ArtifactError, ConfigError
from kaggle_rag.runtime.files import seal, verify, write_json
from kaggle_rag.runtime.limits import Need, Usage, measured, require
from kaggle_rag.runtime.work_folder import WorkFolder, differing
from wiki_index.forecast import check_disk, kinds_for, precision_of, stored_in
from wiki_index.plan import BASE_RAM, Plan
from wiki_index.steps.dense_index import GROWING, make_index
from wiki_index.steps.encode import CALIBRATION, ENCODED, encode, layout_of
from wiki_index.steps.lexical import lexical_parts, lexical_rows
from wiki_index.steps.shard_encoder import older
from wiki_index.steps.split import SPLIT, split
from wiki_index.steps.tune import halves, question_queries, tune

SETTINGS, CARD = "settings.json", "card.json"
_LANGUAGE = re.compile("[a-z]{2,3}(-[a-z]+)*")


def build(plan: Plan) -> list[Usage]:
    """Build or resume the index; return what each step used (nothing if it already existed).

    Raises
    ------
    ArtifactError : ``OUT`` or ``OUT.building`` holds something else.
    InputError : the corpus cannot be read or holds no text.
    LimitError : the disk or the RAM budget is too small.
    ConfigError : the Ray cluster cannot be used.
    """
    check(plan)
    settings = plan.settings()
    if _already_built(plan, settings):
        return []
    folder = _BuildFolder(plan, settings)
    with folder.claimed():
        usages = _steps(plan, settings)
        _tidy(plan)
        folder.publish(plan.work, plan.out)
    return usages


class _BuildFolder(WorkFolder):
    """``OUT.building``. Until vectors are computed, a build with other settings starts over."""

    nested = frozenset({"asked"})

    def __init__(self, plan: Plan, settings: dict[str, Any]) -> None:
        cure = "choose another OUT, or remove that folder to start over"
        super().__init__(plan.work, settings, "build", file=SETTINGS, cure=cure)

    def stored_key(self) -> dict[str, Any] | None:
        if (self.folder / SETTINGS).exists() or not (self.folder / MANIFEST).exists():
            return super().stored_key()
        # Killed between the last two steps: the manifest holds the settings, and more.
        manifest = dataclasses.asdict(Manifest.read(self.folder))
        return {name: manifest.get(name) for name in self.key or manifest}

    def require_a_build(self) -> None:
        """Raise if the folder holds no build at all; needs no encoder."""
        if not self.is_empty() and self.stored_key() is None:
            raise ArtifactError("this folder holds something else", where=self.folder, cure=self.cure)

    def worth_keeping(self) -> bool:
        return (self.folder / MANIFEST).exists() or any((self.folder / DENSE).glob(f"*/{ENCODED}/*"))


def check_places(plan: Plan) -> None:
    """Check everything that needs no encoder, since its libraries take seconds to load."""
    _require_usable_out(plan)
    _BuildFolder(plan, {}).require_a_build()
    require(Need("build", BASE_RAM, "raise --ram"), ram=plan.ram)
    if plan.questions:
        Questions.read(plan.questions)
    if plan.reuse:
        Manifest.read(plan.reuse)


def check(plan: Plan) -> None:
    """Check everything that can be checked before the corpus is read; a dry run does the same."""
    check_places(plan)
    for name in plan.encoders:
        older(plan, name, stored_in(plan))
    if plan.cluster:
        from wiki_index.steps.ray_encode import check

        check(plan.cluster)


def _require_usable_out(plan: Plan) -> None:
    """Raise if the final rename to OUT would replace the root of a disk, or other files."""
    if plan.out.is_mount():
        raise ConfigError(
            "the root of a disk cannot become an index", where=plan.out, cure="name a folder in it"
        )
    if plan.out.is_file() or (
        plan.out.is_dir() and any(plan.out.iterdir()) and not (plan.out / MANIFEST).exists()
    ):
        raise ArtifactError(
            "the output folder holds something else", where=plan.out, cure="choose another OUT"
        )
    if not _LANGUAGE.fullmatch(plan.language):
        raise ConfigError(
            f"no language {plan.language!r}", where="--language", expected="an ISO 639 code such as en or de"
        )


def _already_built(plan: Plan, settings: dict[str, Any]) -> bool:
    """Whether OUT holds this very index; raise if it holds another one."""
    if not (plan.out / MANIFEST).exists():
        return False
    manifest = Manifest.read(plan.out)
    stored = {name: value for name, value in dataclasses.asdict(manifest).items() if name in settings}
    if other := differing(settings, stored, _BuildFolder.nested):
        raise ArtifactError(
            f"an index already exists, and differs in {other}",
            where=plan.out,
            cure="choose another OUT, or remove that folder first",
        )
    verify(plan.out, manifest.files)
    return True


def _steps(plan: Plan, settings: dict[str, Any]) -> list[Usage]:
    if (plan.work / MANIFEST).exists():
        return []
    _prepare(plan)
    usages: list[Usage] = []

    def step(title: str, work: Callable[..., Any], *arguments: Any) -> Any:
        with measured(title) as usage:
            result = work(plan, *arguments)
        usages.append(usage)
        return result

    counts = step("split", split)
    kinds = kinds_for(plan, sum(counts["shard_rows"]))
    check_disk(plan, kinds, sum(counts["shard_rows"]))
    for name, kind in kinds.items():
        step(f"encode {name}", _vectors, name, kind, counts)
        step(f"index {name}: {kind}", _dense, name, kind, counts)
    if plan.lexical:
        step("bm25", lexical_parts, counts["shard_rows"])
    _seal(plan, settings, counts)
    return usages


def _vectors(plan: Plan, name: str, kind: str, counts: dict[str, Any]) -> None:
    layout = layout_of(plan, name, precision_of(plan, kind), sum(counts["shard_rows"]))
    encode(plan, name, layout, counts["shard_rows"])


def _dense(plan: Plan, name: str, kind: str, counts: dict[str, Any]) -> None:
    """The FAISS index of one encoder, and the card that says how to search it."""
    folder, rows = plan.dense(name), sum(counts["shard_rows"])
    if (folder / CARD).exists():
        return
    layout = layout_of(plan, name, precision_of(plan, kind), rows)
    spec = make_index(folder, kind, VectorStore(folder / VECTORS_FILE, layout))
    encoder = plan.encoders[name]
    card = DenseCard(encoder.card, kind, spec.factory, layout.precision, layout.step, spec.trained_on)
    tuned = _tuned(plan, Dense(folder, card, rows), encoder, len(counts["shard_rows"]))
    if tuned.recall < plan.recall:
        print(
            f"{name}: recall@10 {tuned.recall:.3f} is the best this kind reaches, below the target of "
            f"{plan.recall}. A larger --ram or another --index KIND gives more.",
            file=sys.stderr,
        )
    write_json(folder / CARD, dataclasses.asdict(tuned))


def _tuned(plan: Plan, dense: Dense, encoder: Encoder, shards: int) -> DenseCard:
    """The card with the search setting that reaches the recall; an exact kind has none."""
    if not kind_of(dense.card.kind).refined:
        return dense.card
    if plan.questions:
        queries = question_queries(Questions.read(plan.questions), encoder)
    else:
        queries = halves(Passages([plan.work / passages_name(i) for i in range(shards)]), encoder)
    return tune(dense, queries, plan.recall)


def _prepare(plan: Plan) -> None:
    """Prepare the work folder: remove what a killed writer left behind."""
    for part in plan.work.rglob(".*.part"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    (plan.work / "passages").mkdir(exist_ok=True)
    for name in plan.encoders:
        plan.dense(name).mkdir(parents=True, exist_ok=True)


def _seal(plan: Plan, settings: dict[str, Any], counts: dict[str, Any]) -> None:
    cards = {name: json.loads((plan.dense(name) / CARD).read_text()) for name in plan.encoders}
    passages = [passages_name(i) for i in range(len(counts["shard_rows"]))]
    dense = [f"{DENSE}/{name}/{file}" for name in cards for file in (VECTORS_FILE, FAISS_FILE)]
    lexical = [p.relative_to(plan.work).as_posix() for p in sorted((plan.work / LEXICAL).rglob("*.*"))]
    Manifest(
        kind=Manifest.KIND,
        format=FORMAT,
        **settings,
        articles=counts["articles"],
        passages=sum(counts["shard_rows"]),
        skipped=counts["skipped"],
        left_out=counts["left_out"],
        shard_rows=counts["shard_rows"],
        dense={name: DenseCard(**card) for name, card in cards.items()},
        lexical_rows=lexical_rows(counts["shard_rows"]) if plan.lexical else [],
        files=seal(plan.work, [*passages, *dense, *lexical]),
    ).write(plan.work)


def _tidy(plan: Plan) -> None:
    """Drop the scaffolding, once the manifest is written."""
    for name in plan.encoders:
        shutil.rmtree(plan.dense(name) / ENCODED, ignore_errors=True)
        for scaffold in (GROWING, CARD, CALIBRATION):
            (plan.dense(name) / scaffold).unlink(missing_ok=True)
    for scaffold in (SETTINGS, SPLIT):
        (plan.work / scaffold).unlink(missing_ok=True)
