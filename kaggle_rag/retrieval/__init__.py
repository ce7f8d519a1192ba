"""Retrieval: from questions to contexts."""
