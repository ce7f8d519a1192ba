"""A Wikipedia corpus to a searchable index, and its checks."""

from kaggle_rag.runtime.start import prepare

prepare()
