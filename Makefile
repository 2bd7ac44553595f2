# One virtual environment, .venv, serves every target; it is made and filled on first use and again when
# the metadata or the pins change.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# Processes for `make test`, one more than cores: some tests wait for a disk or a server; 0 runs everything in one.
WORKERS ?= 3

BIN := .venv/bin
STAMP := .venv/.installed
# setuptools copies into build/lib and never deletes there: a removed module would come back in the next wheel.
STALE := build/lib build/bdist.* *.egg-info

.PHONY: help install demo test lint type format docs reference installed-copy release-check clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## /  make \1\t/' | expand -t 22

install: $(STAMP)  ## make .venv and install the project with its development tools

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no '$(PYTHON)' found: install Python 3.11 or newer, or name one with PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d found, 3.11 or newer needed: name a newer one with PYTHON=/path/to/python3." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: $(STAMP)  ## agents align one small language model; ends with a table and report.html
	$(BIN)/duelenv run experiments/suites/demo.yaml

# One thread per process: the matrices are small, and workers with two threads each fight over the cores.
test: export OMP_NUM_THREADS = 1
# What is compiled stays, tests with their rewritten assertions as well: each process would compile it all again.
test: export PYTHONDONTWRITEBYTECODE =
# loadfile: the tests of one file share a worker, and so a built wheel or a fine-tuned policy; in the order of
# tests/conftest.py, not by how many tests a file has.
test: $(STAMP)  ## the whole test suite; ARGS="tests/agents -k dpo" for a part of it
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP) installed-copy  ## style, formatting, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/installed && PYTHONPATH=. ../../$(BIN)/lint-imports --no-logo --config ../../setup.cfg --cache-dir ../../.import_linter_cache

type: $(STAMP) installed-copy  ## static types
	cd build/installed && ../../$(BIN)/mypy --config-file ../../setup.cfg -p duelenv

format: $(STAMP)  ## rewrite imports and layout
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(STAMP) installed-copy  ## the documentation as a site in build/site; warnings are errors
	$(BIN)/python docs/stage.py build/pages
	$(BIN)/zensical build --strict --clean

reference: $(STAMP)  ## write docs/reference and llms.txt again, from the code
	$(BIN)/python -m duelenv.experiments.reference docs/reference
	$(BIN)/python docs/stage.py build/pages

# Tools that follow imports by path need the layout in which the packages are imported.
installed-copy: $(STAMP)
	@rm -rf build/installed $(STALE)
	@$(BIN)/pip install --disable-pip-version-check --quiet --no-compile --no-deps --no-build-isolation --target build/installed .

release-check: $(STAMP)  ## build the wheel, install it with its dependencies in an empty venv, use it there
	rm -rf dist $(STALE)
	$(BIN)/python -m build
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder/venv"; \
	"$$folder/venv/bin/pip" install --disable-pip-version-check --quiet -c constraints.txt dist/*.whl; \
	cp tests/wheel_smoke.py "$$folder/"; \
	cd "$$folder"; \
	venv/bin/python -I wheel_smoke.py; \
	venv/bin/duelenv list

clean:  ## remove everything that make builds, .venv included
	rm -rf .venv build dist *.egg-info .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
