# make demo   train on real clinic visits and draw one patient
# make test   run every test
# make lint   ruff and mypy
# Each makes the virtual environment .venv when there is none, and installs what it needs into it.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# pictures go to files; no window is opened
export MPLBACKEND = Agg

.PHONY: demo test lint
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(VENV)/bin/python -m examples.pbcseq $(ARGS)

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

INSTALL = $(VENV)/bin/python -m pip install -c constraints.txt -e

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(INSTALL) '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(INSTALL) '.[test]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(INSTALL) '.[dev]'
	touch $@
