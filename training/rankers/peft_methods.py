"""Which weights of a backbone are trained: a table of methods, each a peft configuration."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kaggle_rag.models.answering.forms import DECODER, ENCODER_DECODER
from kaggle_rag.runtime.errors import ConfigError
from kaggle_rag.runtime.settings import InvalidSettings

# The configurations of the methods that peft does not have.
_BOTTLENECK = "kaggle_rag.models.bottleneck:BottleneckConfig"
_KNOWLEDGE = "kaggle_rag.models.knowledge:KnowledgeConfig"

if TYPE_CHECKING:
    from kaggle_rag.models.loading import Backbone

# The head's task, as peft calls it: it decides which head is trained beside the adapter.
_TASKS = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
}


@dataclasses.dataclass(frozen=True)
class Method:
    """A way of training few weights.

    ``config`` is the configuration class, peft's unless it names its module; ``defaults`` what the kit
    sets in it; ``text`` what ``--help`` says of it; ``nf4`` whether the backbone is kept in 4 bits;
    ``virtual`` whether it prepends virtual tokens to a row, which a multiple-choice head cannot take;
    ``reads`` whether these are made of the question's snippets.
    """

    config: str
    defaults: Mapping[str, Any]
    text: str
    nf4: bool = False
    virtual: bool = False
    reads: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is one of the kit's own, which peft lacks."""
        return ":" in self.config

    @property
    def packages(self) -> list[str]:
        """Packages that it needs."""
        of_peft = ["peft"] if self.config and not self.ours else []
        return [*of_peft, *(["bitsandbytes"] if self.nf4 else [])]


_LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"}
METHODS: dict[str, Method] = {
    "full": Method("", {}, "all weights"),
    "lora": Method("LoraConfig", _LORA, "low-rank updates (Hu et al. 2021)"),
    "rslora": Method(
        "LoraConfig", {**_LORA, "use_rslora": True}, "LoRA scaled by alpha / sqrt(r) (Kalajdzievski 2023)"
    ),
    "dora": Method(
        "LoraConfig", {**_LORA, "use_dora": True}, "LoRA of the direction, and a magnitude (Liu et al. 2024)"
    ),
    "qlora": Method("LoraConfig", _LORA, "LoRA over 4-bit weights (Dettmers et al. 2023)", nf4=True),
    "adapters": Method(
        _BOTTLENECK, {}, "two small layers after attention and feed-forward (Houlsby et al. 2019)"
    ),
    "ia3": Method("IA3Config", {}, "learnt scales of keys, values and the inner layer (Liu et al. 2022)"),
    "prefix": Method(
        "PrefixTuningConfig", {"num_virtual_tokens": 16}, "learnt keys and values (Li and Liang 2021)",
        virtual=True,
    ),
    "prompt": Method(
        "PromptTuningConfig", {"num_virtual_tokens": 16}, "learnt tokens before the row (Lester et al. 2021)",
        virtual=True,
    ),
    "p-tuning": Method(
        "PromptEncoderConfig", {"num_virtual_tokens": 16, "encoder_hidden_size": 128},
        "the same, from a small network (Liu et al. 2021)", virtual=True,
    ),
    "knowledge": Method(
        _KNOWLEDGE, {}, "keys and values that an encoder makes of the snippets, which are in no row (ours)",
        reads=True,
    ),
    "knowledge-4bit": Method(_KNOWLEDGE, {}, "the same, before 4-bit weights", nf4=True, reads=True),
}  # fmt: skip


def with_method(backbone: Backbone, name: str, options: Mapping[str, Any]) -> Any:
    """Add the method's weights to the backbone's model, whose own are frozen.

    Raises
    ------
    ConfigError : a setting that the method lacks, modules that the model lacks, or a method that this form
        cannot take.
    """
    require_options(name, options)
    method, model = METHODS[name], backbone.model
    if not method.config:
        return model
    _require_fit(name, backbone)
    config = _configuration(_class_of(method), backbone, {**method.defaults, **options})
    if method.ours and method.nf4:
        # As QLoRA has it: what is not in 4 bits is in float32, since no gradient scaler takes others.
        for weight in model.parameters():
            if weight.is_floating_point():
                weight.data = weight.data.float()
    if method.ours:
        from kaggle_rag.models.own_adapters import attach

        return attach(model, config)
    import peft

    if method.nf4:
        prepare: Any = peft.prepare_model_for_kbit_training
        model = prepare(model, use_gradient_checkpointing=False)
    try:
        adapted = peft.get_peft_model(model, config)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        # torch raises RuntimeError for a size that is negative, or that no memory holds.
        line = str(error).splitlines()[0]
        modules = "target_modules from " + ", ".join(_linear_names(model))
        raise ConfigError(
            f"{name} does not fit this backbone: {line}", where="peft.options",
            expected=modules if "module" in line.lower() else "",
        ) from error  # fmt: skip
    _require_heads_learn(adapted, backbone, name)
    return adapted


