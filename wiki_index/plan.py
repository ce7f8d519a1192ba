"""What to build, where, and what determines its bytes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import DENSE
from kaggle_rag.runtime.cluster import Cluster
from kaggle_rag.runtime.files import sha256
from kaggle_rag.text.normalise import WORD_RULES
from kaggle_rag.text.units import Splitter, Unit
from wiki_index.corpus import Corpus

SHARD_ROWS = 16_384
# Room for "title " before a window; fewer than 1 in 1,000 titles of English Wikipedia are longer.
TITLE_TOKENS = 32
# torch, the model, one shard of text and its activations: measured on the 998-article corpus.
BASE_RAM = 1_000_000_000
# recall@10 that the search parameters of a compressed index are tuned for.
TARGET_RECALL = 0.98


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the user asked to build.

    Parameters
    ----------
    encoders : by retriever name, the default one first; windows are cut by its tokenizer.
    ram : budget in bytes, which determines the kind if ``kind`` is ``None``; with neither, flat.
    vectors : precision of the stored vectors; the kind's own if ``None``.
    recall : recall@10 against exact search that search parameters are tuned for.
    questions : a file of questions to measure that recall with, instead of halves of passages.
    lexical : also build BM25 parts.
    limit : index only the first articles, for a trial run.
    reuse : an index whose vectors are reused where text and encoder are the same.
    cluster : where shards are encoded; in this process if ``None``. Does not affect the bytes.
    """

    corpus: Corpus
    out: Path
    encoders: dict[str, Encoder]
    unit: Unit
    language: str = "en"
    title_in_text: bool = False
    ram: int | None = None
    kind: str | None = None
    vectors: str | None = None
    recall: float = TARGET_RECALL
    questions: Path | None = None
    lexical: bool = False
    reuse: Path | None = None
    shard_rows: int = SHARD_ROWS
    limit: int | None = None
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        # Resolves links: the folder behind one is built and renamed in its own parent.
        object.__setattr__(self, "out", self.out.resolve())

    @property
    def work(self) -> Path:
        return self.out.parent / f"{self.out.name}.building"

    def dense(self, name: str) -> Path:
        """Where the files of one dense retriever are built."""
        return self.work / DENSE / name

    def settings(self) -> dict[str, Any]:
        """Everything that determines the bytes of the index, by its name in the manifest."""
        cards = {name: dataclasses.asdict(encoder.card) for name, encoder in self.encoders.items()}
        # Separate, so that a build with another precision is refused by that name.
        precision = {name: card.pop("precision") for name, card in cards.items()}
        for card in cards.values():
            # A folder that was moved still holds the same encoder.
            card.pop("name")
        # Part of a corpus counts as another corpus; whole ones need no entry.
        part = {"limit": self.limit} if self.limit else {}
        lexical = {"word_rules": WORD_RULES} if self.lexical else {}
        return {
            "corpus": {**self.corpus.fingerprint(), **part},
            "unit": str(self.unit),
            "title_in_text": self.title_in_text,
            "language": self.language,
            "asked": {
                "encoders": cards,
                "precision": precision,
                "kind": self.kind,
                "ram": None if self.kind else self.ram,
                "vectors": self.vectors,
                "recall": self.recall,
                "questions": sha256(self.questions) if self.questions else None,
                "lexical": self.lexical,
                **lexical,
                "shard_rows": self.shard_rows,
            },
        }

    def splitter(self) -> Splitter:
        return Splitter(self.unit, self.language, next(iter(self.encoders.values())).tokenizer)


def retriever_name(encoder: str) -> str:
    """``bge-small-en-v1.5`` for ``BAAI/bge-small-en-v1.5``, a folder of that name, or a version of it.

    Paths of Kaggle inputs end in a number (``…/bge-small-en-v1.5/1``), those of the hub cache in a commit.
    """
    names = (re.sub(r"^models--.*--", "", part) for part in re.split(r"[/\\]", encoder))
    parts = [part for part in names if part not in ("", ".", "..", "snapshots")]
    named = [part for part in parts if not re.fullmatch(r"\d+|[0-9a-f]{40}", part)]
    return (named or parts or ["encoder"])[-1].lower()
