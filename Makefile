# The commands of this project; each does its own set-up on a machine with Python 3.11+ and make.

PYTHON ?= python3
BIN := .venv/bin
DATA ?= data
PORT ?= 8080

.DEFAULT_GOAL := help

# Compiled modules are kept: a test starts hundreds of processes of ours.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

# The environment is made anew for another Python: make test PYTHON=python3.13
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
INSTALLED := .venv/installed-$(VERSION)

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kommo-streams needs Python 3.11 or newer: make PYTHON=python3.13 ..." >&2; exit 1; }
	[ -e $@ ] || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[embedded,worker,dev]'
	@touch $@

.PHONY: install
install: $(INSTALLED) ## Make the environment .venv

.PHONY: demo
demo: $(INSTALLED) ## Run everything on embedded servers and send realistic deliveries
	$(BIN)/kommo-streams up --demo --data "$(DATA)" --port "$(PORT)"

.PHONY: lint
lint: style types rooms ## Linter, formatter, types, the order of the rooms

.PHONY: style types rooms
style: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
types: $(INSTALLED)
	$(BIN)/mypy
rooms: $(INSTALLED)
	$(BIN)/lint-imports

.PHONY: chromium
chromium: # the page is tested in a real browser
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || { \
		echo "The page is tested in Chromium: installing it with apt-get."; \
		$$( [ "$$(id -u)" = 0 ] || echo sudo ) sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium'; }

# A file's tests stay in one process, so that what they share is made once; the dearest tiers begin. How many processes
# there are tests/conftest.py says.
PYTEST = $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder \
	--durations=25 --pytest-durations=25 --pytest-durations-show=fixture --pytest-durations-time-format=auto

.PHONY: quick unit
quick: ## Linters, types and the tests that need no server: for the inner loop
	@$(MAKE) --no-print-directory -j 4 --output-sync=target lint unit
unit: $(INSTALLED) # with a + its dots are shown as they come
	+$(PYTEST) --hypothesis-profile=quick tests/unit

.PHONY: test
test: ## Everything but the soak: linters, then every test on real servers
	@$(MAKE) --no-print-directory -j 4 --output-sync=target lint chromium
	$(PYTEST)

.PHONY: soak fuzz
soak: $(INSTALLED) chromium ## The long figures: kills at full rate, 100,000 deliveries, a million bodies, properties ten times
	$(PYTEST) tests/soak
	$(PYTEST) --hypothesis-profile=soak -m hypothesis
	@$(MAKE) --no-print-directory fuzz
fuzz: $(INSTALLED) ## A million mutated bodies through the decoder
	$(BIN)/python -m tests.soak.schemas.fuzz

.PHONY: bench
bench: $(INSTALLED) ## Measure, each figure beside its reference
	$(BIN)/python -m bench

.PHONY: constraints
constraints: ## Pin the newest versions that pyproject.toml allows
	rm -rf .venv && $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[embedded,worker,dev]'
	{ echo "# The versions that are tested together: make constraints"; $(BIN)/python -m pip freeze --exclude kommo-streams; } > constraints.txt

.PHONY: clean
clean: ## Remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
