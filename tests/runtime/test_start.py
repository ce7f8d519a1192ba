"""What a command imports, and how threads and libraries behave in it: asked of processes of their own."""

import os
import subprocess
import sys

import pytest

# Imported by nothing that only looks at what it was given.
HEAVY = {"torch", "transformers", "sentence_transformers", "sklearn", "peft", "bitsandbytes", "accelerate"}
# Imported by no search: torch alone is what a search needs.
BESIDE = HEAVY - {"torch"}
# Runs a program as python -m does, then says what it imported.
RUN = """
import runpy, sys
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)
except SystemExit as end:
    code = end.code
print("imported", *sorted({name.partition(".")[0] for name in sys.modules}))
sys.exit(code)
"""


def imported(program, *arguments, code):
    """The packages in memory at the end of a command, and what it said."""
    words = [program, *map(str, arguments)]
    script = f"import sys\nsys.argv = {words!r}\n{RUN}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, input="")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    told = next(line for line in done.stdout.splitlines() if line.startswith("imported "))
    return set(told.split()[1:]), done.stderr


def table(path, text="id,prompt,A,B,answer\n1,Which?,this,that,A\n"):
    path.write_text(text)
    return path


BAD = {
    "no index to search": ("wiki_index", "search", "{0}/none", "iron"),
    "no corpus": ("wiki_index", "build", "{0}/none.jsonl", "{0}/index"),
    "no encoder": ("wiki_index", "build", "{corpus}", "{0}/index", "--encoder", "no/such"),
    "a foreign folder": ("wiki_index", "build", "{corpus}", "{0}"),
    "no index to reuse": ("wiki_index", "build", "{corpus}", "{0}/index", "--reuse", "{0}/none"),
    "one encoder twice": ("wiki_index", "build", "{corpus}", "{0}/i", "--encoder", "a/x", "--encoder", "b/x"),
    "no retriever": ("wiki_index", "search", "{index}", "iron", "--retriever", "none"),
    "no questions to fit": ("wiki_index", "fit", "{index}", "--questions", "{0}/none.csv", "--gold", "g"),
    "no questions": ("inference", "submit", "--questions", "{0}/none.csv", "--index", "{index}",
                     "--out", "{0}/out.csv"),
    "a setting that is none": ("inference", "submit", "--questions", "{questions}", "--index", "{index}",
                               "--out", "{0}/out.csv", "--set", "contexts.tokns=5"),
    "no ranker": ("inference", "submit", "--questions", "{questions}", "--index", "{index}", "--out",
                  "{0}/out.csv", "--set", "rankers=[{{kind: trained, options: {{folder: {0}/none}}}}]"),
    "no index to ask": ("inference", "ask", "--index", "{0}/none", "--prompt", "p", "--option", "a",
                        "--option", "b"),
    "a device that is none": ("inference", "contexts", "--index", "{index}", "--questions", "{questions}",
                              "--out", "{0}/c.parquet", "--device", "gpu0"),
    "no submission": ("inference", "score", "{0}/none.csv", "{questions}"),
    "no column": ("training", "retriever", "--questions", "{questions}", "--positive", "fact", "--out",
                  "{0}/encoder"),
    "no answers": ("training", "multiple-choice", "--questions", "{unanswered}", "--model",
                   "all-MiniLM-L6-v2", "--out", "{0}/ranker"),
    "no contexts": ("training", "reranker", "--questions", "{questions}", "--index", "{0}/none", "--out",
                    "{0}/reranker"),
    "no ranker to merge": ("training", "merge", "{0}/none", "{0}/merged"),
    "no runs to compare": ("training", "compare", "{0}/none"),
    "no solution": ("training", "cross-validate", "{0}/none.yaml"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_before_a_library_is_imported(case, facts_index, tmp_path):
    corpus = table(tmp_path / "corpus.jsonl", '{"title": "Iron", "text": "Iron rusts."}\n')
    places = {
        "corpus": corpus, "index": facts_index, "questions": table(tmp_path / "questions.csv"),
        "unanswered": table(tmp_path / "unanswered.csv", "id,prompt,A,B\n1,Which?,this,that\n"),
    }  # fmt: skip
    program, *arguments = (word.format(tmp_path, **places) for word in BAD[case])
    found, said = imported(program, *arguments, code=2)
    assert said.startswith("error: ") and not found & HEAVY


def test_a_search_imports_torch_and_no_library_beside_it(facts_index):
    found, said = imported("wiki_index", "search", facts_index, "moon of Mars", code=0)
    assert "torch" in found and not found & BESIDE and not said


def test_a_question_is_answered_without_them_too(facts_index):
    words = ["--prompt", "Which moon is the larger?", "--option", "Phobos", "--option", "Deimos"]
    found, said = imported("inference", "ask", "--index", facts_index, *words, code=0)
    assert "torch" in found and not found & BESIDE and not said


def printed(script, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**kept, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


# torch's own copy of the library shows what it read when it was loaded.
SHOWN = "import wiki_index, torch"


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP is that of torch on Linux")
@pytest.mark.parametrize(
    "given, spins",
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
)
def test_threads_wait_briefly_unless_the_user_decided(given, spins):
    _, said = printed(SHOWN, OMP_DISPLAY_ENV="VERBOSE", **given)
    assert f"GOMP_SPINCOUNT = '{spins}'" in said


@pytest.mark.parametrize("program", ["inference", "training", "wiki_index"])
def test_what_a_program_starts_waits_as_it_does(program):
    child = "import os; print(os.environ['GOMP_SPINCOUNT'])"
    started = f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    script = f"import subprocess, sys, {program}\n{started}"
    assert printed(script)[0] == "1000"


# That a process of several threads forks, Python 3.12 says itself; tokenizers is what is listened to.
FORK = """
import wiki_index, os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from tokenizers import Tokenizer, models, pre_tokenizers
made = Tokenizer(models.WordLevel({"iron": 0, "[UNK]": 1}, unk_token="[UNK]"))
made.encode_batch(["iron"] * 100)
if os.fork() == 0:
    made.encode("iron")
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("script", ["import training, bitsandbytes", FORK])
def test_words_of_libraries_to_their_developers_are_not_heard(script):
    if "bitsandbytes" in script:
        pytest.importorskip("bitsandbytes")
    assert printed(script) == ("", "")


def test_a_user_hears_them_who_asks_for_it():
    script = "import inference, os; print(os.environ['TRANSFORMERS_VERBOSITY'])"
    assert printed(script, TRANSFORMERS_VERBOSITY="info")[0] == "info"
