"""A Wikipedia corpus to a searchable index, and its checks."""

from kaggle_rag.start import prepare

prepare()
