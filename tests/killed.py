"""Processes of their own that are killed; they begin with the libraries imported, which takes seconds."""

import multiprocessing
import os
import signal
import sys
import time

# A server that has imported them forks a process whenever one is asked for.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["sentence_transformers", "wiki_index.build", "training.rankers.train"])


def _build(corpus, out, model, rows):
    from kaggle_rag.index.encoder import Encoder
    from kaggle_rag.text.units import Unit
    from wiki_index.build import build
    from wiki_index.corpus import Corpus
    from wiki_index.plan import Plan

    build(Plan(Corpus.open(corpus), out, {"minilm": Encoder(model)}, Unit("sentence"), shard_rows=rows))


def kill_build(plan, seen):
    """Begin a build, and kill it by SIGKILL as soon as a file is there."""
    given = plan.corpus.path, plan.out, plan.encoders["minilm"].card.name, plan.shard_rows
    child = _PROCESSES.Process(target=_build, args=given)
    child.start()
    while not seen.exists() and not plan.out.exists() and child.is_alive():
        time.sleep(0.001)
    child.kill()
    child.join()


def _train(step, words):
    from training.__main__ import main
    from training.loop.trainer import Progress

    def kill(progress, args, state, control, **kwargs):
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Progress.on_step_end = kill
    sys.argv = ["training", *words]
    sys.exit(main())


def kill_training(step, *words):
    """The exit code of ``python -m training`` with these words, which kills itself at a step."""
    return _exit_code(_train, step, words)


def _generate(count, words):
    from inference.__main__ import main
    from inference.answer_batches import AnswerBatches

    add, added = AnswerBatches.add, []

    def kill(batches, rows, answers):
        add(batches, rows, answers)
        added.append(rows)
        if len(added) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    AnswerBatches.add = kill
    sys.argv = ["inference", *words]
    sys.exit(main())


def kill_generation(count, *words):
    """The exit code of ``python -m inference`` with these words, which kills itself after so many batches."""
    return _exit_code(_generate, count, words)


def _exit_code(target, *arguments):
    child = _PROCESSES.Process(target=target, args=arguments)
    child.start()
    child.join()
    return child.exitcode
