"""The training stage: python -m training  retriever · reranker."""

from kaggle_rag.threads import wait_briefly

wait_briefly()
