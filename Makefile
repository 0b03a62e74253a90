# `make paper` and `make test` need Python ≥ 3.11 with pip and venv, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BARE := .venv-bare
# Two worker processes and the libraries' own threads would fight for the same cores.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: setup paper test lint types unit bare bench format clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

paper: setup
	$(BIN)/ravine reproduce paper --out report --force

test: lint types unit bare

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

unit: setup
	$(THREADS) $(BIN)/python -m pytest -n 2 --dist loadgroup

# The package without its extras: what must work there does, and what must not says which extra it needs.
bare: $(BARE)/.ready
	$(BARE)/bin/python -m pytest -q -o pythonpath= --confcutdir=tests/bare tests/bare

$(BARE)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BARE)
	$(BARE)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . pytest
	touch $@

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev,bench]'
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/commands.py
	$(BIN)/python benchmarks/certificates.py
	$(BIN)/python benchmarks/optimizers.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(BARE) report .pytest_cache .ruff_cache .hypothesis
