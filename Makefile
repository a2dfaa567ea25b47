# distributor from a fresh clone: needs Python 3.11 or newer and make, nothing else.
#   make demo     five people get their certificates, in front of you; make demo-graph: through Microsoft Graph, played by a double
#   make test     the tests but the slow ones; what this machine lacks is skipped by name
#   make test-all the slow ones too; TESTS=tests/pki runs a part of either
#   make lint types bench clean
#   make requirements   pins the newest releases with their hashes (needs uv)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
PINNED := $(PIP) --require-hashes --only-binary :all: -r
PYTEST := $(BIN)/python -m pytest -q --numprocesses auto --dist worksteal

.PHONY: help demo demo-graph test test-all lint types bench wheel requirements clean
.DELETE_ON_ERROR:

help:
	@sed -n '2,6s/^# *//p' Makefile

demo: $(VENV)/runtime.stamp
	@$(BIN)/python -m distributor demo

demo-graph: $(VENV)/dev.stamp
	@$(BIN)/distributor demo --graph

test: $(VENV)/dev.stamp
	$(PYTEST) -m "not slow" $(TESTS)

test-all: $(VENV)/dev.stamp
	$(PYTEST) $(TESTS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

bench: $(VENV)/dev.stamp
	$(BIN)/python -m tests.bench

wheel: $(VENV)/build.stamp $(VENV)/runtime.stamp
	$(BIN)/python -m build --no-isolation --outdir dist .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "distributor needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements/runtime.txt | $(VENV)/bin/python
	$(PINNED) requirements/runtime.txt
	@touch $@

$(VENV)/build.stamp: requirements/build.txt | $(VENV)/bin/python
	$(PINNED) requirements/build.txt
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt pyproject.toml $(VENV)/build.stamp $(VENV)/runtime.stamp
	$(PINNED) requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

COMPILE := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links

EXTRAS := postgresql imap keyring ldap lint letters portal
EXTRA = $(PYTHON) -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]], sep="\n")'

# Everything agrees with everything: first all together, then each part with those versions.
requirements:
	$(COMPILE) --extra dev pyproject.toml requirements/build.in --output-file requirements/dev.txt
	$(COMPILE) pyproject.toml --constraint requirements/dev.txt --output-file requirements/runtime.txt
	$(COMPILE) requirements/build.in --constraint requirements/dev.txt --output-file requirements/build.txt
	for extra in $(EXTRAS); do \
		$(EXTRA) $$extra | $(COMPILE) - --constraint requirements/dev.txt --output-file requirements/$$extra.txt || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
