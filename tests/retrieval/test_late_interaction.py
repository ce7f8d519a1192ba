"""Token vectors compared one by one: against the library's own token embeddings, pair by pair."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from kaggle_rag.config import ContextSettings
from kaggle_rag.data.questions import Questions
from kaggle_rag.index.encoder import Encoder
from kaggle_rag.index.index import Index
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.retrieval.late_interaction import LateInteraction
from kaggle_rag.retrieval.retriever import Retriever

QUERIES = ["Which is the larger moon of Mars?", "What do bees see with?", "copper"]
PASSAGES = [
    "Phobos is the larger moon of Mars.",
    "A honey bee has five eyes.",
    "Copper melts at 1,085 °C.",
    "x",
]


@pytest.fixture(scope="module")
def late():
    return LateInteraction(DEFAULT_ENCODER, "cpu")


@pytest.fixture(scope="module")
def library():
    return SentenceTransformer(str(resolve(DEFAULT_ENCODER).path), device="cpu")


def by_hand(library, query, passage):
    """The mean of the largest cosines, from embeddings of one text at a time."""
    tables = []
    for text in (query, passage):
        vectors = (
            library.encode(text, output_value="token_embeddings", convert_to_numpy=False).float().numpy()
        )
        # Without the first and the last token, which stand for the text as a whole.
        vectors = vectors[1:-1]
        tables.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return np.mean([max(token @ other for other in tables[1]) for token in tables[0]])


def test_the_scores_are_those_of_the_librarys_token_embeddings(late, library):
    pairs = [(query, passage) for query in QUERIES for passage in PASSAGES]
    found = late.scores(*map(list, zip(*pairs)))
    np.testing.assert_allclose(found, [by_hand(library, *pair) for pair in pairs], atol=1e-5)
    assert found.dtype == np.float32
    table = found.reshape(len(QUERIES), len(PASSAGES))
    assert table.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_text_without_words_can_be_compared(late):
    # Longer ones beside it, to whose length it is padded.
    found = late.scores(["", "which moon is it"], ["the moon of Mars", ""])
    alone = [late.scores([query], [passage])[0] for query, passage in (("", "the moon of Mars"),
                                                                      ("which moon is it", ""))]  # fmt: skip
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_a_text_alone_scores_as_among_others(late):
    together = late.scores(QUERIES, PASSAGES[:3])
    alone = [late.scores([query], [passage])[0] for query, passage in zip(QUERIES, PASSAGES)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_evidence_is_ordered_by_it(facts_index, late):
    index = Index(facts_index)
    encoder = Encoder.of_index(index.manifest.encoder)
    asked = [{"id": 1, "prompt": "Which moon of Mars is the smaller one?", "A": "Phobos", "B": "Deimos"}]
    questions = Questions.from_rows(asked, "test")
    contexts = Retriever(index, encoder, ContextSettings(neighbours=0), {}, late)(questions)
    evidence = contexts[0].evidence()
    query = "Which moon of Mars is the smaller one? Phobos Deimos"
    scores = late.scores([query] * len(evidence), [each.text for each in evidence])
    assert scores.tolist() == sorted(scores, reverse=True)
    np.testing.assert_allclose([each.score for each in evidence], scores, atol=1e-5)
