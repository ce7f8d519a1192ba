"""Options a second of packed rows against a row an option, in inference and in a training step.

The same model, precision and questions; the numbers are compared too. Beside each ratio stand those that
counts allow: of tokens, of which a plain forward reads k (p + s) and a packed one p + k s, and of the
multiplications in linear layers, in attention's visible pairs, and in the head at the tokens that are read,
which are nearly as many for a packed forward as for a plain one. With --harness,
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

from benchmarks.common import Watch, keep_within, parser, report, where
from benchmarks.option_rows import ROTATIONS, SIZES, TOKENIZER, VOCABULARY, backbone, made, turned
from kaggle_rag.data.contexts import paragraphs_as_snippets
from kaggle_rag.data.questions import Questions
from kaggle_rag.models.answering.forms import DECODER, form_of
from kaggle_rag.models.answering.item import Feature, Item
from kaggle_rag.models.layouts import Layout
from kaggle_rag.models.loading import Backbone, with_packing
from kaggle_rag.models.writer import Writer
from kaggle_rag.runtime.errors import run_program, show_size
from kaggle_rag.runtime.limits import measured

Row = dict[str, str | None]
GRID = [*itertools.product((256, 512, 1024), (8, 32), (4, 5))]
QUICK = [(256, 8, 4)]
_REPEATS = 5
# The longest row of a question set.
_ROW = 1024
# A row without special tokens of its own, so that an option ends it.
_PLAIN = Layout(
    "{context}\n\nQuestion: {prompt}\nAnswer:", answer=" {option}", add_special_tokens=False
)  # fmt: skip


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
        vocabulary = plain.model.config.vocab_size
        units = (turned if rotated else made)(vocabulary, count, prefix, option, options)
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
                "by operations": f"{operations(plain, rotated, prefix, option, options):.2f}",
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


def operations(plain: Backbone, rotated: bool, prefix: int, option: int, options: int) -> float:
    """How many times as many multiplications a plain forward needs as a packed one."""
    model = plain.model
    own, copies = (option * options, ROTATIONS) if rotated else (option, options)
    linear = sum(
        module.in_features * module.out_features
        for module in model.base_model.modules() if isinstance(module, torch.nn.Linear)
    )  # fmt: skip
    pair = 2 * model.config.hidden_size * model.config.num_hidden_layers
    head = model.config.hidden_size * model.config.vocab_size
    branch = own * prefix + own * (own + 1) / 2
    # The first token of every option is told by the last of the prefix.
    reads = (1, copies) if rotated else (own, 1 + copies * (own - 1))
    whole = linear * (prefix + own) + pair * (prefix * (prefix + 1) / 2 + branch) + head * reads[0]
    packed = linear * (prefix + copies * own) + pair * (prefix * (prefix + 1) / 2 + copies * branch)
    ratio: float = copies * whole / (packed + head * reads[1])
    return ratio


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
    flags.add_argument("--harness", action="store_true", help="score the sets with it too")
    arguments = flags.parse_args()
    keep_within(arguments.gpu)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, repeats = (arguments.size or device, arguments.repeats)
    shapes, most = arguments.shapes, arguments.most
    if arguments.quick:
        size, repeats, shapes, most = "quick", 1, QUICK, 20
    form = f"{size}, NF4" if arguments.nf4 else size
    note = f"{where()}; a Llama of random weights ({form}); medians of {repeats} turns side by side."
    if shapes:
        count = arguments.questions or (2 if device == "cpu" else 8)
        vocabulary = VOCABULARY.get(size, TOKENIZER)
        plain = backbone(size, device, arguments.nf4, vocabulary)
        rows = table(plain, shapes, count, repeats, trains=not (arguments.nf4 or arguments.no_training))
        report("Options a second over packed rows", rows, arguments.json, f"{note} {vocabulary:,} tokens.")
    if arguments.sets:
        plain = backbone(size, device, arguments.nf4)
        rows = [real(path, plain, most, repeats) for path in arguments.sets]
        report("Packed rows over question sets with their texts", rows, None, note)
        if arguments.harness:
            rows = [harness(path, plain, most) for path in arguments.sets]
            report("Packed rows against lm-evaluation-harness", rows, None, note)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
