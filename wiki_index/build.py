"""Corpus to index, in steps that each leave whole files behind, so that a killed build goes on.

The work happens in ``OUT.building``; the folder becomes ``OUT`` in one rename when everything is
there. Shards are cut at article borders after a fixed number of rows, and each shard is encoded
alone, so the bytes do not depend on where a build was interrupted.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from tqdm import tqdm

from kaggle_rag.artifacts import (
    FORMAT,
    MANIFEST,
    Manifest,
    require_space,
    seal,
    verify,
    whole_file,
    write_json,
)  # fmt: skip
from kaggle_rag.errors import ArtifactError, InputError
from kaggle_rag.limits import Need, Usage, measured, require
from kaggle_rag.retrieval.encoder import Encoder
from kaggle_rag.retrieval.index import FAISS_FILE, shard_name
from kaggle_rag.retrieval.passages import Passage, read_shard, write_shard
from kaggle_rag.retrieval.units import Splitter, Unit
from wiki_index.corpus import Corpus, Skip
from wiki_index.seen import Seen

SHARD_ROWS = 16_384
# Room for "title " before a window; of English Wikipedia's titles fewer than 1 in 1,000 are longer.
TITLE_TOKENS = 32
SETTINGS, SPLIT, LOCK = "settings.json", "split.json", ".lock"
# A work folder without settings holds these only: just locked, or finished but for its name.
_SCAFFOLD = {LOCK, SPLIT, MANIFEST, FAISS_FILE, "passages", "vectors"}
# torch, the model, one shard of text and its activations: measured on the 998-article corpus.
BASE_RAM = 1_000_000_000
# A row on disk: its text (about 150 bytes), its vector, and the vector's copy in the FAISS file.
_TEXT_BYTES = 150


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the user asked to be built; ``ram`` is a budget in bytes."""

    corpus: Corpus
    out: Path
    encoder: Encoder
    unit: Unit
    language: str = "en"
    title_in_text: bool = False
    ram: int | None = None
    shard_rows: int = SHARD_ROWS

    @property
    def work(self) -> Path:
        out = self.out.absolute()
        return out.with_name(out.name + ".building")

    def settings(self) -> dict[str, Any]:
        """Everything that decides the bytes of the index."""
        return {
            "corpus": self.corpus.fingerprint(),
            "unit": str(self.unit),
            "title_in_text": self.title_in_text,
            "language": self.language,
            "encoder": dataclasses.asdict(self.encoder.card),
        }

    def splitter(self) -> Splitter:
        return Splitter(self.unit, self.language, self.encoder.model.tokenizer)


def build(plan: Plan) -> list[Usage]:
    """Build the index, or go on with it; give what each step used (nothing when it was there).

    Raises
    ------
    ArtifactError : ``OUT`` or ``OUT.building`` hold something else.
    InputError : the corpus cannot be read or holds no text.
    LimitError : the disk or the RAM budget is too small.
    """
    settings = plan.settings()
    if _already_built(plan, settings):
        return []
    _refuse_strangers(plan, settings)
    plan.work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(plan.work / LOCK, timeout=0):
            usages = _steps(plan, settings)
    except Timeout:
        raise ArtifactError(
            "another build is writing here", where=plan.work, cure="wait for it, or choose another OUT"
        ) from None
    _finish(plan)
    return usages


def _already_built(plan: Plan, settings: dict[str, Any]) -> bool:
    """True when OUT holds this very index; raise when it holds anything else."""
    if plan.out.is_file() or (
        plan.out.is_dir() and any(plan.out.iterdir()) and not (plan.out / MANIFEST).exists()
    ):
        raise ArtifactError(
            "the output folder holds something else", where=plan.out, cure="choose another OUT"
        )
    if not (plan.out / MANIFEST).exists():
        return False
    manifest = Manifest.read(plan.out)
    if other := _differing(settings, dataclasses.asdict(manifest)):
        raise ArtifactError(
            f"an index with another {other} is there already",
            where=plan.out,
            cure="choose another OUT, or remove that folder first",
        )
    verify(plan.out, manifest.files)
    return True


def _differing(wanted: dict[str, Any], found: dict[str, Any]) -> str:
    return ", ".join(key for key, value in wanted.items() if found.get(key) != value)


