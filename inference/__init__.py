"""Questions and an index to contexts, predictions, a submission, and its score."""

from kaggle_rag.threads import wait_briefly

wait_briefly()
