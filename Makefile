# Two commands set everything up on a fresh machine: `make up` and `make test`.

PYTHON   ?= python3
MANIFEST ?= models.yaml
UP_FLAGS ?=
TEST     ?= tests
JOBS     ?= 3
BIN      := .venv/bin
PIP      := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help up down plan test check bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: .venv/installed ## Serve models.yaml (UP_FLAGS="--detach --wait" to get the shell back)
	@$(BIN)/selfhost up --file $(MANIFEST) $(UP_FLAGS)

down: .venv/installed ## Stop everything that models.yaml started
	@$(BIN)/selfhost down --file $(MANIFEST)

plan: .venv/installed ## Show what `make up` would do, without doing it
	@$(BIN)/selfhost plan --file $(MANIFEST)

test: .venv/installed-dev ## Run every test, real vLLM on CPU included (TEST="tests/planner" for a part)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) $(TEST)

check: .venv/installed-dev ## Formatter, linter, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: .venv/installed-dev ## Measure start-up and the command line against their budgets
	@$(BIN)/python scripts/bench_cli.py
	@$(BIN)/python scripts/bench_up.py

clean: ## Remove what make created in this folder (not the engines: `selfhost engine remove`)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml scripts/preflight.py
	@$(PYTHON) scripts/preflight.py $(PREFLIGHT)
	@echo "Installing selfhost into .venv"
	@$(PYTHON) -m venv .venv
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable .
	@touch $@

.venv/installed-dev: PREFLIGHT = --test
.venv/installed-dev: .venv/installed
	@$(PYTHON) scripts/preflight.py $(PREFLIGHT)
	@echo "Installing the test and lint tools into .venv"
	@$(PIP) install --group dev
	@touch $@
