"""Retrieval: articles to passages, passages to vectors, questions to contexts."""
