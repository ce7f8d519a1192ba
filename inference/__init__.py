"""From questions and an index to contexts, predictions, a submission, and its score."""

from kaggle_rag.runtime.start import prepare

prepare()
