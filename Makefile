# Every target sets up what it needs: a virtual environment with pinned packages and this one.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
PIP := $(BIN)/pip install --quiet --constraint constraints.txt --editable
export PATH := $(BIN):$(PATH)
# Snakemake reads configs for its report in the locale's encoding; ours are UTF-8.
export PYTHONUTF8 := 1
# Many short processes import the same code; compiled once, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=
# One process more than cores, up to five: some tests wait for what they have started.
PROCESSES = $(shell $(PYTHON) -c "import os; print(min(os.cpu_count(), 4) + 1)")
PARALLEL = --numprocesses=$(PROCESSES) --dist=worksteal

.PHONY: quickstart report snakemake-report test test-faults test-slurm benchmarks gpu portability docs coverage mutants check schema fix

# two jobs at a time, which keep two cores busier than one job with two threads
quickstart: .venv/ready
	snakemake page --logger irpipe --cores all --resources gpu=2

# one page with all tables and figures; for another config:
# make report OPTIONS="--configfile FILE --config data=FOLDER"
report: .venv/ready
	snakemake --logger irpipe --cores all $(OPTIONS)
	irpipe verify results
	snakemake page --logger irpipe --cores all $(OPTIONS)

# the same tables and figures in Snakemake's own report, which lists them one by one
snakemake-report: .venv/ready
	snakemake job_costs --cores all $(OPTIONS)
	snakemake job_costs --report results/snakemake.html --report-stylesheet workflow/report/page.css $(OPTIONS)

# each process has one of torch's threads
test: .venv/ready
	OMP_NUM_THREADS=1 pytest $(PARALLEL)

# docs/faults.md in full: 50 kills, 100 races, 1,000 changes to each file
test-faults: .venv/ready
	IRPIPE_KILLS=50 IRPIPE_RECOVERIES=20 IRPIPE_RACES=100 IRPIPE_CHANGES=1000 pytest tests/faults \
		tests/training/test_resume.py

# the workflow on a Slurm of this machine; as root, where apt can install one
test-slurm: .venv/ready
	$(PIP) '.[slurm]'
	python tests/slurm/run.py

benchmarks: .venv/ready
	$(PIP) '.[benchmarks]'
	PYTHONPATH=tests python -m benchmarks $(OPTIONS)

# on a machine with a GPU: its tests, the portability, and its times; then make docs RESULTS=results
gpu: .venv/ready
	python -m benchmarks.gpu $(OPTIONS)

# the documents with measured numbers, from the results below a folder: make docs RESULTS=results;
# without RESULTS, from the lists of numbers that stand in them
docs: .venv/ready
	python -m irpipe.documents.write $(RESULTS)

coverage: .venv/ready
	OMP_NUM_THREADS=1 pytest $(PARALLEL) --cov=irpipe --cov-report=term-missing:skip-covered \
		--cov-fail-under=97

# which cells of the paper's tables flip under other instruction sets, on a GPU, or with
# OPTIONS="--python PYTHON" under another torch
portability: .venv/ready
	python -m benchmarks.portability $(OPTIONS)

# changes statistics, files and gradient ascent in a copy, one place at a time (half an hour);
# `mutmut results` lists what no test noticed
mutants: .venv/ready
	$(PIP) '.[mutants]'
	IRPIPE_CHANGES=30 mutmut run
	mutmut export-cicd-stats
	python -c "import json; n = json.load(open('mutants/mutmut-cicd-stats.json')); print(n); exit(n['killed'] < .85 * n['total'])"

check: .venv/ready
	ruff check .
	ruff format --check .
	snakefmt --check workflow Snakefile
	mypy
	snakemake --lint
	for config in config/*.yaml; do irpipe check --config $$config || exit; done

# config/schema.json, which editors complete keys by
schema: .venv/ready
	python -m irpipe.config.json_schema > config/schema.json

fix: .venv/ready
	ruff check --fix .
	ruff format .
	snakefmt workflow Snakefile

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) '.[dev]'
	touch $@
