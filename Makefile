# make demo    a model, trained and tested on a built-in cohort, with its report     make test   the whole suite
# make lint    ruff and mypy        make bench   side by side with other tools       make docs   the documentation in site/
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints/py311.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
DEMO ?= demo

.PHONY: help install demo test test-kernels lint bench bench-peers docs constraints clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,2s/^# //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "vesalius needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

KERNELS := $(wildcard src/vesalius/core/kernels/*.[ch] src/vesalius/core/kernels/build.py hatch_build.py)

# One stamp per set of packages: a second call costs nothing, a changed list of dependencies installs again.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) $(KERNELS) | $(BIN)/python
	@echo "Installing vesalius into $(VENV) (torch is large; this happens once)"
	@$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) $(KERNELS) | $(BIN)/python
	@echo "Installing vesalius with the extra '$*' into $(VENV)"
	@$(PIP) --editable '.[$*]'
	@touch $@

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/vesalius demo --output $(DEMO)

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(PYTEST)

# The same tests without the kernels in C, and with the libraries that other processors take
test-kernels: $(VENV)/.installed-test
	for library in off plain avx2; do VESALIUS_KERNELS=$$library OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 tests/unit || exit 1; done

lint: $(VENV)/.installed-lint
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

# The tools that vesalius is compared with, in an environment of their own with vesalius in it, so that both sides run on the same torch.
# torch comes first and pinned: asked for by name alone it would bring gigabytes for a GPU.
PEERS ?= .venv-peers
$(PEERS)/.installed: benchmarks/peers.txt $(CONSTRAINTS) pyproject.toml $(KERNELS)
	@echo "Installing vesalius and the tools that it is compared with into $(PEERS) (once; about 2 GB)"
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) "$$(sed -n '/^torch==/p' $(CONSTRAINTS))"
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[train]' --requirement benchmarks/peers.txt
	@touch $@

bench-peers: $(PEERS)/.installed

# Runs the comparisons (all, or BENCH="reading training") and writes benchmarks/results.md
bench: $(PEERS)/.installed
	$(PEERS)/bin/python benchmarks/report.py --run $(BENCH)

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/generate.py
	$(BIN)/python -m mkdocs build --strict --quiet

# Pins for every extra. The local part of a version (+cpu) is dropped, so that a machine with a GPU may choose its own build.
constraints: $(BIN)/python
	@$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile pyproject.toml --all-extras --python-version 3.11 --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --quiet $(UV) | sed 's/+[a-z0-9]*$$//' > $(CONSTRAINTS).part
	@{ sed -n '/^#/p' $(CONSTRAINTS); cat $(CONSTRAINTS).part; } > $(CONSTRAINTS).whole
	@mv $(CONSTRAINTS).whole $(CONSTRAINTS) && rm $(CONSTRAINTS).part

clean:
	rm -rf $(VENV) $(DEMO) build dist site .pytest_cache .mypy_cache .ruff_cache
