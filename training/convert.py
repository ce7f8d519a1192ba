"""A model folder as it lies on the hub to safetensors and ``tokenizer.json``, with proof that both agree."""

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
from transformers import AutoModel

from kaggle_rag.models.description import config_of, tokenizer_of
from kaggle_rag.runtime.errors import ArtifactError, CheckpointError, show_size
from training.fetch import INDEX

_SHARD = "5GB"
# Settings beside config.json that loading and answering look at.
_BESIDE = ("config.json", "generation_config.json", "modules.json", "sentence_bert_config.json",
           "config_sentence_transformers.json")  # fmt: skip
# Sentencepiece models by their names in the hub's folders.
_PIECES = ("spm.model", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
_PROBES = (
    "Which of the following statements accurately describes the impact of Modified Newtonian Dynamics?",
    "The enzyme catalyses the hydrolysis of ATP; its rate rises with temperature, up to a limit.",
    "A. Photosynthesis in C4 plants (e.g. maize) fixes carbon twice.",
    "In 1905 Einstein published four papers, one of them on E = mc2.",
    "the, of: a/b - c + d? 'quoted' \"twice\"!",
)


def convert(folder: Path, out: Path) -> dict[str, Any]:
    """Write ``folder``'s model to ``out`` as safetensors (in shards where it is large) and a fast tokenizer.

    A torch file is read with ``weights_only=True``: no code in it is run. ``out`` appears whole, and only
    when tokens, tensors and answers are the same.

    Returns
    -------
    ``tensors`` and ``texts`` that were compared, and in words ``answers``.

    Raises
    ------
    ArtifactError : ``out`` exists, or something differs.
    CheckpointError : no weights, a damaged file, or one that holds more than tensors.
    """
    if out.exists():
        raise ArtifactError("OUT is there already", where=out, cure="choose another OUT")
    config, tokenizer = config_of(folder), tokenizer_of(folder)
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(
            "transformers has no fast tokenizer of this kind", where=folder, expected="tokenizer.json"
        )
    aside = out.with_name(f".{out.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        count = _write_weights(folder, aside)
        tokenizer.save_pretrained(aside)
        for name in _BESIDE:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, aside / name)
        texts = _same_tokens(folder, tokenizer, aside)
        answers = _same_answers(folder, aside, config, tokenizer)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return {"tensors": count, "texts": texts, "answers": answers}


def _write_weights(folder: Path, aside: Path) -> int:
    """Safetensors as they are, or of the torch files; the number of tensors, read back and compared."""
    safe = sorted(folder.glob("model*.safetensors"))
    if safe:
        for path in [*safe, folder / INDEX[".safetensors"]]:
            if path.is_file():
                shutil.copyfile(path, aside / path.name)
    else:
        state = _torch_state(folder)
        save_torch_state_dict(state, aside, max_shard_size=_SHARD)
        for path in aside.iterdir():
            # They are written for their owner alone, and a folder is often read by others.
            path.chmod(0o644)
    return _same_tensors(folder, aside)


def _torch_files(folder: Path) -> list[Path]:
    index = folder / INDEX[".bin"]
    if index.is_file():
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(named))]
    return [folder / "pytorch_model.bin"]


def _torch_state(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder's torch files, mapped where the file allows it."""
    state: dict[str, torch.Tensor] = {}
    for path in _torch_files(folder):
        state |= _torch_file(path)
    return state


def _torch_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError):
            # Files of torch before 1.6 are no archives, and cannot be mapped.
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CheckpointError(
            "no weights are there",
            where=path.parent,
            expected=f"*.safetensors or {path.name}",
            cure="fetch the model again: python -m training fetch NAME OUT --online",
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "this file holds more than tensors, or is damaged; nothing of it was run",
            where=path,
            cure="take the model from where it was published: a file that needs code to be read is not safe",
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"this file is damaged ({said[0]})", where=path, cure="copy or fetch it again, whole"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(each, torch.Tensor) for each in found.values()):
        raise CheckpointError(
            "this file is no state of a model",
            where=path,
            expected="names and tensors, as model.save_pretrained wrote them",
        )
    # Views that a training left behind (transposed, or parts of a larger tensor) are laid out anew.
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _stored(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    yield name, file.get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"this file is damaged ({error})", where=path) from error


