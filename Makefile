# Two commands matter: make demo, make test. Both make the virtual environment when it is missing.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test slow lint bench clean

demo: $(READY)
	$(BIN)/python -m inference demo --out runs/demo

test: $(READY)
	$(BIN)/python -m pytest

slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.contexts --quick
	$(BIN)/python -m benchmarks.answers --quick
	$(BIN)/python -m benchmarks.encode --quick
	$(BIN)/python -m benchmarks.readers --quick

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cpu,test]"
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
