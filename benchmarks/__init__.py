"""One script per claim: ours and the alternative side by side, medians, ratios and peak memory."""

from kaggle_rag.runtime.start import prepare

prepare()
