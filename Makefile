# install: the environment; demo: see it learn; test: prove it; bench: measure it; quality: evaluate recorded logs; services: a Kafka and a Redis for the tests.
SHELL := /bin/bash
# The first Python that runs and is new enough; a name on the PATH may be a shim with nothing behind it.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
READY := $(VENV)/.ready
ARGS ?=

.PHONY: install demo test lint bench quality services clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: on Debian or Ubuntu, apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing: on Debian or Ubuntu, apt-get install python3-venv"; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: install
	$(VENV)/bin/headrace demo $(ARGS)

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint
	$(VENV)/bin/pytest -n 2 $(ARGS)

services: install
	$(VENV)/bin/python -m tests.support.services $(ARGS)

bench: install
	$(VENV)/bin/python -m benchmarks $(ARGS)

quality: install
	$(VENV)/bin/python -m benchmarks.quality --into docs/quality.md $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
