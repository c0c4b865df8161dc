# The commands of this project; each does its own set-up on a machine with Python 3.11+ and make.

PYTHON ?= python3
BIN := .venv/bin
DATA ?= data
PORT ?= 8080

.DEFAULT_GOAL := help

.PHONY: help
help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kommo-streams needs Python 3.11 or newer: make PYTHON=python3.13 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[embedded,worker,dev]'
	@touch $@

.PHONY: install
install: .venv/installed ## Make the environment .venv

.PHONY: demo
demo: .venv/installed ## Run everything on embedded servers and send realistic deliveries
	$(BIN)/kommo-streams up --demo --data "$(DATA)" --port "$(PORT)"

.PHONY: lint
lint: .venv/installed ## Linter, formatter, types, the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: chromium
chromium: # the page is tested in a real browser
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || { \
		echo "The page is tested in Chromium: installing it with apt-get."; \
		$$( [ "$$(id -u)" = 0 ] || echo sudo ) sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium'; }

.PHONY: test
test: lint chromium ## Lint, then every test on real servers
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder  # each process has servers of its own

.PHONY: fuzz
fuzz: .venv/installed ## A million mutated webhook bodies through the decoder: some minutes, on all cores
	$(BIN)/python -m tests.schemas.fuzz

.PHONY: bench
bench: .venv/installed ## Measure, each figure beside its reference
	$(BIN)/python -m bench

.PHONY: constraints
constraints: ## Pin the newest versions that pyproject.toml allows
	rm -rf .venv && $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[embedded,worker,dev]'
	{ echo "# The versions that are tested together: make constraints"; $(BIN)/python -m pip freeze --exclude kommo-streams; } > constraints.txt

.PHONY: clean
clean: ## Remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
