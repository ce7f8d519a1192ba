"""The training stage: python -m training  retriever · reranker."""

from kaggle_rag.runtime.start import prepare

prepare()
