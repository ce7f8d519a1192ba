"""The training stage: python -m training  retriever · reranker."""
