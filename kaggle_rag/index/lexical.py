"""BM25 alongside the vectors: the words of a question against the words of the passages, by bm25s.

Passages are indexed in parts, each with its own document frequencies, like the shards of a search
engine: building needs the memory of one part, and a part of two million passages knows how rare a
word is.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import bm25s
import numpy as np
import numpy.typing as npt
import Stemmer
from bm25s.tokenization import Tokenizer
from scipy.sparse import csr_matrix

from kaggle_rag.index.vectors import Rows
from kaggle_rag.runtime.errors import ArtifactError
from kaggle_rag.text.normalise import words

Scores = npt.NDArray[np.float32]
# Passages per part: 1 to 2 GB of RAM while a part of sentences is built.
PART_ROWS = 2_000_000
# Queries multiplied with a part at once; a frequent word alone has a score for a tenth of a part.
_QUERIES = 32

# Languages with both stop words and a Snowball stemmer.
_LANGUAGES = {
    "da": "danish", "de": "german", "en": "english", "es": "spanish", "fr": "french", "it": "italian",
    "nl": "dutch", "no": "norwegian", "pt": "portuguese", "ru": "russian", "sv": "swedish", "tr": "turkish",
}  # fmt: skip


def part_name(number: int) -> str:
    return f"{number:03d}"


def tokenizer(language: str = "en") -> Tokenizer:
    """Words and numbers without stop words, by their Snowball stems.

    Single characters stay, unlike in most lexical search: "vitamin C" and "pH 7" are questions.
    A language outside the table keeps its words as they are.
    """
    name = _LANGUAGES.get(language)
    return Tokenizer(
        splitter=words,
        stopwords="english_plus" if name == "english" else name or [],
        stemmer=Stemmer.Stemmer(name) if name else None,
    )


@functools.cache
def _word_functions(language: str) -> tuple[Callable[[str], list[str]], frozenset[str], Callable[[str], str]]:
    made = tokenizer(language)
    return made.splitter, frozenset(made.stopwords), made.stemmer or str


def stems(text: str, language: str = "en") -> list[str]:
    """The words of a text as `tokenizer` reads them: in text order, without stop words."""
    split, stop, stem = _word_functions(language)
    return [stem(word) for word in split(unicodedata.normalize("NFC", text)) if word not in stop]


def write_part(
    folder: Path,
    passages: Iterator[str],
    language: str = "en",
    on_rows: Callable[[int], object] | None = None,
) -> None:
    """Index passages into ``folder``: BM25 as Lucene computes it, with k1 = 1.5 and b = 0.75."""
    tokens = tokenizer(language)
    ids = []
    for passage_ids in tokens.streaming_tokenize(passages, update_vocab=True):
        # Lists of Python integers are ten times as large.
        ids.append(np.array(passage_ids, dtype=np.int32))
        if on_rows:
            on_rows(1)
    model = bm25s.BM25(method="lucene")
    model.index((ids, tokens.get_vocab_dict()), show_progress=False)
    model.save(folder, show_progress=False)


class Lexical:
    """The BM25 parts of an index, memory-mapped."""

    def __init__(self, folder: Path, part_rows: Sequence[int], language: str = "en") -> None:
        self._language = language
        self._starts = np.cumsum([0, *part_rows])
        self._parts = [self._open(folder / part_name(n), rows) for n, rows in enumerate(part_rows)]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def search(
        self, queries: Sequence[str], k: int, *, on_queries: Callable[[int], object] | None = None
    ) -> tuple[Scores, Rows]:
        """BM25 scores and rows of the ``k`` best passages, each ``(n, min(k, rows))``, best first.

        Where fewer passages share a word with the query, the score is 0 and the row -1.
        """
        k = min(k, len(self))
        scores = np.zeros((len(queries), k), dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        tokens = [stems(query, self._language) for query in queries]
        for start in range(0, len(queries), _QUERIES):
            batch = tokens[start : start + _QUERIES]
            for start_row, part in zip(self._starts, self._parts):
                self._merge(part.product(batch), int(start_row), scores[start:], rows[start:])
            if on_queries:
                on_queries(len(batch))
        return scores, rows

    def scores(self, query: str, rows: Rows) -> Scores:
        """The BM25 scores of one query for given passages, ``(len(rows),)``; 0 if they share no word."""
        tokens = stems(query, self._language)
        out = np.zeros(len(rows), dtype=np.float32)
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(parts):
            in_part = parts == number
            out[in_part] = self._parts[number].scores(tokens, rows[in_part] - self._starts[number])
        return out

    @staticmethod
    def _merge(product: csr_matrix, start_row: int, scores: Scores, rows: Rows) -> None:
        """Merge the scores of one part into the best so far."""
        k = scores.shape[1]
        for query in range(product.shape[0]):
            span = slice(product.indptr[query], product.indptr[query + 1])
            values, columns = product.data[span], product.indices[span]
            if len(values) > k:
                # All that tie with the last one, of which the first of the corpus stay.
                top = values >= np.partition(values, len(values) - k)[len(values) - k]
                values, columns = values[top], columns[top]
            all_scores = np.concatenate([scores[query], values])
            all_rows = np.concatenate([rows[query], columns.astype(np.int64) + start_row])
            order = np.lexsort((all_rows, -all_scores))[:k]
            scores[query], rows[query] = all_scores[order], all_rows[order]

    @staticmethod
    def _open(folder: Path, rows: int) -> _Part:
        try:
            model = bm25s.BM25.load(folder, mmap=True, load_corpus=False)
            if model.scores["num_docs"] != rows:
                raise ValueError(f"{model.scores['num_docs']} passages instead of {rows}")
            return _Part(model)
        except (ValueError, OSError, KeyError) as error:
            raise ArtifactError(
                f"bm25s cannot read this part ({str(error).splitlines()[0]})",
                where=folder,
                cure="copy the index again from where it was built, or rebuild it",
            ) from error


class _Part:
    """bm25s's matrix of eager scores, one row per word: ``(words, passages)``."""

    def __init__(self, model: bm25s.BM25) -> None:
        self._vocabulary: dict[str, int] = model.vocab_dict
        data, indices, indptr = (model.scores[name] for name in ("data", "indices", "indptr"))
        # One index type for both, or scipy copies the mapped one to make them equal.
        self._matrix = csr_matrix(
            (data, indices, indptr.astype(indices.dtype)),
            shape=(len(indptr) - 1, model.scores["num_docs"]),
            copy=False,
        )

    def product(self, queries: Sequence[Sequence[str]]) -> csr_matrix:
        """Scores of every passage that shares a word with a query, ``(queries, passages)`` sparse."""
        known = [[self._vocabulary[word] for word in words if word in self._vocabulary] for words in queries]
        lengths = np.cumsum([0, *map(len, known)])
        columns = np.array([word for words in known for word in words], dtype=np.int32)
        counts = np.ones(len(columns), dtype=np.float32)
        words_asked = csr_matrix((counts, columns, lengths), shape=(len(queries), self._matrix.shape[0]))
        return words_asked @ self._matrix

    def scores(self, words: Sequence[str], rows: Rows) -> Scores:
        out = np.zeros(len(rows), dtype=np.float32)
        for word in words:
            if (number := self._vocabulary.get(word)) is None:
                continue
            span = slice(self._matrix.indptr[number], self._matrix.indptr[number + 1])
            columns = self._matrix.indices[span]
            positions = np.minimum(np.searchsorted(columns, rows), len(columns) - 1)
            out += np.where(columns[positions] == rows, self._matrix.data[span][positions], 0)
        return out
