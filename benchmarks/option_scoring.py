"""Options a second of packed rows against a row an option, in inference and in a training step.

The same model, precision and questions; the numbers are compared too. Beside each ratio stands the one that
the count of tokens allows: a plain forward reads k (p + s) tokens, a packed one p + k s. With --harness,
EleutherAI's lm-evaluation-harness scores the same requests (pip install lm-eval).
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, set_seed

from benchmarks.common import Watch, keep_within, parser, report, where
from kaggle_rag.data.contexts import paragraphs_as_snippets
from kaggle_rag.data.questions import Questions
from kaggle_rag.models.answering.forms import DECODER, form_of
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.checkpoints import DEFAULT_ENCODER, resolve
from kaggle_rag.models.layouts import Layout, Writer
from kaggle_rag.models.loading import Backbone, with_packing
from kaggle_rag.runtime.errors import run_program, show_size
from kaggle_rag.runtime.limits import measured

SIZES: dict[str, dict[str, int]] = {
    "quick": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4},
    "cpu": {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1376, "num_attention_heads": 8},
    "cuda": {"hidden_size": 2048, "num_hidden_layers": 22, "intermediate_size": 5632,
             "num_attention_heads": 32, "num_key_value_heads": 4},
    "7b": {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008,
           "num_attention_heads": 32},
}  # fmt: skip
Row = dict[str, str | None]
GRID = [*itertools.product((256, 512, 1024), (8, 32), (4, 5))]
QUICK = [(256, 8, 4)]
ROTATIONS = 5
_VOCABULARY = 30_522
_REPEATS = 5
# The longest row of a question set.
_ROW = 1024
# A row without special tokens of its own, so that an option ends it.
_PLAIN = Layout(
    "{context}\n\nQuestion: {prompt}\nAnswer:", answer=" {option}", add_special_tokens=False
)  # fmt: skip


def backbone(size: str, device: str, nf4: bool = False) -> Backbone:
    """A Llama of random weights, with the one real tokenizer at hand."""
    set_seed(0)
    config = LlamaConfig(vocab_size=_VOCABULARY, max_position_embeddings=4096, pad_token_id=0, **SIZES[size])
    dtype = torch.float16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    if nf4:
        quantize(model, dtype)
    tokenizer = AutoTokenizer.from_pretrained(resolve(DEFAULT_ENCODER).path)
    tokenizer.padding_side = "left"
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return Backbone(model, tokenizer, form_of("options", DECODER), DECODER, ())


def quantize(model: Any, compute: torch.dtype) -> None:
    """Put the linear layers of a model into NF4, in place, as loading a checkpoint in 4 bits does."""
    import bitsandbytes

    for parent in [*model.base_model.modules()]:
        for name, linear in [*parent.named_children()]:
            if type(linear) is torch.nn.Linear:
                small = bitsandbytes.nn.Linear4bit(
                    linear.in_features, linear.out_features, bias=False, compute_dtype=compute,
                    quant_type="nf4", device="meta",
                )  # fmt: skip
                small.weight = bitsandbytes.nn.Params4bit(
                    linear.weight.data, requires_grad=False, quant_type="nf4"
                ).to(linear.weight.device)
                setattr(parent, name, small)


def made(count: int, prefix: int, option: int, options: int) -> list[list[Feature]]:
    """Questions of random tokens: ``options`` rows behind one prefix."""
    rng = np.random.default_rng(0)

    def tokens(size: int) -> list[int]:
        return [int(n) for n in rng.integers(1000, _VOCABULARY, size)]

    questions: list[list[Feature]] = []
    for _ in range(count):
        start = tokens(prefix)
        rows = [start + tokens(option) for _ in range(options)]
        answer = [[False] * prefix + [True] * option for _ in rows]
        questions.append(
            [{
                "input_ids": rows, "attention_mask": [[1] * len(row) for row in rows], "is_answer": answer,
                "present": [True] * options, "labels": 0,
            }]
        )  # fmt: skip
    return questions


def turned(count: int, prefix: int, option: int, options: int) -> list[list[Feature]]:
    """Questions that list their options in several orders behind one prefix, answered by a letter."""
    rng = np.random.default_rng(0)
    questions = []
    for _ in range(count):
        start = [int(n) for n in rng.integers(1000, _VOCABULARY, prefix)]
        listed = [[int(n) for n in rng.integers(1000, _VOCABULARY, option)] for _ in range(options)]
        orders = [[*listed[turn:], *listed[:turn]] for turn in range(ROTATIONS)]
        questions.append(
            [{
                "input_ids": [row := start + [token for each in order for token in each]],
                "attention_mask": [[1] * len(row)], "choices": [*range(10, 10 + options)],
                "present": [True] * options, "labels": 0,
            } for order in orders]
        )  # fmt: skip
    return questions


def ways(questions: Sequence[Sequence[Feature]], plain: Backbone) -> dict[str, tuple[Backbone, list[Any]]]:
    """Each way's backbone and its units."""
    packed, reason = with_packing(plain)
    assert not reason, reason
    columns = [*range(len(questions[0][0]["present"]))]
    packed_form: Any = packed.form
    with_reads = [
        [{**each, "reads": list(packed_form.reads(each, columns))} for each in question]
        for question in questions
    ]
    return {
        "plain": (plain, plain.collator().split(questions)),
        "packed": (packed, packed.collator().split(with_reads)),
    }


