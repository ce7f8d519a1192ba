"""A Wikipedia corpus to a searchable index, and its checks."""

from kaggle_rag.threads import wait_briefly

wait_briefly()