def _steps(plan: Plan, settings: dict[str, Any]) -> list[Usage]:
    if (plan.work / MANIFEST).exists():
        return []
    _enter(plan, settings)
    usages = []
    with measured("split") as usage:
        counts = split(plan)
    usages.append(usage)
    _check_means(plan, counts)
    for name, step in (("encode", encode), ("index", make_faiss)):
        with measured(name) as usage:
            step(plan, counts)
        usages.append(usage)
    _seal(plan, settings, counts)
    return usages


def _refuse_strangers(plan: Plan, settings: dict[str, Any]) -> None:
    """Raise when the work folder holds another build, or something that is no build."""
    path = plan.work / SETTINGS
    found: Any = None
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
    elif (plan.work / MANIFEST).exists():
        # Killed between the last two steps: the manifest says whose it is.
        found = dataclasses.asdict(Manifest.read(plan.work))
    if isinstance(found, dict):
        if other := _differing(settings, found):
            raise ArtifactError(
                f"an unfinished build with another {other} is there",
                where=plan.work,
                cure="choose another OUT, or remove that folder to start over",
            )
    elif path.exists() or (plan.work.exists() and {child.name for child in plan.work.iterdir()} - _SCAFFOLD):
        raise ArtifactError("this folder holds something else", where=plan.work, cure="choose another OUT")


def _enter(plan: Plan, settings: dict[str, Any]) -> None:
    """Take up the work folder: remove what a killed writer left aside."""
    for part in plan.work.rglob(".*.part"):
        part.unlink()
    if not (plan.work / SETTINGS).exists():
        write_json(plan.work / SETTINGS, settings)
    for folder in ("passages", "vectors"):
        (plan.work / folder).mkdir(exist_ok=True)


def split(plan: Plan) -> dict[str, Any]:
    """Step 1: articles to shards of passages; give the counts of articles, rows and what was skipped."""
    summary = plan.work / SPLIT
    if not summary.exists():
        shards, seen = _split_before(plan)
        for passages in _shards(plan, seen):
            if passages:
                write_shard(plan.work / shard_name("passages", len(shards)), passages, seen.notes())
                shards.append(len(passages))
        if not sum(shards):
            raise InputError("the corpus holds no text", where=plan.corpus.root)
        skipped = dict(sorted(seen.skipped.items()))
        write_json(summary, {"articles": seen.articles, "skipped": skipped, "shard_rows": shards})
    return dict(json.loads(summary.read_text(encoding="utf-8")))


def _split_before(plan: Plan) -> tuple[list[int], Seen]:
    """Rows of the shards a killed build left, and what of the corpus they cover."""
    rows: list[int] = []
    seen = Seen()
    while (path := plan.work / shard_name("passages", len(rows))).exists():
        table = read_shard(path)
        seen = Seen.of_notes(table.schema.metadata, plan.work)
        rows.append(table.num_rows)
    return rows, seen


def _shards(plan: Plan, seen: Seen) -> Iterator[list[Passage]]:
    """Shards of passages behind what was seen; ``seen`` goes on to count what each of them covers."""
    splitter = plan.splitter()
    pending: list[Passage] = []
    before = seen.records
    with tqdm(total=plan.corpus.size, desc="split", unit="B", unit_scale=True, mininterval=1) as bar:
        for page in plan.corpus.pages(bar.update):
            if page.number < before:
                continue
            article = page.article()
            seen.records += 1
            if isinstance(article, Skip):
                seen.skip(article.reason)
                continue
            texts = splitter(article.text)
            pending += [Passage(seen.articles, article.id, article.title, text) for text in texts]
            seen.articles += 1
            if not texts:
                seen.skip("empty")
            if len(pending) >= plan.shard_rows:
                yield pending
                pending = []
    # Without passages too: what holds none may stand behind the last full shard.
    yield pending


