PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# What serves, and what works on the project, are installed apart: `make run` needs no torch.
SERVING := $(VENV)/.serving
WORKING := $(VENV)/.working
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

# What looks at the project from outside has an environment of its own, apart from what it looks at.
TOOLS := $(VENV)/tools
SBOM_OF ?= dist/sbom/bin/python
FUZZ_SECONDS ?= 120
FUZZ_TARGETS ?= event_stream request_body tags configuration

.PHONY: run test test-gpu check bench fmt setup audit sbom lint-deploy pin-images fuzz

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

# make audit: ask the advisory services about every pinned package; says so when they cannot be reached
audit: $(TOOLS)/.installed
	$(TOOLS)/bin/python docker/audit.py constraints.txt --program $(TOOLS)/bin/pip-audit

# make sbom: what `make run` installs, as CycloneDX in dist/sbom.json, checked against its schema and against
# what is there. SBOM_OF=.venv/bin/python lists the working environment instead, without a new install.
sbom: $(SBOM_OF) $(TOOLS)/.installed
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
		--of JSON -o dist/sbom.json $(SBOM_OF)
	$(SBOM_OF) docker/compare_sbom.py dist/sbom.json $(SBOM_OF)

dist/sbom/bin/python: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear dist/sbom
	$@ -m pip install --quiet --disable-pip-version-check -c constraints.txt .

# make lint-deploy: every linter of docker/; names those that are not here
lint-deploy: $(TOOLS)/.installed
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" docker/lint.sh

# make pin-images: write the digests of the base images into docker/ (needs the registries)
pin-images: $(WORKING)
	$(BIN)/python docker/pin_images.py

# make fuzz: each parser under atheris for FUZZ_SECONDS
fuzz: $(WORKING)
	$(INSTALL) '.[fuzz]'
	for target in $(FUZZ_TARGETS); do $(BIN)/python -m tests.fuzz $$target --seconds $(FUZZ_SECONDS) || exit 1; done

$(TOOLS)/.installed: constraints-tools.txt | $(BIN)/python
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-tools.txt
	touch $@
