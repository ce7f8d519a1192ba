"""kaggle-rag: answer science multiple-choice questions with a model and an offline Wikipedia."""

__version__ = "0.1.0"
