"""python -m wiki_index  build · search · measure · fit · check"""

from __future__ import annotations

import sys

from kaggle_rag.runtime.errors import run_program
from kaggle_rag.runtime.program import Command, Program
from wiki_index.commands import build, check, fit, measure, search

_OVERVIEW = """\
examples:
  python -m wiki_index check --corpus wikipedia/20231101.en/ --every 100
  python -m wiki_index build wikipedia/20231101.en/ index/ --ram 2GB --lexical --dry-run
  python -m wiki_index build wikipedia/20231101.en/ index/ --ram 2GB --lexical
  python -m wiki_index search index/ "Which moon of Saturn has an atmosphere?" -k 5

COMMAND --help lists its flags. A killed build resumes when you rerun the same command."""

PROGRAM = Program(
    "wiki_index", "Build, search and check an index of passages.", _OVERVIEW,
    {
        "build": Command("build an index from a corpus", build.run, build.flags, build.EXAMPLES),
        "search": Command("find the passages nearest to a text", search.run, search.flags),
        "measure": Command(
            "compare the recall, speed, memory and answers of each kind of index", measure.run, measure.flags
        ),
        "fit": Command(
            "fit retriever weights on questions whose answering passage is known", fit.run, fit.flags
        ),
        "check": Command(
            "verify an index, or find what a corpus loses", check.run, check.flags, check.EXAMPLES
        ),
    },
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(run_program(main))
