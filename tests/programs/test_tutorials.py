"""The tutorials of competitions, command by command, as a reader would type them."""

import pytest
from tutorial_toys import COUNT, Place

from kaggle_rag.data.questions import Questions
from kaggle_rag.data.submission import read_submission
from kaggle_rag.sample import ARTICLES

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_the_science_exam(place):
    place.competition("kaggle-llm-science-exam", "ABCDE")
    corpus = place.stand_in / "wikipedia" / "20231101.en"
    corpus.mkdir(parents=True)
    (corpus / "articles.jsonl").write_bytes(ARTICLES.read_bytes())
    place.freeze()
    place.follow("tutorial.md")
    asked = Questions.read(place.folder / "data" / "test.csv")
    assert asked.width == 5
    assert [str(key) for key, _ in read_submission(place.folder / "submission.csv").items()] == [
        str(key) for key in asked.ids
    ]
    pages = ["baseline.html", "experiment.html"]
    assert all((place.folder / page).stat().st_size > 10_000 for page in pages)
    calls = (place.stand_in / "kaggle.log").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["competitions", "datasets", "kernels", "competitions"]


def test_questions_and_instructions(place):
    place.competition("exam-of-instructions", "ABCD")
    (place.folder / "articles.jsonl").write_bytes(ARTICLES.read_bytes())
    place.freeze()
    place.follow("tutorial-with-instructions.md")
    asked = Questions.read(place.folder / "data" / "test.csv")
    assert asked.width == 4 and 0 < asked.is_question.sum() < COUNT
    assert len(read_submission(place.folder / "submission.csv")) == COUNT
    page = (place.folder / "check.html").read_text()
    assert "instruction" in page
