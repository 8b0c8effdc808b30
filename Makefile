# make demo   predict ten years of a river from weather alone, and draw what the model says
# make test   prove every public behaviour once on each backend: ten minutes on two cores, the installation included
# make test-all  the long sets, which make test leaves out: compiled kernels, examples, benchmarks, more shapes
# make lint   ruff and mypy
# make docs   the API reference, from the docstrings, in build/docs
# make gpu    prove on an NVIDIA GPU what takes one, in two commands of seven minutes: PART=1 and PART=2, or the same
#             command twice; OUT is the folder of the results
# make gpu-cache    compile for it ahead of time, with PYTHON of its version, whose triton is that of its machine
# Each but the last two makes the virtual environment .venv when there is none, and installs what it needs into it.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
OUT ?= results/gpu
PART ?=
# as many tests at once as there are cores; ARGS="-n 0" runs them in one process
JOBS ?= auto
# pictures go to files; no window is opened
export MPLBACKEND = Agg

.PHONY: demo test test-all lint docs gpu gpu-cache
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(VENV)/bin/python -m examples.river $(ARGS)

# one thread each, or tests that run at once wait for one another
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal

# Twice: Triton reads TRITON_INTERPRET when it is imported, interprets its kernels then, and compiles none. The markers
# say which tests are whose. Status 5 is pytest's "no test selected", as ARGS="-k ..." may leave one of the two.
define pytest
	$(PYTEST) $(1) $(ARGS) || test $$? -eq 5
	if $(VENV)/bin/python -c "import triton"; then \
		TRITON_INTERPRET=1 $(PYTEST) $(1) $(ARGS) || test $$? -eq 5; fi
endef

test: $(VENV)/.test
	$(call pytest)

test-all: $(VENV)/.test
	$(call pytest,-m "long and not slow")

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.docs
	$(VENV)/bin/python -W error -m pdoc --docformat google -o build/docs rnam rnam.sklearn rnam.panel rnam.estimators rnam.explanation rnam.report rnam.command

# Both with the Python that PYTHON is and what it has: torch, triton, numpy, tqdm, pytest; nothing is fetched.
gpu:
	$(PYTHON) -m pip install --no-deps --no-build-isolation -e .
	$(PYTHON) -m tests.gpu --out $(OUT) $(if $(PART),--part $(PART)) $(ARGS)

gpu-cache:
	$(PYTHON) -m tests.gpu.cache build/gpu-cache.tar.xz $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

INSTALL = $(VENV)/bin/python -m pip install -c constraints.txt -e

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(INSTALL) '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(INSTALL) '.[test]'
	touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(INSTALL) '.[docs]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(INSTALL) '.[dev]'
	touch $@
