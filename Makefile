.PHONY: demo test check faults lock setup help
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)

help: ## show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(BIN)/.installed ## create .venv from requirements.lock

# The lock file has hashes and no addresses, so any package index or mirror will do.
$(BIN)/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@command -v uv >/dev/null 2>&1 || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## replay five days of real trade and walk through every operation
	@$(BIN)/cerniq-stock demo

test: setup ## every test, those on a real PostgreSQL included
	@$(BIN)/pytest

check: setup ## lint, types, import contracts, tests: what CI runs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

faults: setup ## kill clients and servers under load, the long version
	@$(BIN)/python -m tests.faults

lock: ## renew requirements.lock from pyproject.toml
	@$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate --group dev --python-version 3.11 -o requirements.lock pyproject.toml
