"""Rankers: questions and contexts in, probabilities out."""