def forward(each: Backbone, units: Sequence[Any], tokens: int) -> np.ndarray[Any, Any]:
    """Logits of all units, in batches of about so many tokens."""
    collate, device = each.collator(), each.model.device
    (rows, length), *_ = collate.sizes(units[:1])
    size = max(1, tokens // (rows * length))
    found = []
    with torch.inference_mode():
        for start in range(0, len(units), size):
            batch = {k: v.to(device) for k, v in collate.units(units[start : start + size]).items()}
            found.append(each.form.logits(each.model, batch).float().cpu().numpy())
    return np.concatenate(found)


def step(each: Backbone, units: Sequence[Any], tokens: int) -> None:
    """Forwards and backwards, a question at a time, gradients added up; no weight changes."""
    collate, device = each.collator(), each.model.device
    for unit in units:
        batch = {k: v.to(device) for k, v in collate.units([unit]).items()}
        logits = each.form.logits(each.model, batch)
        torch.nn.functional.cross_entropy(logits, batch["labels"]).backward()
    each.model.zero_grad()


def paired(
    work: Callable[[Backbone, Sequence[Any], int], Any], both: dict[str, tuple[Backbone, list[Any]]],
    tokens: int, repeats: int,
) -> tuple[dict[str, float], float, dict[str, int]]:  # fmt: skip
    """Median seconds of each way, the median ratio of turns side by side, and the peak memory of each."""
    seconds: dict[str, list[float]] = {name: [] for name in both}
    peaks: dict[str, int] = {}
    for turn in range(repeats + 1):
        for name, (each, units) in both.items():
            with measured(name) as usage, Watch() as watch:
                start = time.perf_counter()
                work(each, units, tokens)
                if each.model.device.type == "cuda":
                    torch.cuda.synchronize()
                taken = time.perf_counter() - start
            # The first turn warms up.
            if turn:
                seconds[name].append(taken)
            peaks[name] = max(peaks.get(name, 0), usage.gpu_peak or watch.peak)
    ratios = [slow / fast for slow, fast in zip(seconds["plain"], seconds["packed"])]
    return {k: statistics.median(v) for k, v in seconds.items()}, statistics.median(ratios), peaks


def table(
    plain: Backbone, grid: Sequence[tuple[int, int, int]], count: int, repeats: int, trains: bool
) -> list[Row]:
    """A row a shape, and a row with rotations."""
    rows = []
    for (prefix, option, options), rotated in itertools.product(grid, (False, True)):
        form = "letters" if rotated else "options"
        units = (turned if rotated else made)(count, prefix, option, options)
        both = ways(units, plain._replace(form=form_of(form, DECODER)))
        scores = {name: forward(each, data, 8_192) for name, (each, data) in both.items()}
        own = option * options if rotated else option
        copies = ROTATIONS if rotated else options
        seconds, ratio, peaks = paired(forward, both, 8_192, repeats)
        training = f"{paired(step, both, 0, repeats)[1]:.2f}" if trains else None
        scored = count * copies * (options if rotated else 1)
        rows.append(
            {
                "prefix": str(prefix), "option": str(option), "options": str(options),
                "form": f"letters, {ROTATIONS} orders" if rotated else form,
                "options/s": f"{scored / seconds['packed']:,.1f}",
                "plain": f"{scored / seconds['plain']:,.1f}",
                "ratio": f"{ratio:.2f}", "training step": training,
                "by tokens": f"{copies * (prefix + own) / (prefix + copies * own):.2f}",
                "peak": show_size(peaks["packed"]), "plain peak": show_size(peaks["plain"]),
                "largest difference": f"{np.abs(scores['plain'] - scores['packed']).max():.0e}",
            }
        )  # fmt: skip
    return rows


def read(path: Path, most: int) -> tuple[Questions, list[Item]]:
    """The first questions of a set, with the texts that they bring."""
    questions = Questions.read(path)
    questions = questions.take(range(min(most, len(questions))))
    return questions, [
        Item(q.prompt, q.options, (paragraphs_as_snippets(q.context or ""),) * len(q.options), q.answer)
        for q in questions
    ]


def real(path: Path, plain: Backbone, most: int, repeats: int) -> Row:
    """A question set with the texts that it brings, by its own lengths, as a ranker answers it."""
    questions, items = read(path, most)
    both = {"plain": plain, "packed": with_packing(plain)[0]}
    seconds: dict[str, list[float]] = {name: [] for name in both}
    scores = {}
    for _ in range(repeats):
        for name, each in both.items():
            start = time.perf_counter()
            scores[name] = each.form.score(each, Writer(plain.tokenizer, _PLAIN, _ROW), items, quiet=True)
            seconds[name].append(time.perf_counter() - start)
    present = questions.present
    ratio = statistics.median(a / b for a, b in zip(seconds["plain"], seconds["packed"]))
    speeds = {name: present.sum() / statistics.median(each) for name, each in seconds.items()}
    return {
        "questions": path.stem, "n": str(len(questions)), "options/s": f"{speeds['packed']:.1f}",
        "plain": f"{speeds['plain']:.1f}", "ratio": f"{ratio:.2f}",
        "by tokens": f"{tokens_of(both['plain'], items) / tokens_of(both['packed'], items):.2f}",
        "largest difference": f"{np.abs(scores['plain'] - scores['packed'])[present].max():.0e}",
    }  # fmt: skip


def tokens_of(each: Backbone, items: Sequence[Item]) -> int:
    """The tokens that a way reads, without padding."""
    writer = Writer(each.tokenizer, _PLAIN, _ROW)
    batch = [each.collator()([each.form.encode(writer, item)]) for item in items]
    return sum(
        int((one["group"] >= 0).sum() if "group" in one else one["attention_mask"].sum()) for one in batch
    )


def harness(path: Path, plain: Backbone, most: int) -> Row:
    """The same requests by lm-evaluation-harness, against packed rows."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    questions, items = read(path, most)
    device = plain.model.device.type
    with tempfile.TemporaryDirectory() as folder:
        plain.model.save_pretrained(folder)
        plain.tokenizer.save_pretrained(folder)
        # It asks for a token to begin with, which it does not use here.
        theirs = HFLM(
            pretrained=folder, device=device, batch_size=8, max_length=_ROW, add_bos_token=False,
            prefix_token_id=plain.tokenizer.cls_token_id,
        )  # fmt: skip
    requests = [
        Instance("loglikelihood", {}, (f"{q.context}\n\nQuestion: {q.prompt}\nAnswer:", f" {option}"), number)
        for number, q in enumerate(questions) for option in q.options if option is not None
    ]  # fmt: skip
    start = time.perf_counter()
    answers = theirs.loglikelihood(requests, disable_tqdm=True)
    their_seconds = time.perf_counter() - start
    packed, _ = with_packing(plain)
    start = time.perf_counter()
    scores = packed.form.score(packed, Writer(plain.tokenizer, _PLAIN, _ROW), items, quiet=True)
    seconds = time.perf_counter() - start
    # Where a row is cut they leave out its beginning, and we the end of its context.
    sizes = [[len(theirs.tok_encode(text)) for text in request.args] for request in requests]
    means = np.array([sum_ / own for (sum_, _), (_, own) in zip(answers, sizes)])
    whole = np.array([sum(each) <= _ROW for each in sizes])
    return {
        "questions": path.stem, "requests": f"{len(requests):,}",
        "options/s": f"{len(requests) / seconds:.1f}",
        "harness": f"{len(requests) / their_seconds:.1f}", "ratio": f"{their_seconds / seconds:.2f}",
        "largest difference": f"{np.abs(scores[questions.present] - means)[whole].max():.0e}",
    }  # fmt: skip


def _shape(text: str) -> tuple[int, int, int]:
    prefix, option, options = map(int, text.split("/"))
    return prefix, option, options


def main() -> int:
    flags = parser(__doc__ or "")
    flags.add_argument(
        "--sets", type=Path, nargs="+", default=[], metavar="FILE", help="questions with their contexts"
    )
    flags.add_argument(
        "--most", type=int, default=200, metavar="N", help="questions of each set (default: 200)"
    )
    flags.add_argument(
        "--shapes", type=_shape, nargs="*", default=GRID, metavar="PREFIX/OPTION/OPTIONS",
        help="tokens of the prefix and of an option, and how many options (default: all of the grid)",
    )  # fmt: skip
    flags.add_argument(
        "--questions", type=int, metavar="N", help="questions of each shape (default: 2, with a GPU 8)"
    )
    flags.add_argument("--repeats", type=int, default=_REPEATS, metavar="N", help="turns side by side")
    flags.add_argument("--size", choices=SIZES, help="of the model (default: by the device)")
    flags.add_argument("--nf4", action="store_true", help="linear layers in 4 bits; no training step")
    flags.add_argument("--no-training", action="store_true", help="no training step")
    flags.add_argument("--gpu", metavar="SIZE", help="GPU memory to keep within, e.g. 15GB")
    flags.add_argument("--harness", action="store_true", help="compare with lm-evaluation-harness too")
    arguments = flags.parse_args()
    keep_within(arguments.gpu)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, repeats = (arguments.size or device, arguments.repeats)
    shapes, most = arguments.shapes, arguments.most
    if arguments.quick:
        size, repeats, shapes, most = "quick", 1, QUICK, 20
    plain = backbone(size, device, arguments.nf4)
    form = f"{size}, NF4" if arguments.nf4 else size
    note = f"{where()}; a Llama of random weights ({form}); medians of {repeats} turns side by side."
    if shapes:
        count = arguments.questions or (2 if device == "cpu" else 8)
        rows = table(plain, shapes, count, repeats, trains=not (arguments.nf4 or arguments.no_training))
        report("Options a second over packed rows", rows, arguments.json, note)
    if arguments.sets:
        rows = [real(path, plain, most, repeats) for path in arguments.sets]
        report("Packed rows over question sets with their texts", rows, None, note)
    if arguments.harness:
        rows = [harness(path, plain, most) for path in arguments.sets]
        report("Packed rows against lm-evaluation-harness", rows, None, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
