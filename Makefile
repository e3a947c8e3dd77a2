# Two commands do all the set-up: `make demo` and `make test`. Both make the environment .venv from the tested lock file.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo small-demo test fast soak setup lint clean

demo: setup
	$(BIN)/nakt demo

small-demo: setup
	$(BIN)/nakt run nakt_fed/demo/small.toml

test: fast
	$(BIN)/python -m pytest -m "slow and not soak" -q -n 2 --dist loadfile

fast: setup
	$(BIN)/python -m pytest -m "not slow and not soak" -q -n 2 --dist worksteal

soak: setup
	$(BIN)/python -m pytest -m soak

setup: .venv/installed

.venv/installed: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
