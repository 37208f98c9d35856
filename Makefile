# Every target sets up what it needs: a virtual environment with pinned packages and this one.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.PHONY: quickstart test check fix

quickstart: .venv/ready
	snakemake --cores all

test: .venv/ready
	pytest

check: .venv/ready
	ruff check .
	ruff format --check .
	snakefmt --check workflow Snakefile
	mypy
	snakemake --lint
	for config in config/*.yaml; do irpipe check --config $$config || exit; done

fix: .venv/ready
	ruff check --fix .
	ruff format .
	snakefmt workflow Snakefile

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
