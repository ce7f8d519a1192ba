"""Losses against hand computations, and each entry of the tables on a model that learns from it."""

import math
import types

import numpy as np
import pytest
import torch
from model_toys import tiny_cross_encoder, tiny_model
from sentence_transformers import CrossEncoder as PairModel
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, DistilBertConfig

from kaggle_rag.runtime.errors import ConfigError
from training.loop.vicreg import vicreg
from training.retrieval.columns import pairs_of, prompted, rows_of
from training.retrieval.losses import RERANKER_LOSSES, RETRIEVER_LOSSES, can_denoise, require_decoder
from training.retrieval.mining import Example
from training.retrieval.settings import RerankerSettings, RetrieverSettings
from training.retrieval.vicreg import VICReg


def inputs(model, texts):
    """A model's inputs, by either of the names that releases have for it."""
    return (getattr(model, "preprocess", None) or model.tokenize)(texts)


EXAMPLES = [
    Example("1", "iron", "iron rusts", ("gold shines", "tin bends")),
    Example("2", "gold", "gold shines", ("iron rusts", "tin bends")),
    Example("3", "tin", "tin bends", ("gold shines", "iron rusts")),
]


SOFT = {pair: 0.9 - 0.4 * place for e in EXAMPLES for place, pair in enumerate(pairs_of(e))}


def by_hand(left, right, weights=(25, 25, 1)):
    """VICReg in plain loops, from the formulas of the paper's sections 4.1 and algorithm 1."""
    n, d = left.shape
    invariance = sum((left[i, j] - right[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    spread = copies = 0.0
    for z in (left, right):
        means = [sum(z[:, j]) / n for j in range(d)]
        cov = [
            [sum((z[i, a] - means[a]) * (z[i, b] - means[b]) for i in range(n)) / (n - 1) for b in range(d)]
            for a in range(d)
        ]
        spread += sum(max(0.0, 1 - math.sqrt(cov[j][j] + 1e-4)) for j in range(d)) / d
        copies += sum(cov[a][b] ** 2 for a in range(d) for b in range(d) if a != b) / d
    return weights[0] * invariance + weights[1] * spread + weights[2] * copies


def test_vicreg_is_the_hand_computed_sum():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)) * 0.3
    for weights in ((25, 25, 1), (10.0, 5.0, 0.5), (0, 1, 0)):
        found = vicreg(torch.tensor(left), torch.tensor(right), weights)
        assert float(found) == pytest.approx(by_hand(left, right, weights))
    # Two points on one diagonal: s = 0, each variance 2 (no hinge), both covariances 2, so c = 8 / 2 a side.
    line = torch.tensor([[0.0, 0.0], [2.0, 2.0]], dtype=torch.float64)
    assert float(vicreg(line, line)) == pytest.approx(8.0)
    # Collapsed: no covariance, and each side's hinge is 1 - sqrt(1e-4) = 0.99.
    assert float(vicreg(torch.ones(4, 2), torch.ones(4, 2))) == pytest.approx(2 * 25 * 0.99)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("losses")
    return tiny_model(folder), tiny_cross_encoder(folder)


def test_vicreg_of_a_model_is_that_of_its_unit_vectors_times_the_root_of_their_width(folders):
    model = SentenceTransformer(str(folders[0]), device="cpu").eval()
    columns = [["iron", "gold", "tin"], ["iron rusts", "gold shines", "tin bends"]]
    own = [model.encode(texts, normalize_embeddings=True).astype(float) * math.sqrt(32) for texts in columns]
    with torch.no_grad():
        found = VICReg(model)([inputs(model, texts) for texts in columns], None)
    assert float(found) == pytest.approx(by_hand(*own), rel=1e-4)


def test_with_an_expander_it_is_that_of_what_comes_out_of_it(folders):
    torch.manual_seed(0)
    model = SentenceTransformer(str(folders[0]), device="cpu").eval()
    columns = [["iron", "gold", "tin"], ["iron rusts", "gold shines", "tin bends"]]
    own = [model.encode(texts, normalize_embeddings=True) * math.sqrt(32) for texts in columns]
    with torch.no_grad():
        loss = VICReg(model, expander=48)
        first, norm, _, second, again, _, last = loss.expand
        found = float(loss([inputs(model, texts) for texts in columns], None))
    wide = []
    for batch in own:
        for layer, normed in ((first, norm), (second, again), (last, None)):
            batch = batch @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
            if normed:
                # A batch's own mean and (biased) variance, then ReLU.
                batch = (batch - batch.mean(0)) / np.sqrt(batch.var(0) + normed.eps)
                batch = np.maximum(batch, 0)
        wide.append(batch.astype(float))
    assert wide[0].shape == (3, 48) and found == pytest.approx(by_hand(*wide), rel=1e-3)


@pytest.mark.skipif(not can_denoise(), reason="these releases cannot tie encoder and decoder")
@pytest.mark.parametrize("config, writes", [(BertConfig(), True), (DistilBertConfig(), False)])
def test_what_cannot_write_text_cannot_restore_it(config, writes):
    encoder = [types.SimpleNamespace(auto_model=types.SimpleNamespace(config=config))]
    if writes:
        require_decoder(encoder, "m")
        return
    with pytest.raises(ConfigError, match="can also write text"):
        require_decoder(encoder, "m")


@pytest.mark.parametrize("name", RETRIEVER_LOSSES)
def test_every_retriever_loss_falls_on_what_it_learns_from(name, folders, tmp_path):
    model = SentenceTransformer(str(folders[0]), device="cpu").eval()
    kind = RETRIEVER_LOSSES[name]
    if kind.denoises and not can_denoise():
        pytest.skip("these releases cannot tie encoder and decoder")
    settings = RetrieverSettings(questions="q", out="o", positive="p", loss=name, negatives=2, teacher="t")
    loss, columns = kind.make(model, settings), rows_of(kind.rows, EXAMPLES, SOFT if kind.teacher else None)
    labels = torch.tensor(columns.pop("label")) if "label" in columns else None
    if kind.denoises:
        columns = {"damaged": ["rusts", "shines", "bends"], "whole": columns["positive"]}
    if kind.distinct:
        # Their batches have every text once; these negatives are other rows' positives.
        columns = dict([*columns.items()][:2])
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-3)
    values = []
    for _ in range(8):
        value = loss([inputs(model, texts) for texts in columns.values()], labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0]