def require_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` with every fault of a method's settings that shows without the backbone."""
    method = METHODS[name]
    if not method.config:
        if options:
            raise ConfigError(
                "training all weights has no settings", where="peft.options", cure="set peft.method"
            )
        return
    kind = _class_of(method)
    known = list(inspect.signature(kind).parameters)
    found = {key: _fault(kind, method.defaults, key, value, known) for key, value in options.items()}
    if lines := [f"{key}: {fault}" for key, fault in found.items() if fault]:
        raise InvalidSettings(lines, (f"peft.options.{key}" for key in found if found[key]), "peft.options")


def _fault(
    kind: Callable[..., Any], defaults: Mapping[str, Any], key: str, value: Any, known: list[str]
) -> str:
    """What is wrong with one setting of a method by itself; empty if nothing is."""
    if key not in known:
        close = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)
        return f"{getattr(kind, '__name__', kind)} has no such setting; {hint}"
    try:
        kind(**{**defaults, key: value})
    except (ValueError, TypeError) as error:
        return str(error).splitlines()[0].removeprefix(f"{key}: ")
    return ""


def _class_of(method: Method) -> Any:
    if method.ours:
        return pkgutil.resolve_name(method.config)
    import peft

    return getattr(peft, method.config)


def _require_fit(name: str, backbone: Backbone) -> None:
    if METHODS[name].reads and backbone.family != DECODER:
        raise ConfigError(
            f"{name} gives keys and values to a decoder, not to the family {backbone.family}",
            where="peft.method", cure="use python -m training causal with a decoder, or lora",
        )  # fmt: skip
    if not METHODS[name].virtual:
        return
    keys = "past_key_values" in inspect.signature(backbone.model.forward).parameters
    classifies = backbone.form.has_head
    if backbone.form.auto not in _TASKS or (classifies and backbone.family == ENCODER_DECODER):
        raise ConfigError(
            f"{name} prepends virtual tokens to a row, which this form's head cannot take",
            where="peft.method",
            cure="use lora, or form: " + ("letters" if backbone.family == ENCODER_DECODER else "binary"),
        )
    # peft checks this too, but only in the first forward pass.
    if name == "prefix" and not keys:
        raise ConfigError(
            "prefix passes keys and values, which this backbone does not accept as input",
            where="peft.method",
            cure="use lora, or prompt",
        )


def _require_heads_learn(model: Any, backbone: Backbone, name: str) -> None:
    """Require that a head missing from the checkpoint is trained and saved."""
    trained = [key for key, weight in model.named_parameters() if weight.requires_grad]
    for module in backbone.new:
        if not any(f"{module}." in key for key in trained):
            raise ConfigError(
                f"{name} does not train {module!r}, which this checkpoint lacks",
                where="peft.method",
                cure="use lora, or start from a checkpoint with that head",
            )


def _configuration(kind: Callable[..., Any], backbone: Backbone, options: dict[str, Any]) -> Any:
    known = inspect.signature(kind).parameters
    if isinstance(options.get("modules_to_save"), str):
        raise ConfigError(
            "not a list of names", where="peft.options.modules_to_save",
            expected=f"such as [{options['modules_to_save']}]",
        )  # fmt: skip
    if "modules_to_save" in known:
        options["modules_to_save"] = sorted({*backbone.new, *(options.get("modules_to_save") or ())}) or None
    if kind.__name__ == "IA3Config" and not options.get("target_modules"):
        options |= _scaled(backbone.model)
    if "task_type" in known:
        options["task_type"] = _TASKS.get(backbone.form.auto)
    try:
        return kind(**options)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error).splitlines()[0], where="peft.options") from error


def _linear_names(model: Any) -> list[str]:
    from kaggle_rag.models.bottleneck import linear_names

    return linear_names(model)


def _scaled(model: Any) -> dict[str, Any]:
    """Keys, values and the layer after the inner activation, for types missing from peft's table."""
    from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as table

    if model.config.model_type in table:
        return {}
    names = _linear_names(model)
    inner = [name for name in names if name in ("down_proj", "wo", "fc2", "dense_4h_to_h")]
    keys = [name for name in names if name in ("k_proj", "v_proj", "qkv_proj", "key", "value", "k", "v")]
    return {"target_modules": keys + inner, "feedforward_modules": inner}
