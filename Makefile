# quickstart  install, fetch the embedded model, train, measure, report
# test        install and run the tests
# check       format, lint, types, layering
# bench-speed time ethos against its peers, write benchmarks/RESULTS.md (about 35 quiet minutes)
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test check bench-speed lock clean

quickstart: .venv/installed
	$(BIN)/ethos run runs/quickstart.toml --out out/quickstart

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow"

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_layers.py

bench-speed: .venv-bench/installed
	.venv-bench/bin/python -m benchmarks $(BENCH)

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("ethos needs Python 3.11 or newer; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The locked versions and lm-evaluation-harness, apart from .venv: its dozen packages are no business of the tests.
.venv-bench/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-bench/bin/python -m pip install --quiet -r requirements.lock
	.venv-bench/bin/python -m pip install --quiet --constraint requirements.lock --group bench
	.venv-bench/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

# Resolve the newest allowed versions into requirements.lock, in an environment of its own.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --upgrade pip
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0
	.venv-lock/bin/python -m pip install --quiet --group dev --editable .
	.venv-lock/bin/python -m pip freeze --exclude-editable --exclude ethos | sed 's/+cpu//' > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-bench out