def test_the_symmetric_loss_is_the_mean_of_both_directions(folders):
    """A query among all passages, negatives too; a positive among all queries. Cosines times the scale."""
    model = SentenceTransformer(str(folders[0]), device="cpu").eval()
    settings = RetrieverSettings(
        questions="q", out="o", positive="p", loss="infonce-symmetric", negatives=2, scale=7.0
    )
    columns = list(rows_of("tuple", EXAMPLES).values())
    with torch.no_grad():
        loss = RETRIEVER_LOSSES["infonce-symmetric"].make(model, settings)
        found = float(loss([inputs(model, texts) for texts in columns], None))
    query, *passages = (model.encode(texts, normalize_embeddings=True).astype(float) for texts in columns)
    forth, back = query @ np.concatenate(passages).T * 7, passages[0] @ query.T * 7
    by_hand = [np.log(np.exp(row - row[i]).sum()) for side in (forth, back) for i, row in enumerate(side)]
    assert found == pytest.approx(np.mean(by_hand), abs=1e-4)


def in_numpy(model, columns):
    """Cosines of the queries with all passages of their own row, ``(columns, n)``, and with every passage."""
    query, *passages = (model.encode(texts, normalize_embeddings=True).astype(float) for texts in columns)
    return np.array([(query * each).sum(1) for each in passages]), query @ np.concatenate(passages).T


@pytest.mark.parametrize("negatives", [0, 2])
def test_the_hardest_negative_of_the_batch_is_that_of_plain_loops(folders, negatives):
    model = SentenceTransformer(str(folders[0]), device="cpu").eval()
    settings = RetrieverSettings(questions="q", out="o", positive="p", loss="triplet-hard")
    columns = [*rows_of("tuple", EXAMPLES).values()][: 2 + negatives]
    with torch.no_grad():
        loss = RETRIEVER_LOSSES["triplet-hard"].make(model, settings)
        found = float(loss([inputs(model, texts) for texts in columns], None))
    own, every = in_numpy(model, columns)
    total = 0.0
    for row in range(3):
        right = own[0, row]
        total += max(0.0, 0.2 + max(c for n, c in enumerate(every[row]) if n != row) - right)
    assert found == pytest.approx(total / 3, abs=1e-5) and found > 0


def test_an_encoder_learns_the_teacher_s_margins(folders):
    model = SentenceTransformer(str(folders[0]), device="cpu").eval()
    settings = RetrieverSettings(
        questions="q", out="o", positive="p", loss="margin-mse", negatives=2, teacher="t"
    )
    columns = rows_of("margin", EXAMPLES, SOFT)
    labels = torch.tensor(columns.pop("label"))
    with torch.no_grad():
        loss = RETRIEVER_LOSSES["margin-mse"].make(model, settings)
        found = float(loss([inputs(model, texts) for texts in columns.values()], labels))
    own, _ = in_numpy(model, columns.values())
    gaps = [(own[0] - own[n]) - (labels[:, 0] - labels[:, n]).numpy() for n in (1, 2)]
    assert found == pytest.approx(np.square(gaps).mean(), abs=1e-5)


@pytest.mark.parametrize("name", RERANKER_LOSSES)
def test_every_reranker_loss_falls_on_what_it_learns_from(name, folders):
    model = PairModel(str(folders[1]), device="cpu").eval()
    kind = RERANKER_LOSSES[name]
    settings = RerankerSettings(questions="q", out="o", positive="p", loss=name, teacher="t", negatives=2)
    columns = rows_of(kind.rows, EXAMPLES, SOFT if kind.teacher else None)
    found = columns.pop("labels", None) or columns.pop("label")
    labels = list(map(torch.tensor, found)) if isinstance(found[0], list) else torch.tensor(found)
    loss, optimizer = kind.make(model, settings), torch.optim.AdamW(model.parameters(), lr=1e-3)
    values = []
    for _ in range(8):
        value = loss(list(columns.values()), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0]


def test_examples_take_the_shape_a_loss_asks_for():
    assert rows_of("tuple", EXAMPLES[:1]) == {
        "query": ["iron"], "positive": ["iron rusts"],
        "negative_1": ["gold shines"], "negative_2": ["tin bends"],
    }  # fmt: skip
    assert rows_of("triplet", EXAMPLES[:1])["negative_1"] == ["gold shines", "tin bends"]
    assert rows_of("labelled", EXAMPLES[:1])["label"] == [1.0, 0.0, 0.0]
    soft = {("iron", "iron rusts"): 0.7, ("iron", "tin bends"): 0.2}
    assert rows_of("list", EXAMPLES[:1], soft)["labels"] == [[0.7, 0.0, 0.2]]
    assert rows_of("margin", EXAMPLES[:1], soft)["label"] == [[0.7, 0.0, 0.2]]


def test_prompts_stand_before_every_text():
    (example,) = prompted(EXAMPLES[:1], "query: ", "passage: ")
    assert (example.query, example.positive) == ("query: iron", "passage: iron rusts")
    assert example.negatives == ("passage: gold shines", "passage: tin bends")
