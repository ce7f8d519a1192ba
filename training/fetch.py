"""Copy a hub model to a folder: the files that are read here, all or none."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kaggle_rag.models.checkpoints import hub_faults
from kaggle_rag.runtime.errors import CheckpointError, ConfigError, KitError
from kaggle_rag.runtime.files import made_folder, require_new
from kaggle_rag.runtime.words import counted

# Read besides the weights. Other formats (onnx, tf_model.h5, rust_model.ot, consolidated.*) are never read.
_TEXTS = ("*.json", "*.jinja", "*.txt", "*.model", "[0-9]*_*/*.json")
_NEVER = ("*.bin.index.json", "*.safetensors.index.json", "onnx/*", "openvino/*")
# Weights in order of preference: one file, or shards with their index.
_SAFE, _TORCH = "model", "pytorch_model"
INDEX = {".safetensors": f"{_SAFE}.safetensors.index.json", ".bin": f"{_TORCH}.bin.index.json"}


def chosen(files: Sequence[str]) -> list[str]:
    """The files of a repository that loading reads: safetensors if there are any, else torch's.

    Empty if there are no weights.
    """
    for stem, ending in ((_SAFE, ".safetensors"), (_TORCH, ".bin")):
        parts = fnmatch.filter(files, f"{stem}-*-of-*{ending}")
        whole = [name for name in files if name == stem + ending]
        index = [name for name in files if name == INDEX[ending]]
        if weights := whole or (parts and index and [*parts, *index]):
            texts = [name for name in files if _fits(name, _TEXTS) and not _fits(name, _NEVER)]
            # A sentence encoder has a few modules, some with weights.
            modules = fnmatch.filter(files, f"[0-9]*_*/*{ending}")
            return sorted({*texts, *weights, *modules})
    return []


def _fits(name: str, patterns: Sequence[str]) -> bool:
    # fnmatch's star crosses folders; files in subfolders belong to other formats.
    return any(fnmatch.fnmatch(name, p) and name.count("/") == p.count("/") for p in patterns)


def fetch(name: str, out: Path, *, online: bool) -> dict[str, Any]:
    """Write a hub model's files to ``out``, from this machine's cache or (``online``) from the hub.

    A killed download stays beside ``out``, and the next run resumes it.

    Returns
    -------
    ``files``, ``bytes``, ``source``, and ``lacks``: what `training.convert.convert` would add.

    Raises
    ------
    ArtifactError : ``out`` exists.
    CheckpointError : no such model, no connection, or a repository without weights.
    """
    require_new(out)
    aside = out.with_name(f".{out.name}.part")
    with made_folder(aside):
        try:
            cached = None if online else _cached(name)
            if cached:
                _copy(cached, _wanted(name, _listed(cached)), aside)
            else:
                _download(name, aside)
            _require_complete(aside)
        except KitError:
            _drop_empty(aside)
            raise
        shutil.rmtree(aside / ".cache", ignore_errors=True)
        aside.rename(out)
    files = _listed(out)
    return {
        "files": len(files),
        "bytes": sum((out / each).stat().st_size for each in files),
        "source": "the hub" if online else "the Hugging Face cache",
        "lacks": lacks(out),
    }


def lacks(folder: Path) -> list[str]:
    """Files that everything here reads and a model folder does not have yet."""
    missing = [] if any(folder.glob("*.safetensors")) else ["*.safetensors"]
    return missing + ([] if (folder / "tokenizer.json").is_file() else ["tokenizer.json"])


def _drop_empty(folder: Path) -> None:
    """Remove a folder that holds none of the model's files yet."""
    if not any(path.is_file() for path in folder.glob("*")):
        shutil.rmtree(folder)


def _listed(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def _wanted(name: str, files: Sequence[str]) -> list[str]:
    if not (wanted := chosen(files)) or "config.json" not in files:
        raise CheckpointError(
            f"{name!r} has no weights that this command reads",
            expected="config.json with model.safetensors or pytorch_model.bin, whole or in shards",
            cure="choose another repository: those with GGUF, ONNX or adapters are not supported",
        )
    return wanted


def _cached(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except HFValidationError as error:
        raise _not_a_hub_name(name) from error
    except LocalEntryNotFoundError as error:
        raise ConfigError(
            f"{name!r} is not in this machine's Hugging Face cache",
            cure="run it with --online on a machine with internet, and copy OUT here",
        ) from error


def _not_a_hub_name(name: str) -> ConfigError:
    return ConfigError(f"{name!r} is not a hub name", expected="a name such as google/flan-t5-large")


def _copy(folder: Path, wanted: Sequence[str], aside: Path) -> None:
    for each in wanted:
        (aside / each).parent.mkdir(parents=True, exist_ok=True)
        # The cache holds links to its blobs; an incomplete copy is overwritten.
        shutil.copyfile((folder / each).resolve(), aside / each)


def _download(name: str, aside: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        wanted = _wanted(name, HfApi().list_repo_files(name))
        snapshot_download(name, allow_patterns=wanted, local_dir=aside)
    except HFValidationError as error:
        raise _not_a_hub_name(name) from error
    except hub_faults() as error:
        lines = str(error).splitlines() or [""]
        raise CheckpointError(
            f"could not download {name!r} ({type(error).__name__}: {lines[0]})",
            cure="check the name and the connection, and rerun the same command: it resumes. A gated model "
            "(Llama, Gemma) needs its licence accepted on its page, and hf auth login",
        ) from error


def _require_complete(folder: Path) -> None:
    """Check that every shard named by an index exists, and that every header can be read."""
    for ending, name in INDEX.items():
        if not (folder / name).is_file():
            continue
        shards = set(json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(part for part in shards if not (folder / part).is_file()):
            raise CheckpointError(
                f"{len(missing)} of {counted(len(shards), 'shard is', 'shards are')} missing ({missing[0]})",
                where=folder,
                expected=f"every *{ending} that {name} lists",
                cure="rerun the same command with --online",
            )
    for path in folder.rglob("*.safetensors"):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise CheckpointError(
                f"this file is damaged ({error})", where=path, cure="delete it and rerun the same command"
            ) from error
