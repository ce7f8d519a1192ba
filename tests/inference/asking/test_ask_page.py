"""The page to ask in: the answer that the terminal gives, to those alone who have its address."""

import http.client
import signal
import subprocess
import sys
import threading
from urllib.parse import urlencode, urlsplit

import pytest
from browser import Browser, violations
from conftest import ROOT
from report_toys import cli, parsed

from inference.asking.server import AskServer
from inference.asking.session import Session
from kaggle_rag.config import RankerSettings, Solution
from kaggle_rag.rankers.resources import Resources

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
PROMPT = "Which is the larger moon of Mars?"
MOONS = ["Titan", "Phobos", "Deimos"]


@pytest.fixture(scope="module")
def server(facts_index):
    """A page that answers by two rankers, in a thread of its own."""
    rankers = [RankerSettings(), RankerSettings(options={"score": "novel"})]
    solution = Solution(index=facts_index, rankers=rankers, device="cpu")
    with AskServer() as server, Session(Resources.open(solution)) as server.session:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def request(server, body=None, path=None, **headers):
    """The answer to one request: its status, its headers, and its page as a tree."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    given.setdefault("Content-Type", "application/x-www-form-urlencoded")
    path = urlsplit(server.address).path if path is None else path
    connection.request("GET" if body is None else "POST", path, body, given)
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, parsed(content)


def ask(server, prompt, options, **headers):
    return request(server, urlencode({"prompt": prompt, "options": "\r\n".join(options)}), **headers)


def test_the_answer_is_that_of_the_session_with_its_evidence(server):
    status, _, page = ask(server, PROMPT, MOONS)
    assert status == 200
    body = page.one("details", class_="q").one("tbody")
    rows = [[row.one("th").text, *(cell.text for cell in row.all("td"))] for row in body.all("tr")]
    from inference.asking.typed import from_words

    found = server.session.answer(from_words(PROMPT, MOONS))
    for column, (text, *cells) in enumerate(rows):
        tables = [found.mixed, *found.tables.values()]
        assert MOONS[column] in text and cells == [f"{table[0, column]:.3f}" for table in tables]
    assert "chosen" in rows[1][0] and page.one("mark").text == "Phobos is the larger moon of Mars."
    # The form still holds the question, for the next one.
    assert page.one("textarea", id="prompt").text.strip() == PROMPT
    assert page.one("textarea", id="options").text.split() == MOONS


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [(" ", MOONS, "at least two options"), (PROMPT, ["Titan", " "], "at least two options"),
     (PROMPT, [f"o{n}" for n in range(27)], "27 options")],
    ids=["empty question", "one option", "too many options"],
)  # fmt: skip
def test_a_question_that_cannot_be_ranked_is_told_in_the_page(server, prompt, options, said):
    status, _, page = ask(server, prompt, options)
    assert status == 400 and said in page.one(role="alert").text
    assert not page.all("details")


def test_what_was_typed_is_shown_as_text(server):
    evil = "</textarea><script>alert(1)</script>"
    _, _, page = ask(server, evil, [evil, "two"])
    assert not page.all("script") and len(page.all("textarea")) == 2
    assert evil in page.one("details", class_="q").text


def test_only_who_has_the_address_is_answered(server):
    own = f"127.0.0.1:{server.server_port}"
    assert request(server)[0] == 200
    for path in ("/", "/x/", urlsplit(server.address).path + "x", urlsplit(server.address).path[:-2] + "/"):
        status, _, page = request(server, path=path)
        assert status == 404 and server.token not in page.text
    # A name that was made to point here, and a form of another site.
    assert request(server, Host=f"evil.example:{server.server_port}")[0] == 403
    assert ask(server, PROMPT, MOONS, Origin="https://evil.example")[0] == 403
    assert ask(server, PROMPT, MOONS, Origin="null")[0] == 403
    assert ask(server, PROMPT, MOONS, Origin=f"http://{own}")[0] == 200
    assert request(server, Host=f"localhost:{server.server_port}")[0] == 200


def test_what_is_no_form_is_refused(server):
    assert request(server, b"{}", Content_Type="application/json")[0] == 400
    assert request(server, b"", Content_Length="many")[0] == 400
    assert request(server, b"", Content_Length="2000000")[0] == 413
    assert request(server, b"\xff=%FF&options")[0] == 400


def test_the_page_may_ask_for_nothing_and_be_framed_by_nobody(server):
    _, headers, page = request(server)
    (policy,) = [each.attributes["content"] for each in page.all("meta") if "http-equiv" in each.attributes]
    assert "default-src 'none'" in policy and "script-src" not in policy and "form-action 'self'" in policy
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Cache-Control"] == "no-store" and "Python" not in headers["Server"]


def test_a_fault_of_the_kit_leaves_the_page_open(server, monkeypatch, capsys):
    # The retriever is what a damaged index would break.
    monkeypatch.setattr(server.session, "retriever", lambda question: 1 / 0)
    status, _, page = ask(server, PROMPT, MOONS)
    assert status == 500 and "the terminal says why" in page.one(role="alert").text
    assert "ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.undo()
    assert ask(server, PROMPT, MOONS)[0] == 200


def test_the_program_prints_its_address_and_ends_by_ctrl_c(facts_index):
    words = [sys.executable, "-m", "inference", "ask", "--index", facts_index, "--web"]

    def heard():
        # A test run that was started in the background ignores Ctrl-C, and so do its children.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, preexec_fn=heard) as program:
        try:
            address = urlsplit(program.stdout.readline().split()[1])
            connection = http.client.HTTPConnection(address.netloc, timeout=60)
            connection.request("GET", address.path)
            assert connection.getresponse().status == 200
            program.send_signal(signal.SIGINT)
            assert program.wait(30) == 0
        finally:
            program.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--web", "--prompt", "x"], "--web and --prompt"), (["--web", "--json"], "--web and --json"),
     (["--port", "8000"], "--port without --web"), (["--web", "--port", "70000"], "70000")],
    ids=" ".join,
)  # fmt: skip
def test_flags_that_do_not_go_together_are_refused(facts_index, capsys, words, said):
    assert cli("ask", "--index", facts_index, *words) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(facts_index, server, capsys):
    assert cli("ask", "--index", facts_index, "--web", "--port", server.server_port) == 2
    assert "cannot be opened" in capsys.readouterr().err


def test_a_browser_asks_and_sees_the_answer(server, tmp_path):
    with Browser(tmp_path) as browser:
        browser.go(server.address)
        browser.value(f"document.getElementById('prompt').value = {PROMPT!r}")
        browser.value("document.getElementById('options').value = 'Titan\\nPhobos\\nDeimos'")
        browser.submit("document.querySelector('form').requestSubmit()")
        assert browser.value("document.querySelector('mark').textContent").startswith("Phobos")
        assert browser.complaints == []
        assert {urlsplit(each).netloc for each in browser.requests} == {urlsplit(server.address).netloc}
        assert violations(browser) == []
