"""Depths of weights by the order in which a forward pass meets them; freezing, averages, disturbances."""

import json

import pytest
import torch
from ranker_toys import BACKBONES, backbone
from safetensors.torch import load_file, save_file
from transformers import AlbertConfig, AutoModel, DebertaV2Config, ModernBertConfig

from kaggle_rag.models.loading import load_backbone
from kaggle_rag.runtime.errors import ConfigError
from training.rankers.adversarial import ADVERSARIES, gradients_of, require_embeddings
from training.rankers.peft_methods import METHODS, with_method
from training.rankers.saving import rename
from training.rankers.weights import MovingAverage, depths_of, freeze, layers_of, rate_groups

FORMS = {**dict.fromkeys(BACKBONES, "binary"), "deberta-v2": "choice", "bert": "choice"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: str(backbone(kind, tmp_path_factory.mktemp(kind))) for kind in BACKBONES}


def load(folders, kind, form=None):
    torch.manual_seed(0)
    return load_backbone(folders[kind], form or FORMS[kind], device="cpu")


def expected(model, name):
    """Where a weight stands, by the module that owns it: the class of a layer, an embedding, or neither."""
    parts = name.split(".")
    owners = [(".".join(parts[:n]), model.get_submodule(".".join(parts[:n]))) for n in range(1, len(parts))]
    kinds = [type(owner).__name__ for _, owner in owners]
    layers = [kind.endswith(("Layer", "Block")) and path.split(".")[-1].isdigit() for (path, _), kind in
              zip(owners, kinds)]  # fmt: skip
    if any(layers):
        path = owners[layers.index(True)][0]
        return (
            int(path.split(".")[-1])
            + 1
            + (2 if "decoder." in path and model.config.is_encoder_decoder else 0)
        )
    heads = ("Classification", "Pooler", "RMSNorm")
    if any(word in kind for kind in kinds for word in heads) or parts[-2] in (
        "score",
        "classifier",
        "lm_head",
    ):
        return None
    return 0


@pytest.mark.parametrize("kind", BACKBONES)
def test_no_weight_falls_through_to_a_wrong_depth(kind, folders):
    model = load(folders, kind).model
    depths = depths_of(model)
    layers = 4 if kind == "t5" else 2
    assert layers_of(depths) == layers and set(depths) == {name for name, _ in model.named_parameters()}
    for name, depth in depths.items():
        wanted = expected(model, name)
        if name.endswith("final_layer_norm.weight"):
            wanted = 2 if "encoder." in name else None
        assert depth == (layers + 1 if wanted is None else wanted), name


@pytest.mark.parametrize("kind", ["deberta-v2", "electra", "t5", "llama", "phi3"])
@pytest.mark.parametrize("method", ["lora", "adapters", "ia3"])
def test_an_adapter_stands_where_its_layer_does(kind, method, folders):
    found = load(folders, kind, "letters" if kind == "t5" else None)
    plain = depths_of(found.model)
    model = with_method(found, method, {})
    for name, depth in depths_of(model).items():
        own = name.removeprefix("base_model.model.").replace(".base_layer", "")
        own = own.replace(".modules_to_save.default", "").replace(".original_module", "")
        if own in plain:
            assert depth == plain[own], name
        else:
            layer = [other for other in plain if own.startswith(other.rpartition(".")[0] + ".")]
            assert layer and depth == plain[layer[0]], name


@pytest.mark.parametrize("method", ["prefix", "prompt", "p-tuning"])
def test_tokens_before_a_row_learn_as_a_head_does(method, folders):
    model = with_method(load(folders, "llama"), method, {})
    depths = depths_of(model)
    assert {depths[n] for n, w in model.named_parameters() if w.requires_grad and "prompt" in n} == {3}


def test_each_layer_learns_slower_than_the_one_above_it(folders):
    model = load(folders, "deberta-v2").model
    names = {id(weight): name for name, weight in model.named_parameters()}
    groups = rate_groups(model, {"classifier.weight"}, 1e-3, 0.5, 0.01)
    rates = {names[id(w)]: (g["lr"], g["weight_decay"]) for g in groups for w in g["params"]}
    assert set(rates) == set(names.values())
    assert rates["classifier.weight"] == (1e-3, 0.01) and rates["classifier.bias"] == (1e-3, 0.0)
    assert rates["deberta.encoder.layer.1.output.dense.weight"][0] == pytest.approx(5e-4)
    assert rates["deberta.encoder.layer.0.output.dense.weight"][0] == pytest.approx(2.5e-4)
    assert rates["deberta.embeddings.word_embeddings.weight"][0] == pytest.approx(1.25e-4)
    assert rates["deberta.encoder.rel_embeddings.weight"][0] == pytest.approx(1.25e-4)


