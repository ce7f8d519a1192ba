"""Questions and an index to contexts, predictions, a submission, and its score."""
