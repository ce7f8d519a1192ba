"""A batch of questions to one number an option, for every form of answering.

All give ``(batch, options)`` float32 logits, absent options at the lowest float; a softmax over them is
the probability of each option. Training and inference call the same functions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

Batch = dict[str, torch.Tensor]
# Beside what the backbone reads.
_OURS = {"present", "labels", "weights", "choices", "is_answer", "answers", "said", "rows"}
# Texts that are embedded at once: like lengths together, so that little of it is padding.
_TEXTS = 64
# Of cosines: that of the training-free ranker, at which an untrained encoder has the least log loss.
_TEMPERATURE = 0.12


def choice(model: Any, batch: Batch) -> torch.Tensor:
    """A multiple-choice head: it takes ``(batch, options, tokens)`` as it is."""
    return _masked(model(**_inputs(batch)).logits, batch)


def bi_encoder(model: Any, batch: Batch) -> torch.Tensor:
    """`kaggle_rag.rankers.similarity.novel` by vectors that learn, through the best snippet of each option.

    An encoder of sentences begins where the training-free ranker stands, and is trained by the right
    option alone: nobody has to say which snippet holds the evidence.
    """
    wide = batch["present"].shape[1]
    rows, told = batch["rows"], batch["rows"][:, 1 + 2 * wide :] >= 0
    found = _vectors(model, batch)[rows.clamp(min=0)]
    prompt, options, both, snippets = found.split([1, wide, wide, told.shape[1]], dim=1)
    words, prior = (options * prompt).sum(-1), (both * prompt).sum(-1)
    if not told.shape[1]:
        return _masked(words / _TEMPERATURE, batch)
    about = (snippets * prompt).sum(-1)
    said, added = (
        F.normalize(each - (each * prompt).sum(-1, keepdim=True) * prompt, dim=-1)
        for each in (snippets, both)
    )
    best = _best(both @ snippets.mT, told)
    agreement = _best(added @ said.mT * about[:, None], told)
    novel = best - 0.5 * prior + 0.5 * agreement + 0.25 * words
    return _masked(torch.where(told.any(1, keepdim=True), novel, words) / _TEMPERATURE, batch)


def _best(scores: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """``(b, k, m)`` to the largest of each option over the snippets that are there."""
    return scores.masked_fill(~told[:, None], torch.finfo(scores.dtype).min).amax(-1)


def _vectors(model: Any, batch: Batch) -> torch.Tensor:
    """Mean-pooled unit vectors of all texts, ``(texts, d)`` float32."""
    inputs = _flat(batch)
    lengths = inputs["attention_mask"].sum(1)
    order = lengths.argsort(descending=True, stable=True)
    parts = []
    for rows in order.split(_TEXTS):
        piece = {key: value[rows, : int(lengths[rows[0]])] for key, value in inputs.items()}
        hidden, mask = model(**piece).last_hidden_state.float(), piece["attention_mask"][..., None].float()
        parts.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(parts)[order.argsort()]


def binary(model: Any, batch: Batch) -> torch.Tensor:
    """A classification head over each row alone.

    With two labels the second one's mean over the other options is added: "is it right, given what
    else is offered?" (the first-placed team's head had the mean of the other options as an input).
    """
    questions, options = batch["present"].shape
    found = model(**_flat(batch)).logits.float().view(questions, options, -1)
    own = found[..., 0]
    if found.shape[-1] == 1:
        return _masked(own, batch)
    said = found[..., 1] * batch["present"]
    others = (batch["present"].sum(1, keepdim=True) - 1).clamp(min=1)
    return _masked(own + (said.sum(1, keepdim=True) - said) / others, batch)


def letters(model: Any, batch: Batch) -> torch.Tensor:
    """The next token's logits of the options' letters."""
    # The head is as wide as the vocabulary: only the last position is asked for.
    found = model(**_flat(batch), logits_to_keep=1).logits[:, -1].float()
    return _masked(found.gather(1, batch["choices"]), batch)


def options(model: Any, batch: Batch) -> torch.Tensor:
    """Mean log-likelihood of each option's own tokens behind the question.

    The mean, since a sum punishes long options (Brown et al. 2020, section 2.4). Rows are padded on the
    left, so that all answers end where the row does.
    """
    questions, wide, tokens = batch["input_ids"].shape
    is_answer = batch["is_answer"].view(-1, tokens)
    longest = tokens - int(torch.nonzero(is_answer.any(0))[0])
    found = model(**_flat(batch), logits_to_keep=longest + 1).logits[:, -longest - 1 : -1].float()
    said = batch["input_ids"].view(-1, tokens)[:, -longest:]
    likely = _mean_likelihood(found, said, is_answer[:, -longest:])
    return _masked(likely.view(questions, wide), batch)


def decoded_letters(model: Any, batch: Batch) -> torch.Tensor:
    """The decoder's logits of the options' letters, of an encoder-decoder."""
    start = torch.full((len(batch["present"]), 1), _start(model), device=batch["input_ids"].device)
    said = torch.cat([start, batch["said"]], dim=1)
    found = model(**_flat(batch), decoder_input_ids=said).logits[:, -1].float()
    return _masked(found.gather(1, batch["choices"]), batch)


def decoded_options(model: Any, batch: Batch) -> torch.Tensor:
    """Mean log-likelihood of each option as the decoder's answer."""
    questions, wide, tokens = batch["answers"].shape
    answers = batch["answers"].view(-1, tokens)
    mask = answers >= 0
    start = torch.full((len(answers), 1), _start(model), device=answers.device)
    said = torch.cat([start, answers.clamp(min=0)[:, :-1]], dim=1)
    found = model(**_flat(batch), decoder_input_ids=said).logits.float()
    return _masked(_mean_likelihood(found, answers.clamp(min=0), mask).view(questions, wide), batch)


def _mean_likelihood(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``(rows, tokens, vocabulary)`` logits to the mean log-probability of ``ids`` where ``mask`` is."""
    chosen = logits.gather(2, ids[..., None])[..., 0] - logits.logsumexp(2)
    return (chosen * mask).sum(1) / mask.sum(1).clamp(min=1)


def _inputs(batch: Batch) -> Batch:
    return {key: value for key, value in batch.items() if key not in _OURS}


def _flat(batch: Batch) -> Batch:
    """Rows of all questions one below the other, ``(batch x rows, tokens)``."""
    return {key: value.flatten(0, 1) for key, value in _inputs(batch).items()}


def _start(model: Any) -> int:
    # Behind the wrapper of a model that is trained on several devices.
    return int(getattr(model, "module", model).config.decoder_start_token_id)


def _masked(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    logits = logits.float()
    return logits.masked_fill(~batch["present"], torch.finfo(logits.dtype).min)