def _same_tensors(folder: Path, aside: Path) -> int:
    """Read what was written, tensor by tensor, against what was there; the count of them."""
    given = dict(_stored(folder)) or _torch_state(folder)
    written = {}
    for name, tensor in _stored(aside):
        theirs = given.get(name)
        if theirs is None or theirs.dtype != tensor.dtype or not torch.equal(_bits(theirs), _bits(tensor)):
            raise ArtifactError(f"the tensor {name!r} differs from what was written", where=aside)
        written[name] = tensor.shape
    # Of tensors that share their memory, such as tied embeddings, one is written.
    shared = {tensor.data_ptr() for name, tensor in given.items() if name in written}
    lost = [name for name, tensor in given.items() if name not in written and tensor.data_ptr() not in shared]
    if lost:
        raise ArtifactError(f"{len(lost)} tensors were not written ({lost[0]})", where=aside)
    return len(written)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Equal bits are equal numbers, also where they are none (NaN)."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _same_tokens(folder: Path, tokenizer: Any, aside: Path) -> int:
    """The tokenizer that was written against the one that was read, and against sentencepiece itself."""
    written = tokenizer_of(aside)
    pieces = _sentencepiece(folder)
    for text in _PROBES:
        if written(text, text)["input_ids"] != tokenizer(text, text)["input_ids"]:
            raise ArtifactError("tokenizer.json reads a text otherwise than the tokenizer", where=folder)
        ours = written(text, add_special_tokens=False)["input_ids"]
        if pieces and ours != (theirs := _spelt(pieces, text, written)):
            raise ArtifactError(
                f"tokenizer.json reads {text!r} otherwise than sentencepiece does",
                where=folder,
                expected=" ".join(map(str, theirs)),
                cure=f"try another version of transformers: this one gives {' '.join(map(str, ours))}",
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


def _spelt(pieces: Any, text: str, tokenizer: Any) -> list[int]:
    """Sentencepiece's tokens by the tokenizer's numbers, which some families shift."""
    unknown = pieces.unk_id()
    found = zip(pieces.encode(text), pieces.encode(text, out_type=str))
    return [
        tokenizer.unk_token_id if place == unknown else tokenizer.convert_tokens_to_ids(piece)
        for place, piece in found
    ]


def _same_answers(folder: Path, aside: Path, config: Any, tokenizer: Any) -> str:
    """Hidden states of both models on a text; in words, where memory is too small for the comparison."""
    size = sum(path.stat().st_size for path in aside.glob("*.safetensors"))
    free = psutil.virtual_memory().available
    if 1.5 * size > free:
        return f"answers not compared: that takes {show_size(1.5 * size)} of RAM, {show_size(free)} are free"
    ids = torch.tensor([tokenizer(_PROBES[0])["input_ids"]])
    first, second = (_answer(place, config, ids) for place in (folder, aside))
    gap = float((first - second).abs().max())
    if not gap == 0.0:
        raise ArtifactError(
            f"the converted model answers differently (by {gap:.2g})", where=folder, cure="report this model"
        )
    return "the same answer of both to a question"


def _answer(folder: Path, config: Any, ids: torch.Tensor) -> torch.Tensor:
    safe = any(folder.glob("model*.safetensors"))
    try:
        model = AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=safe,
            weights_only=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"this folder does not load as a model ({said[0]})",
            where=folder,
            expected="a model of transformers",
        ) from error
    model.eval()
    # Weights that the folder lacks (a pooler) are drawn anew each time, and have no part in this.
    more = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids, **more).last_hidden_state.float()
    del model
    gc.collect()
    return found