def encode(plan: Plan, counts: dict[str, Any]) -> None:
    """Step 2: one file of vectors a shard of passages."""
    rows = counts["shard_rows"]
    paths = [plan.work / shard_name("vectors", number) for number in range(len(rows))]
    done = sum(count for count, path in zip(rows, paths) if path.exists())
    with tqdm(total=sum(rows), initial=done, desc="encode", unit="passage", smoothing=0.05) as bar:
        for number, path in enumerate(paths):
            if path.exists():
                continue
            table = read_shard(plan.work / shard_name("passages", number))
            vectors = plan.encoder.encode_passages(_texts(table, plan.title_in_text), on_rows=bar.update)
            with whole_file(path) as aside, aside.open("wb") as file:
                # np.save's bytes, but not its tofile, which forgets the errno of a full disk.
                header = np.lib.format.header_data_from_array_1_0(vectors)
                np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(vectors).data)


def _texts(table: pa.Table, with_title: bool) -> list[str]:
    texts = table["text"].to_pylist()
    if with_title:
        return [f"{title} {text}".strip() for title, text in zip(table["title"].to_pylist(), texts)]
    return list(texts)


def make_faiss(plan: Plan, counts: dict[str, Any]) -> None:
    """Step 3: all vectors in one exact L2 index."""
    path = plan.work / FAISS_FILE
    if path.exists():
        return
    index = faiss.IndexFlatL2(plan.encoder.card.dim)
    for number in tqdm(range(len(counts["shard_rows"])), desc="index", unit="shard"):
        index.add(np.load(plan.work / shard_name("vectors", number), mmap_mode="r"))
    with whole_file(path) as aside, aside.open("wb") as file:
        # Through Python's file, so that a full disk is an OSError and not a C++ exception.
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def _check_means(plan: Plan, counts: dict[str, Any]) -> None:
    rows, vector = sum(counts["shard_rows"]), 4 * plan.encoder.card.dim
    require(
        Need(
            "index",
            BASE_RAM + rows * vector,
            "raise --ram, or make fewer passages with --unit window:254/64",
        ),
        ram=plan.ram,
    )
    written = sum(path.stat().st_size for path in (plan.work / "vectors").iterdir())
    require_space(plan.work, 2 * rows * vector - written)


def _seal(plan: Plan, settings: dict[str, Any], counts: dict[str, Any]) -> None:
    shards = range(len(counts["shard_rows"]))
    names = [shard_name(folder, i) for folder in ("passages", "vectors") for i in shards]
    Manifest(
        kind=Manifest.KIND,
        format=FORMAT,
        **{**settings, "encoder": plan.encoder.card},
        articles=counts["articles"],
        passages=sum(counts["shard_rows"]),
        skipped=counts["skipped"],
        shard_rows=counts["shard_rows"],
        files=seal(plan.work, [*names, FAISS_FILE]),
    ).write(plan.work)


def _finish(plan: Plan) -> None:
    """Step 4: the manifest is written; drop the scaffolding and give the folder its name."""
    for name in (SETTINGS, SPLIT, LOCK):
        (plan.work / name).unlink(missing_ok=True)
    plan.work.rename(plan.out.absolute())


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a build would take, from a sample of the corpus."""

    articles: int
    passages: int
    seconds: float
    disk: int
    ram: int


_EVERY, _SAMPLE = 50, 512


def forecast(plan: Plan) -> Forecast:
    """Read the corpus, split every 50th article, encode 512 passages, and extrapolate."""
    splitter = plan.splitter()
    articles = characters = seen = 0
    sample: list[str] = []
    for number, article in enumerate(tqdm(plan.corpus.articles(), desc="dry run", unit="article")):
        articles, characters = articles + 1, characters + len(article.text)
        if number % _EVERY == 0 or len(sample) < _SAMPLE:
            seen += len(article.text)
            sample += splitter(article.text)
    if not sample:
        raise InputError("no text in the sampled articles", where=plan.corpus.root)
    texts = [sample[i] for i in np.linspace(0, len(sample) - 1, min(_SAMPLE, len(sample))).astype(int)]
    plan.encoder.encode_passages(texts[:32])
    start = time.perf_counter()
    plan.encoder.encode_passages(texts)
    rate = len(texts) / (time.perf_counter() - start)
    passages = round(len(sample) * characters / max(seen, 1))
    vector = 4 * plan.encoder.card.dim
    disk = passages * (2 * vector + _TEXT_BYTES)
    return Forecast(articles, passages, passages / rate, disk, BASE_RAM + passages * vector)