def test_frozen_layers_and_embeddings_do_not_learn(folders):
    model = load(folders, "electra").model
    freeze(model, 1, embeddings=True)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen == {
        name for name, _ in model.named_parameters() if "embeddings" in name or ".layer.0." in name
    }
    model = load(folders, "electra").model
    freeze(model, 2, embeddings=False)
    assert model.electra.embeddings.word_embeddings.weight.requires_grad
    assert not model.electra.encoder.layer[1].output.dense.weight.requires_grad
    with pytest.raises(ConfigError, match="has 2 layers"):
        freeze(model, 3, embeddings=False)


def test_the_moving_average_is_the_one_by_hand(tmp_path):
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = MovingAverage(model, 0.5)
    kept = 1.0
    for step, value in enumerate([2.0, 4.0, -1.0, 3.0, 8.0, 5.0, 7.0, 9.0, 6.0], 1):
        model.weight.data.fill_(value)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        kept = decay * kept + (1 - decay) * value
    assert float(average.average["weight"]) == pytest.approx(kept, abs=1e-6)
    with average.in_place():
        assert model.weight.item() == pytest.approx(kept, abs=1e-6)
    assert model.weight.item() == 6
    average.save(tmp_path)
    other = MovingAverage(torch.nn.Linear(1, 1, bias=False), 0.5)
    other.load(tmp_path)
    assert other.step == 9 and torch.equal(other.average["weight"], average.average["weight"])


def test_a_weight_kept_in_place_comes_back_when_the_evaluation_fails():
    model = torch.nn.Linear(1, 1)
    average = MovingAverage(model, 0.5)
    model.weight.data.fill_(3.0)
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert model.weight.item() == 3


@pytest.mark.parametrize("name, chosen", [("fgm", lambda depth: depth == 0), ("awp", lambda depth: True)])
def test_a_disturbance_goes_along_the_gradient_and_comes_back_exactly(name, chosen, folders):
    model = load(folders, "deberta-v2").model
    ids = torch.arange(5, 17).view(1, 2, 6)
    model(input_ids=ids).logits.log_softmax(1)[0, 1].neg().backward()
    before = {key: weight.detach().clone() for key, weight in model.named_parameters()}
    gradients = {key: w.grad.clone() for key, w in model.named_parameters() if w.grad is not None}
    depths = depths_of(model)
    with ADVERSARIES[name](model, 0.3):
        for key, weight in model.named_parameters():
            change = weight.detach() - before[key]
            gradient = gradients.get(key)
            size = 0.3 if name == "fgm" else 0.3 * float(before[key].norm())
            moved = gradient is not None and weight.ndim > 1 and chosen(depths[key]) and gradient.norm() > 0
            if not moved or not size:
                assert not change.any(), key
                continue
            assert float(change.norm()) == pytest.approx(size, rel=1e-3), key
            along = float((change * gradient).sum() / change.norm() / gradient.norm())
            assert along == pytest.approx(1, abs=1e-3), key
    assert all(torch.equal(before[key], weight) for key, weight in model.named_parameters())


def test_a_disturbance_comes_back_when_the_second_pass_fails(folders):
    model = load(folders, "bert").model
    model(input_ids=torch.arange(5, 17).view(1, 2, 6)).logits.sum().backward()
    before = {key: weight.detach().clone() for key, weight in model.named_parameters()}
    with pytest.raises(torch.OutOfMemoryError), ADVERSARIES["awp"](model, 0.1):
        raise torch.OutOfMemoryError
    assert all(torch.equal(before[key], weight) for key, weight in model.named_parameters())


def test_fgm_is_refused_where_no_embedding_learns(folders):
    require_embeddings(load(folders, "llama").model)
    for method in ("lora", "adapters"):
        with pytest.raises(ConfigError, match="fgm perturbs embeddings"):
            require_embeddings(with_method(load(folders, "llama"), method, {}))


