"""The embedded sample competition: an encyclopedia of 88 articles and 176 questions about it.

Written for this project and dedicated to the public domain (CC0 1.0). ``articles.jsonl`` is the
corpus, ``train.csv`` has answers, ``test.csv`` has none, ``test_answers.csv`` is its solution.
Questions about one article stand in one half only, but for one article a domain.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
ARTICLES, TRAIN, TEST, TEST_ANSWERS = (
    FOLDER / name for name in ("articles.jsonl", "train.csv", "test.csv", "test_answers.csv")
)
