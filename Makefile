# `make` or `make help` lists the targets.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PACKAGES := mulligan actors gateways cluster

.DEFAULT_GOAL := help
.PHONY: help demo test lint types proto proto-check unit integration e2e chaos bench-claims clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Versions that every dependency has wheels for. Others may read what is installed: PostgreSQL never runs as root.
$(INSTALLED): pyproject.toml constraints.txt
	@python=$$(for name in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	  "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo "$$name" && break; done); \
	test -n "$$python" || { echo "Mulligan needs Python 3.11 to 3.14; give it with make PYTHON=/path/to/python3"; exit 1; }; \
	umask 022; $(BIN)/python -m pip --version >/dev/null 2>&1 || ./.ci/make-venv "$$python" $(VENV); \
	echo "installing into $(VENV) (a few minutes the first time)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[server,embedded,dev]'
	@touch $@

demo: $(INSTALLED) ## the whole main job on this machine, from nothing to a provisioned machine and back
	@$(BIN)/mulligan demo

test: lint types proto-check ## format, lint, types, protos and every test, on real servers
	$(BIN)/pytest

lint: $(INSTALLED) ## formatting and lint
	$(BIN)/ruff format --check $(PACKAGES) tests
	$(BIN)/ruff check $(PACKAGES) tests

types: $(INSTALLED) ## mypy --strict
	$(BIN)/mypy $(PACKAGES) tests

proto: $(INSTALLED) ## generate mulligan/api from proto/
	$(BIN)/python -m mulligan.codegen.generate

# The latest release is the newest v* tag; before the first one there is nothing to break.
proto-check: $(INSTALLED) ## lint the protos, compare them with the latest release and with mulligan/api
	cd proto && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	@release=$$(git tag --list 'v*' --sort=-v:refname | head -n 1); \
	if [ -n "$$release" ]; then cd proto && ../$(BIN)/buf breaking --against "../.git#tag=$$release,subdir=proto"; \
	else echo "buf breaking: no release tag yet, nothing to compare with"; fi
	$(BIN)/python -m mulligan.codegen.generate --check

unit: $(INSTALLED) ## tests that need no server
	$(BIN)/pytest tests/unit

integration: $(INSTALLED) ## parts against real etcd, NATS and Postgres
	$(BIN)/pytest tests/integration

e2e: $(INSTALLED) ## the smart client against a whole system
	$(BIN)/pytest tests/e2e

chaos: $(INSTALLED) ## a whole system whose parts are killed
	$(BIN)/pytest tests/chaos

bench-claims: $(INSTALLED) ## claims per second over gRPC against a system of its own
	$(BIN)/python -m tests.bench.claims

clean: ## remove everything that make made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
