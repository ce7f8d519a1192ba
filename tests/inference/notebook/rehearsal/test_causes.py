"""What a run left is put under Kaggle's error class, with its cause; the messages are real ones."""

import pytest

from inference.notebook.rehearsal.causes import fault_of, warnings
from inference.notebook.rehearsal.sandbox import Outcome
from inference.notebook.rehearsal.verdict import ErrorClass
from inference.notebook.rehearsal.watch import Caps, Watched

CAPS = Caps(60, 2 * 10**9, 10**9, 10**9)
THREW, COMPUTE = ErrorClass.EXCEPTION, ErrorClass.COMPUTE
RUN = ("RuntimeError", "-m inference submit failed with exit code 2: see above")


def judged(tmp_path, error="", message="", printed="", *, ended="", changed="", ram=10**8):
    outcome = Outcome(Watched(ram=ram, ended=ended), error, message, printed, changed, tmp_path, CAPS)
    return fault_of(outcome, ["1"], "ABCDE", 3)


@pytest.mark.parametrize(
    "error, message, printed, wanted, said",
    [
        (
            "MemoryError",
            "Unable to allocate 74.5 GiB for an array with shape (10000000000,)",
            "",
            COMPUTE,
            "memory is full",
        ),
        (*RUN[:1], "-m inference submit failed with exit code -9: see above", "", COMPUTE, "memory is full"),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 GiB.", "", COMPUTE, "GPU's memory"),
        (
            *RUN,
            "FAILED: rank: a (OutOfMemoryError: CUDA out of memory.)\nerror: no ranker answered",
            COMPUTE,
            "GPU's",
        ),
        (
            "RuntimeError",
            "[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you "
            "tried to allocate 4 bytes. Error code 12 (Cannot allocate memory)",
            "",
            COMPUTE,
            "memory is full",
        ),
        ("OSError", "[Errno 28] No space left on device: '/tmp/x'", "", COMPUTE, "a disk is full"),
        (
            *RUN,
            "error: /kaggle/working/x: the disk is full\n  do this:  free some space",
            COMPUTE,
            "a disk is full",
        ),
        (
            "OSError",
            "[Errno 30] Read-only file system: '/kaggle/input/science-exam/x'",
            "",
            THREW,
            "writes to its input: /kaggle/input/science-exam/x",
        ),
        (
            "CalledProcessError",
            "Command 'cp a b' returned non-zero exit status 1.",
            "cp: cannot create regular file '/kaggle/input/science-exam/x': Read-only file system\n",
            THREW,
            "writes to its input: /kaggle/input/science-exam/x",
        ),
        (
            "PermissionError",
            "[Errno 13] Permission denied: '/scratch/odd/input/science-exam/x'",
            "",
            THREW,
            "writes to its",
        ),
        (
            "RuntimeError",
            "-m pip install failed with exit code 1: see above",
            "ERROR: Could not find a version that satisfies the requirement bm25s==0.3 (from none)\n"
            "ERROR: No matching distribution found for bm25s==0.3\n",
            THREW,
            "pip finds no bm25s==0.3",
        ),
        (
            "RuntimeError",
            "x",
            "ERROR: faiss_cpu-1-cp313-cp313-linux_x86_64.whl is not a supported wheel on this platform.",
            THREW,
            "faiss_cpu-1-cp313-cp313-linux_x86_64.whl is for another Python",
        ),
        ("ModuleNotFoundError", "No module named 'bm25s'", "", THREW, "module bm25s is neither in the image"),
        (
            *RUN,
            "error: encoder: no model 'intfloat/e5' on this machine\n  expected: a folder",
            THREW,
            "must come from the hub, which cannot be reached: intfloat/e5",
        ),
        (
            "OSError",
            "We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in "
            "the cached files.",
            "",
            THREW,
            "a model must come from the hub",
        ),
        (
            "URLError",
            "<urlopen error [Errno -3] Temporary failure in name resolution>",
            "",
            THREW,
            "needs the internet",
        ),
        ("OSError", "[Errno 101] Network is unreachable", "", THREW, "needs the internet"),
        (
            "FileNotFoundError",
            "[Errno 2] No such file or directory: '/kaggle/input/exam/test.csv'",
            "",
            THREW,
            "a hard-coded path: /kaggle/input/exam/test.csv is not in this layout",
        ),
        (
            "FileNotFoundError",
            "/kaggle/input/b/index/x is missing or incomplete: upload the dataset again",
            "",
            THREW,
            "/kaggle/input/b/index/x is missing or incomplete",
        ),
        (
            "FileNotFoundError",
            "no test.csv under /kaggle/input: add the competition exam as an input",
            "",
            THREW,
            "the notebook finds no test.csv under /kaggle/input",
        ),
        (
            *RUN,
            "error: rankers.0: no such setting; did you mean 'kind'?\n",
            THREW,
            "RuntimeError: rankers.0: no such setting",
        ),
        (
            "ValueError",
            "cannot convert float NaN to integer",
            "",
            THREW,
            "ValueError: cannot convert float NaN",
        ),
        ("AssertionError", "", "", THREW, "AssertionError: AssertionError"),
    ],
)
def test_an_error_has_a_class_a_cause_and_a_cure(tmp_path, error, message, printed, wanted, said):
    fault = judged(tmp_path, error, message, printed)
    assert fault.error is wanted and said in fault.cause and fault.cure


def test_what_is_raised_counts_before_what_was_printed(tmp_path):
    printed = "W0000 could not load TensorRT: No module named 'tensorrt'\n"
    fault = judged(tmp_path, "OSError", "[Errno 28] No space left on device", printed)
    assert fault.error is COMPUTE


@pytest.mark.parametrize(
    "ended, wanted, said",
    [
        ("seconds", ErrorClass.TIMEOUT, "still running after 60 s"),
        ("ram", COMPUTE, "more than 2.00 GB of memory"),
        ("tmp", COMPUTE, "more than 1.00 GB to /tmp"),
        ("working", COMPUTE, "more than 1.00 GB to /kaggle/working"),
    ],
)
def test_a_cap_that_was_passed(tmp_path, ended, wanted, said):
    fault = judged(tmp_path, ended=ended)
    assert fault.error is wanted and said in fault.cause and fault.cure


def test_a_process_that_dies_at_the_edge_of_the_memory_was_killed_for_it(tmp_path):
    died = ("DeadKernelError", "the notebook's process died")
    assert judged(tmp_path, *died, ram=19 * 10**8).error is COMPUTE
    assert judged(tmp_path, *died, ram=10**8).error is THREW


def test_a_changed_input_counts_even_where_nothing_was_raised(tmp_path):
    (tmp_path / "submission.csv").write_text("id,prediction\n1,A\n")
    fault = judged(tmp_path, changed="science-exam/x")
    assert fault.error is THREW and "science-exam/x" in fault.cause
    assert judged(tmp_path) is None


def test_another_file_name_and_none(tmp_path):
    assert judged(tmp_path).error is ErrorClass.NOT_FOUND
    (tmp_path / "answers.csv").write_text("id,prediction\n1,A\n")
    fault = judged(tmp_path)
    assert fault.error is ErrorClass.NOT_FOUND and "it wrote answers.csv" in fault.cause


def test_stages_that_failed_and_were_survived_are_warnings(tmp_path):
    printed = "x\n\x1b[31mFAILED: rank: big (MemoryError: ).\x1b[0m The submission holds\nPARTIAL: only 3\n"
    outcome = Outcome(Watched(), "", "", printed, "", tmp_path, CAPS)
    assert [line.split()[0] for line in warnings(outcome)] == ["FAILED:", "PARTIAL:"]
