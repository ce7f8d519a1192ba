"""Precisions by device: what is chosen, and what is refused with the reason."""

import pytest

from kaggle_rag.models.devices import precision_of
from kaggle_rag.runtime.errors import ConfigError


@pytest.mark.parametrize(("emulated", "half"), [(True, "fp16"), (False, "bf16")])
def test_a_card_without_bf16_computes_in_fp16_and_refuses_to_emulate(monkeypatch, emulated, half):
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation or not emulated
    )
    assert precision_of("auto", "cuda:0") == precision_of(None, "cuda") == half
    assert precision_of("fp32", "cuda") == "fp32"
    # A CPU is not asked what a GPU can.
    assert precision_of("bf16", "cpu") == "bf16" and precision_of(None, "cpu") == "fp32"
    if emulated:
        with pytest.raises(ConfigError, match="no bf16 in hardware") as refused:
            precision_of("bf16", "cuda", "rankers.options.precision")
        assert refused.value.where == "rankers.options.precision" and "fp16" in refused.value.expected
    else:
        assert precision_of("bf16", "cuda") == "bf16"
