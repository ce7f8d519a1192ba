# Two commands matter: make demo, make test. Both make the virtual environment when it is missing.
PYTHON ?= python3
VENV   ?= .venv
# On a machine with a GPU: make demo EXTRA=gpu. Without one, a small torch:
# make demo TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
EXTRA  ?= cpu
TORCH  ?= torch
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# A process a core, a thread each: two processes of two threads would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist loadfile

.PHONY: demo test slow lint bench clean

demo: $(READY)
	$(BIN)/python -m inference demo --out runs/demo

test: $(READY)
	$(PYTEST)

slow: $(READY)
	$(PYTEST) -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.contexts --quick
	$(BIN)/python -m benchmarks.answers --quick
	$(BIN)/python -m benchmarks.encode --quick
	$(BIN)/python -m benchmarks.start --quick
	$(BIN)/python -m benchmarks.busy --quick
	$(BIN)/python -m benchmarks.index_scale --quick
	$(BIN)/python -m benchmarks.search_table --quick
	$(BIN)/python -m benchmarks.retriever_training --quick
	$(BIN)/python -m benchmarks.ranker_training openbookqa --quick
	$(BIN)/python -m benchmarks.training_memory --quick
	$(BIN)/python -m benchmarks.readers --quick

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRA),test]"
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
