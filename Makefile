PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# What serves, and what works on the project, are installed apart: `make run` needs no torch.
SERVING := $(VENV)/.serving
WORKING := $(VENV)/.working
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

.PHONY: run test test-gpu check bench fmt setup

# make run: set everything up and serve on 127.0.0.1:4000
run: $(SERVING)
	$(BIN)/terse serve --host 127.0.0.1 --port 4000

# make test: set everything up and run every test
test: $(WORKING)
	$(BIN)/pytest

# make test-gpu: the tests that need CUDA; everything else leaves them out
test-gpu: $(WORKING)
	$(BIN)/pytest -m gpu tests/gpu

# make check: style, types, architecture, then every test
check: $(WORKING)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

fmt: $(WORKING)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# make bench: which benchmarks there are, and how to run each
bench: $(WORKING)
	$(BIN)/python -m benchmarks

setup: $(WORKING)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(SERVING): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) .
	touch $@

$(WORKING): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[dev]'
	touch $@ $(SERVING)
