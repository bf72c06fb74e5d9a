# Two commands matter: `make demo` shows the whole system, `make test` proves it. Both set up what they need.
# Variables: PYTHON (an interpreter of 3.10 or later), TORCH_INDEX (a package index with torch's CPU build),
#            ONCE=1 (demo exits by itself), ARGS (more arguments for pytest or the demo).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PY := $(VENV)/bin/python
TORCH_INDEX ?=
ONCE ?=
ARGS ?=
export OMP_NUM_THREADS ?= 1

include $(wildcard make/*.mk)

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(VENV)/.train  ## the whole system on this machine: simulated Druid, training, service, one query, a plot
	$(PY) -m outliers demo $(if $(ONCE),--once) $(ARGS)

.PHONY: test
test: $(VENV)/.dev system  ## all tests but those on real servers
	$(PY) -m pytest $(ARGS)

.PHONY: check
check: $(VENV)/.dev  ## format, lint, types, then the tests
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(MAKE) test

.PHONY: format
format: $(VENV)/.dev  ## rewrite the code as `check` wants it
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

.PHONY: bench
bench: $(VENV)/.dev system  ## every benchmark, each printing its figures and the command that repeats it
	$(PY) -m benchmarks $(ARGS)

.PHONY: quality
quality: $(VENV)/.dev  ## how well anomalies are detected, on labelled series and the simulator
	$(PY) -m benchmarks.quality $(ARGS)

.PHONY: clean
clean:  ## remove what was built, the virtual environment included
	rm -rf $(VENV) .venv-* build dist var *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the targets above need ----------------------------------------------------------------------------------

$(VENV)/bin/python:
	make/venv.sh $(VENV) $(PYTHON)

$(VENV)/.train: requirements.txt requirements-train.txt pyproject.toml | $(VENV)/bin/python
	$(if $(TORCH_INDEX),$(PY) -m pip install -q --index-url $(TORCH_INDEX) $(shell grep '^torch==' requirements-train.txt))
	$(PY) -m pip install -q -r requirements.txt -r requirements-train.txt
	$(PY) -m pip install -q --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.train
	$(PY) -m pip install -q -r requirements-dev.txt
	@touch $@

.PHONY: system
system:  # the servers and tools that the tests start, from the distribution's packages
	@make/system.sh redis-server:redis-server chromium:chromium rpmbuild:rpm
