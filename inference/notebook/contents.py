"""What a solution needs in a place without network: which files, where in the bundle, and what for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kaggle_rag
from inference.checks import active_rankers
from inference.predictions import names_of
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.index.manifest import MANIFEST, EncoderCard, Manifest
from kaggle_rag.models.card import CARD, RankerCard
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, is_quantized, resolve
from kaggle_rag.rankers.folders import located
from kaggle_rag.runtime.places import plain
from kaggle_rag.runtime.words import counted

KIT = Path(kaggle_rag.__file__).resolve().parent.parent
_PACKAGES = ("kaggle_rag", "training", "wiki_index", "inference")
# setup.cfg says which packages the kit needs; the licence asks to be passed on.
_BESIDE = ("setup.cfg", "LICENSE")
# Weights in formats that the kit never loads, and what a training keeps to go on.
_LEFT_OUT = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx", ".tflite", ".gguf", ".pkl", ".pyc"}
)
_FOLDERS_LEFT_OUT = ("onnx", "openvino", "checkpoint-", "__pycache__", ".")
# Settings that name files of the questions at hand, where the notebook names those of the hidden ones; and
# what `submit` does not read.
_LEFT_BEHIND = ("questions", "contexts_file", "out", "limit", "generate")


@dataclasses.dataclass(frozen=True)
class Part:
    """One thing in a bundle.

    Attributes
    ----------
    name : its path in the bundle.
    purpose : what it is for, in a few words.
    files : where each file is now, by its path in the bundle.
    sums : the SHA-256 of those files whose seal is known, by the same paths.
    """

    name: str
    purpose: str
    files: Mapping[str, Path]
    sums: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What its files weigh together."""
        return sum(path.stat().st_size for path in self.files.values())


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a bundle of a solution holds, apart from wheels.

    Attributes
    ----------
    settings : ``solution.yaml`` of the bundle; every path in it is relative to the bundle.
    packages : requirements beyond those of the kit, such as ``peft``.
    notes : what is left out of the bundle, and why.
    """

    parts: tuple[Part, ...]
    settings: dict[str, Any]
    packages: frozenset[str]
    notes: tuple[str, ...]


def contents_of(solution: Solution) -> Contents:
    """What a solution needs, and its settings as they are in the bundle.

    Raises
    ------
    KitError : an index, a model or a ranker is not on this machine.
    """
    return _Packing(solution).contents()


class _Packing:
    """Collects parts, and changes the settings to name them."""

    def __init__(self, solution: Solution) -> None:
        self.solution = solution
        self.settings = solution.model_dump(mode="json", exclude_unset=True)
        self.parts = [_kit()]
        self.packages: set[str] = set()
        self.notes: list[str] = []
        self._models: dict[Path, str] = {}

    def contents(self) -> Contents:
        for key in _LEFT_BEHIND:
            self.settings.pop(key, None)
        self.settings.get("limits", {}).pop("time", None)
        if self.solution.contexts_file:
            self.notes.append("contexts_file is left out: it has no context for a hidden question")
        self._index_and_encoders()
        if not self.solution.index:
            self.settings.get("contexts", {}).pop("reranker", None)
        elif reranker := self.solution.contexts.reranker:
            self.settings["contexts"]["reranker"] = self._model(reranker, "re-ranks what the search found")
        self._rankers()
        if self.solution.stack:
            self.settings["stack"] = "stack.npz"
            self.parts.append(Part("stack.npz", "combines the rankers", {"stack.npz": self.solution.stack}))
        if self.solution.out_of_fold:
            name = self.solution.out_of_fold.name
            self.settings["out_of_fold"] = name
            files = {name: self.solution.out_of_fold}
            self.parts.append(Part(name, "tells which questions gain most from a ranker", files))
        return Contents(tuple(self.parts), self.settings, frozenset(self.packages), tuple(self.notes))

    def _index_and_encoders(self) -> None:
        solution, cards = self.solution, dict[str, EncoderCard]()
        default = DEFAULT_ENCODER
        if solution.index:
            self.settings["index"] = "index"
            self.parts.append(_index(solution.index))
            manifest = Manifest.read(solution.index)
            cards = {name: card.encoder for name, card in manifest.dense.items()}
            default = cards.pop(manifest.default).name
        # Questions are encoded even where no index is searched: `Resources` opens an encoder.
        self.settings["encoder"] = self._model(solution.encoder or default, "encodes questions")
        used = {name: card for name, card in cards.items() if name in solution.contexts.retrievers}
        encoders = {
            name: self._model(solution.encoders.get(name) or card.name, f"encodes questions for {name}")
            for name, card in used.items()
        }
        self.settings.pop("encoders", None)
        if encoders:
            self.settings["encoders"] = encoders

    def _rankers(self) -> None:
        active = active_rankers(self.solution)
        if "rankers" not in self.settings:
            return
        names = iter(names_of([(each.kind, each.options) for each in active]))
        kept: list[dict[str, Any]] = []
        for ranker in self.solution.rankers:
            if ranker not in active:
                if self.solution.out_of_fold:
                    # Its predictions have a table for each ranker, in their order.
                    kept.append({"kind": ranker.kind, "weight": 0.0})
                continue
            name = next(names)
            settings = ranker.model_dump(mode="json", exclude_unset=True)
            # How it was trained names files of that machine.
            settings.pop("train", None)
            if "folder" in ranker.options:
                settings["options"] |= self._trained(name, ranker)
            kept.append(settings)
        if len(active) < len(self.solution.rankers):
            self.notes.append("rankers with weight 0 are left out")
        self.settings["rankers"] = kept

    def _trained(self, name: str, ranker: RankerSettings) -> dict[str, str]:
        """Pack a trained ranker and its backbone; return its options as they are in the bundle."""
        folder, options = located(plain(str(ranker.options["folder"]))), ranker.options
        place = f"rankers/{name}"
        options_there = {"folder": place}
        quantized = bool(options.get("load_in_4bit")) or is_quantized(folder)
        if (folder / CARD).is_file():
            card = RankerCard.read(folder)
            quantized |= card.nf4
            self.parts.append(_sealed_ranker(folder, place))
            if card.base:
                base = str(options.get("base") or card.base)
                quantized |= is_quantized(resolve(base).path)
                options_there["base"] = self._model(base, f"the backbone of {place}")
        else:
            self.parts.append(_folder(folder, place, "a ranker: " + str(options.get("form"))))
        if (folder / "adapter_config.json").is_file():
            self.packages.add("peft")
        if quantized:
            # transformers places 4-bit weights through accelerate.
            self.packages |= {"bitsandbytes", "accelerate"}
        self._tokenizer_packages(folder)
        return options_there

    def _model(self, name: str, purpose: str) -> str:
        """Pack a model once, whatever needs it; return its path in the bundle."""
        checkpoint = resolve(name)
        folder = checkpoint.path.resolve()
        if folder not in self._models:
            # The last part of a name is kept: an encoder's prompts depend on it.
            wanted, taken = f"models/{plain(name).rsplit('/', 1)[-1]}", set(self._models.values())
            numbered = (wanted, *(f"{wanted}-{number}" for number in range(2, len(taken) + 3)))
            place = next(each for each in numbered if each not in taken)
            self._models[folder] = place
            self.parts.append(_folder(folder, place, purpose))
            self._tokenizer_packages(folder)
        return self._models[folder]

    def _tokenizer_packages(self, folder: Path) -> None:
        """Without tokenizer.json, transformers converts the tokenizer with these packages."""
        if not any(folder.rglob("tokenizer.json")):
            self.packages |= {"sentencepiece", "protobuf", "tiktoken"}


def _kit() -> Part:
    files = {f"kit/{name}": KIT / name for name in _BESIDE if (KIT / name).is_file()}
    for package in _PACKAGES:
        files |= {f"kit/{package}/{name}": path for name, path in _files(KIT / package)}
    return Part("kit", "the kit's own source", files)


def _index(folder: Path) -> Part:
    manifest = Manifest.read(folder)
    files = {f"index/{name}": folder / name for name in [MANIFEST, *manifest.files]}
    sums = {f"index/{name}": str(seal["sha256"]) for name, seal in manifest.files.items()}
    return Part("index", f"{counted(manifest.articles, 'article')}, searched for evidence", files, sums)


def _sealed_ranker(folder: Path, place: str) -> Part:
    """A ranker with a card: exactly the files that it seals, for it is refused without one of them."""
    sealed = json.loads((folder / CARD).read_text(encoding="utf-8"))
    files = {f"{place}/{name}": folder / name for name in [CARD, *sealed["files"]]}
    sums = {f"{place}/{name}": seal["sha256"] for name, seal in sealed["files"].items()}
    return Part(place, f"a ranker: {sealed['form']}", files, sums)


def _folder(folder: Path, place: str, purpose: str) -> Part:
    return Part(place, purpose, {f"{place}/{name}": path for name, path in _files(folder)})


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a folder and their paths in it, sorted; without those that nothing reads."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith(_FOLDERS_LEFT_OUT) for part in inside.parts[:-1]):
            continue
        unread = path.suffix in _LEFT_OUT or path.name.endswith(".bin.index.json")
        if path.is_file() and not unread and not path.name.startswith("."):
            yield inside.as_posix(), path
