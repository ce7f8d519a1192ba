"""The training stage: python -m training  retriever · reranker."""

from kaggle_rag.start import prepare

prepare()
