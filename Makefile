# Every target sets up what it needs: a virtual environment with pinned packages and this one.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
PIP := $(BIN)/pip install --quiet --constraint constraints.txt --editable
export PATH := $(BIN):$(PATH)

.PHONY: quickstart report test test-faults test-slurm benchmarks coverage mutants check fix

quickstart: .venv/ready
	snakemake --cores all

# one page of all that was made; another config: make report OPTIONS="--configfile FILE --config data=FOLDER"
report: .venv/ready
	snakemake benchmarks --cores all $(OPTIONS)
	irpipe verify results
	snakemake benchmarks --report results/report.html --report-stylesheet workflow/report/page.css $(OPTIONS)

test: .venv/ready
	pytest

# docs/faults.md in full: 50 kills, 100 races, 1,000 changes to each file
test-faults: .venv/ready
	IRPIPE_KILLS=50 IRPIPE_RECOVERIES=20 IRPIPE_RACES=100 IRPIPE_CHANGES=1000 pytest tests/test_faults_*.py tests/test_kills.py \
		tests/test_resume.py tests/test_damage.py

# the workflow on a Slurm of this machine; as root, where apt can install one
test-slurm: .venv/ready
	$(PIP) '.[slurm]'
	python tests/slurm/run.py

benchmarks: .venv/ready
	$(PIP) '.[benchmarks]'
	python -m benchmarks $(OPTIONS)

coverage: .venv/ready
	pytest --cov=irpipe --cov-report=term-missing:skip-covered --cov-fail-under=95

# changes stats, io and ascent in a copy, one place at a time; `mutmut results` lists what no test noticed (half an hour)
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

fix: .venv/ready
	ruff check --fix .
	ruff format .
	snakefmt workflow Snakefile

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) '.[dev]'
	touch $@
