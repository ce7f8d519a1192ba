# Two commands matter: make demo, make test. Both make the virtual environment when it is missing.
PYTHON ?= python3
VENV   ?= .venv
# On a machine with a GPU: make demo EXTRA=gpu. Without one, a small torch:
# make demo TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
EXTRA  ?= cpu
TORCH  ?= torch
EXTRAS ?= test,lint
# What pins the versions: those of CI, or with make compat those of a notebook image.
PINS   ?= constraints.txt
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# make compat IMAGE=2026-08: the image whose versions are tried; its Python is looked for by name.
IMAGE  ?= 2026-02
IMAGE_PYTHON_2026-02 := 3.12
IMAGE_PYTHON_2026-08 := 3.13
# A process a core, a thread each: two processes of two threads would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist loadfile

# Loading, training and answering: where libraries differ from version to version.
SMOKE  := programs/demo index/encoder retrieval/crossencoder wiki_index/steps/precision wiki_index/retrievers \
          training/retrieval/training_losses training/retrieval/training_retriever \
          training/retrieval/training_reranker models/ranker_scoring models/sentence_bert \
          training/rankers/ranker_weights training/rankers/ranker_resume data/submission

.PHONY: demo test slow lint bench clean compat compat-install install smoke

demo: $(READY)
	$(BIN)/python -m inference demo --out runs/demo

test: $(READY)
	$(PYTEST)

# All that takes minutes; CI leaves out what takes the most of them: make slow TIER="slow and not long".
TIER   ?= slow
# In the order of tests/conftest.py: the longest files first.
slow: $(READY)
	$(PYTEST) -m "$(TIER)" --no-loadscope-reorder

# compat-install makes the environment alone: its downloads can run beside something else.
compat compat-install:
	@test -f constraints/image-$(IMAGE).txt || { echo "IMAGE is one of:"; ls constraints; exit 1; }
	python=$$(constraints/python_for $(IMAGE_PYTHON_$(IMAGE)) $(PYTHON)) && $(MAKE) $(if $(filter compat,$@),smoke,install) \
	  PYTHON=$$python VENV=.venv-$(IMAGE) PINS=constraints/image-$(IMAGE).txt EXTRAS=train,wikipedia,test

install: $(READY)

# What make compat runs in the environment that it makes.
smoke: $(READY)
	$(PYTEST) -m "" --no-loadscope-reorder $(foreach name,$(SMOKE),tests/$(dir $(name))test_$(notdir $(name)).py)

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
	$(BIN)/python -m benchmarks.open_book --sets openbookqa_dev --quick
	$(BIN)/python -m benchmarks.fit_default --sets openbookqa_train --quick
	$(BIN)/python -m benchmarks.ranker_training openbookqa --quick
	$(BIN)/python -m benchmarks.what_helps openbookqa --quick
	$(BIN)/python -m benchmarks.calibration openbookqa --quick
	$(BIN)/python -m benchmarks.science_ranker --quick
	$(BIN)/python -m benchmarks.before_training --quick
	$(BIN)/python -m benchmarks.knowledge_prefix --quick
	$(BIN)/python -m benchmarks.selection --quick
	$(BIN)/python -m benchmarks.training_memory --quick
	$(BIN)/python -m benchmarks.streaming --quick
	$(BIN)/python -m benchmarks.readers --quick
	$(BIN)/python -m benchmarks.reranking --quick
	$(BIN)/python -m benchmarks.option_scoring --quick
	PYTHON=$(BIN)/python benchmarks/gpu.sh --quick
	$(BIN)/python -m benchmarks.first_submission --quick

$(READY): setup.cfg pyproject.toml $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint $(PINS) $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint $(PINS) --editable ".[$(EXTRA),$(EXTRAS)]"
	touch $@

clean:
	rm -rf $(VENV) .venv-* runs build *.egg-info
