"""Convert a hub model folder to safetensors and ``tokenizer.json``, and verify that both agree."""

from __future__ import annotations

import contextlib
import gc
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoModel

from kaggle_rag.models.card import CARD
from kaggle_rag.models.description import config_of, max_positions, tokenizer_of
from kaggle_rag.runtime.errors import ArtifactError, CheckpointError, show_size
from kaggle_rag.runtime.files import require_new, whole_folder
from kaggle_rag.runtime.words import counted
from training.fetch import INDEX

_SHARD = "5GB"
# Configuration files that loading and answering read.
_BESIDE = ("config.json", "generation_config.json", "modules.json", "sentence_bert_config.json",
           "config_sentence_transformers.json")  # fmt: skip
# File names of sentencepiece models in hub folders.
_PIECES = ("spm.model", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
_PROBES = (
    "Which of the following statements accurately describes the impact of Modified Newtonian Dynamics?",
    "The enzyme catalyses the hydrolysis of ATP; its rate rises with temperature, up to a limit.",
    "A. Photosynthesis in C4 plants (e.g. maize) fixes carbon twice.",
    "In 1905 Einstein published four papers, one of them on E = mc2.",
    "the, of: a/b - c + d? 'quoted' \"twice\"!",
)


def convert(folder: Path, out: Path) -> dict[str, Any]:
    """Write ``folder``'s model to ``out`` as safetensors (sharded if large) and a fast tokenizer.

    A torch file is read with ``weights_only=True``: no code in it is run. ``out`` appears complete, and
    only if tokens, tensors and answers are the same.

    Returns
    -------
    ``tensors`` and ``texts``, the numbers compared, and ``answers``, that comparison in words.

    Raises
    ------
    ArtifactError : ``out`` exists, or something differs.
    CheckpointError : no weights, a damaged file, one that contains more than tensors, or a trained ranker.
    """
    require_new(out)
    if (folder / CARD).is_file():
        raise CheckpointError(
            f"this is a trained ranker: {CARD}, and what it learnt from, would be lost", where=folder,
            expected="a model folder as stored on the hub", cure="use it as it is: it has safetensors",
        )  # fmt: skip
    config, tokenizer = config_of(folder), tokenizer_of(folder)
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(
            "transformers has no fast tokenizer of this type", where=folder, expected="tokenizer.json"
        )
    with whole_folder(out) as aside:
        count = _write_weights(folder, aside)
        tokenizer.save_pretrained(aside)
        for name in _BESIDE:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, aside / name)
        count += _write_modules(folder, aside)
        texts = _same_tokens(folder, tokenizer, aside)
        answers = _same_answers(folder, aside, config, tokenizer)
    return {"tensors": count, "texts": texts, "answers": answers}


def _write_weights(folder: Path, aside: Path) -> int:
    """Copy safetensors, or convert the torch files; return the number of tensors read back and compared."""
    safe = sorted(folder.glob("model*.safetensors"))
    if safe:
        for path in [*safe, folder / INDEX[".safetensors"]]:
            if path.is_file():
                shutil.copyfile(path, aside / path.name)
    else:
        state = _torch_state(folder)
        save_torch_state_dict(state, aside, max_shard_size=_SHARD)
        for path in aside.iterdir():
            # They are written readable by their owner only, and others often read the folder.
            path.chmod(0o644)
    return _same_tensors(folder, aside)


def _write_modules(folder: Path, aside: Path) -> int:
    """The modules of a sentence encoder behind its transformer, which may have weights; how many tensors."""
    count = 0
    for path in sorted(folder.glob("[0-9]*_*/*")):
        target = aside / path.relative_to(folder)
        if path.suffix not in (".json", ".safetensors") and path.name != "pytorch_model.bin":
            continue
        target.parent.mkdir(exist_ok=True)
        if path.name != "pytorch_model.bin":
            shutil.copyfile(path, target)
        elif not path.with_name("model.safetensors").exists():
            state = _torch_file(path)
            save_file(state, target.with_name("model.safetensors"), {"format": "pt"})
            count += len(state)
    return count


def _torch_files(folder: Path) -> list[Path]:
    index = folder / INDEX[".bin"]
    if index.is_file():
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(named))]
    return [folder / "pytorch_model.bin"]