def test_every_method_names_what_it_needs():
    assert METHODS["full"].packages == METHODS["adapters"].packages == []
    assert METHODS["lora"].packages == ["peft"] and "bitsandbytes" in METHODS["qlora"].packages


def test_weights_that_were_written_by_older_names_get_those_of_the_model(tmp_path):
    """As transformers 5.0 writes them, in two shards with their index."""
    new = {"bert.LayerNorm.weight": torch.ones(2), "bert.LayerNorm.bias": torch.zeros(2)}
    older = ["bert.LayerNorm.gamma", "bert.LayerNorm.beta"]
    for number, (name, old) in enumerate(zip(new, older), 1):
        save_file({old: new[name]}, tmp_path / f"model-0000{number}-of-00002.safetensors", {"format": "pt"})
    index = tmp_path / "model.safetensors.index.json"
    parts = [path.name for path in sorted(tmp_path.glob("*.safetensors"))]
    index.write_text(json.dumps({"weight_map": dict(zip(older, parts))}))
    rename(tmp_path)
    found = {name: tensor for part in parts for name, tensor in load_file(tmp_path / part).items()}
    assert found.keys() == new.keys() and all(torch.equal(found[name], new[name]) for name in new)
    assert json.loads(index.read_text())["weight_map"] == dict(zip(new, parts))
    before = index.read_bytes(), [(tmp_path / part).read_bytes() for part in parts]
    rename(tmp_path)
    assert before == (index.read_bytes(), [(tmp_path / part).read_bytes() for part in parts])


BARE = {
    "modernbert": ModernBertConfig(
        vocab_size=60, hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
    ),
    "albert": AlbertConfig(
        vocab_size=60, embedding_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=3,
        num_attention_heads=2,
    ),
    "deberta-v2": DebertaV2Config(
        vocab_size=60, hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        relative_attention=True, pos_att_type=["p2c"], norm_rel_ebd="layer_norm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind, layers", [("modernbert", 3), ("albert", 1), ("deberta-v2", 3)])
def test_layers_are_known_where_no_name_of_a_model_comes_before_them(kind, layers):
    """As in a bi-encoder, whose backbone has no head; albert has one layer, used over and over."""
    depths = depths_of(AutoModel.from_config(BARE[kind]))
    assert layers_of(depths) == layers and {*range(layers + 1)} <= {*depths.values()}
    above = {name for name, depth in depths.items() if depth > layers}
    assert all(name.startswith(("pooler", "final_norm")) for name in above), above
    groups = rate_groups(AutoModel.from_config(BARE[kind]), set(), 1e-3, 0.5, 0.0)
    rates = {round(group["lr"] / 1e-3 * 2 ** (layers + 1)) for group in groups}
    assert rates >= {2**n for n in range(layers + 1)}


def test_rates_by_layer_need_layers(folders):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model.config = load(folders, "bert").model.config
    assert len(rate_groups(model, set(), 1e-3, 1.0, 0.0)) == 1
    with pytest.raises(ConfigError, match="no layers are known"):
        rate_groups(model, set(), 1e-3, 0.9, 0.0)


@pytest.mark.parametrize("kind", ["awp", "fgm"])
def test_a_batch_is_disturbed_along_its_own_gradient(kind, folders):
    """What earlier batches of a step have accumulated is no part of it."""
    model = load(folders, "bert").model
    weight = model.get_input_embeddings().weight
    ids = [torch.tensor([[[5, 6]]]), torch.tensor([[[7, 8]]])]
    losses = [lambda some=some: model(input_ids=some).logits.square().sum() for some in ids]
    losses[1]().backward()
    own = weight.grad.clone()
    model.zero_grad()
    losses[0]().backward()
    earlier = gradients_of(model)
    losses[1]().backward()
    before = weight.detach().clone()
    with ADVERSARIES[kind](model, 0.1, earlier):
        moved = (weight - before).detach()
    cosine = torch.nn.functional.cosine_similarity(moved.flatten(), own.flatten(), dim=0)
    assert cosine > 0.999 and torch.equal(weight, before)
    assert (own[5:7] == 0).all() and weight.grad[5:7].any()


def test_a_module_to_save_is_named_in_a_list(folders):
    with pytest.raises(ConfigError, match=r"modules_to_save: not a list(.|\n)*\[score\]"):
        with_method(load(folders, "llama"), "lora", {"modules_to_save": "score"})