def _torch_state(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder's torch files, memory-mapped where the file allows it."""
    state: dict[str, torch.Tensor] = {}
    for path in _torch_files(folder):
        state |= _torch_file(path)
    return state


def _torch_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError):
            # Files of torch before 1.6 are not archives, and cannot be mapped.
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CheckpointError(
            "no weights found",
            where=path.parent,
            expected=f"*.safetensors or {path.name}",
            cure="fetch the model again: python -m training fetch NAME OUT --online",
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "this file is damaged, or contains more than tensors; none of its code was run",
            where=path,
            cure="get the model from its publisher: a file that runs code when it is read is not safe",
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"this file is damaged ({lines[0]})", where=path, cure="copy or fetch it again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise CheckpointError(
            "this file is not the state of a model",
            where=path,
            expected="names and tensors, as model.save_pretrained writes them",
        )
    # Views left behind by training (transposed, or parts of a larger tensor) are made contiguous.
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _stored(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    yield name, file.get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"this file is damaged ({error})", where=path) from error


def _same_tensors(folder: Path, aside: Path) -> int:
    """Compare the written tensors with the originals, one by one; return their number."""
    originals = dict(_stored(folder)) or _torch_state(folder)
    written = {}
    for name, tensor in _stored(aside):
        original = originals.get(name)
        if original is None or original.dtype != tensor.dtype or not _equal_bits(original, tensor):
            raise ArtifactError(f"the written tensor {name!r} differs from the original", where=aside)
        written[name] = tensor.shape
    # Of tensors that share memory, such as tied embeddings, only one is written.
    shared = {tensor.data_ptr() for name, tensor in originals.items() if name in written}
    unwritten = {name: tensor for name, tensor in originals.items() if name not in written}
    lost = [name for name, tensor in unwritten.items() if tensor.data_ptr() not in shared]
    if lost:
        what = f"{counted(len(lost), 'tensor was', 'tensors were')} not written ({lost[0]})"
        raise ArtifactError(what, where=aside)
    return len(written)


def _equal_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Compare raw bytes, so that NaN equals NaN."""
    left, right = (each.contiguous().reshape(-1).view(torch.uint8) for each in (left, right))
    return bool(torch.equal(left, right))


def _same_tokens(folder: Path, tokenizer: Any, aside: Path) -> int:
    """Compare the written tokenizer with the original and with sentencepiece; return the number of texts."""
    written = tokenizer_of(aside)
    pieces = _sentencepiece(folder)
    for text in _PROBES:
        if written(text, text)["input_ids"] != tokenizer(text, text)["input_ids"]:
            raise ArtifactError("tokenizer.json differs from the original tokenizer on a text", where=folder)
        ids = written(text, add_special_tokens=False)["input_ids"]
        if pieces and ids != (expected_ids := _piece_ids(pieces, text, written)):
            raise ArtifactError(
                f"tokenizer.json tokenizes {text!r} differently from sentencepiece",
                where=folder,
                expected=" ".join(map(str, expected_ids)),
                cure=f"try another version of transformers: this one gives {' '.join(map(str, ids))}",
            )
    return len(_PROBES)


def _sentencepiece(folder: Path) -> Any:
    source = next((folder / name for name in _PIECES if (folder / name).is_file()), None)
    if source is None:
        return None
    with contextlib.suppress(ImportError):
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_file=str(source))
    return None


def _piece_ids(pieces: Any, text: str, tokenizer: Any) -> list[int]:
    """Sentencepiece's tokens as the tokenizer's ids, which some families shift."""
    unknown = pieces.unk_id()
    tokens = zip(pieces.encode(text), pieces.encode(text, out_type=str))
    return [
        tokenizer.unk_token_id if number == unknown else tokenizer.convert_tokens_to_ids(piece)
        for number, piece in tokens
    ]


def _same_answers(folder: Path, aside: Path, config: Any, tokenizer: Any) -> str:
    """Compare both models' hidden states on a text; return the result, or why it was skipped, in words."""
    size = sum(path.stat().st_size for path in aside.glob("*.safetensors"))
    free = psutil.virtual_memory().available
    if 1.5 * size > free:
        return f"answers not compared: this needs {show_size(1.5 * size)} of RAM, {show_size(free)} is free"
    ids = torch.tensor([tokenizer(_PROBES[0])["input_ids"][: max_positions(config)]])
    first, second = (_answer(path, config, ids) for path in (folder, aside))
    gap = float((first - second).abs().max())
    if not gap == 0.0:
        raise ArtifactError(
            f"the converted model answers differently (by {gap:.2g})", where=folder, cure="report this bug"
        )
    return "both give the same answer to a question"


def _answer(folder: Path, config: Any, ids: torch.Tensor) -> torch.Tensor:
    safe = any(folder.glob("model*.safetensors"))
    try:
        model = AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=safe,
            weights_only=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"this folder does not load as a model ({lines[0]})",
            where=folder,
            expected="a transformers model",
        ) from error
    model.eval()
    # Weights that the folder lacks (a pooler) are random each time, and are not used here.
    more = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    with torch.inference_mode():
        hidden: torch.Tensor = model(input_ids=ids, **more).last_hidden_state.float()
    del model
    gc.collect()
    return hidden
