# The menu. `make` alone prints it.
# ARGS reaches the command: `make demo ARGS="--clients 3"`, `make test ARGS="tests/unit -k schema"`.

VENV   := .venv
BIN    := $(VENV)/bin
MADE   := $(VENV)/.made
DEV    := $(VENV)/.installed-dev
DEMO   := $(VENV)/.installed-demo
ARGS   ?=
# The first interpreter that starts and is 3.11 or newer.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$name && break; done)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help debian setup demo serve test quick long fault prove-faults docker-test check fmt \
	bench bench-robust bench-async bench-peers docs docs-serve examples screenshots constraints clean

help:  ## Print this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

debian:  ## Install what some tests use beside Python: a browser, Prometheus, a data set, iptables; needs root
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
		chromium prometheus dataset-fashion-mnist iptables

setup: $(DEV)  ## Make .venv with all that the tests need

demo: $(DEMO)  ## Train one model across five client processes on real data
	$(BIN)/fed-compute demo $(ARGS)

serve: $(DEMO)  ## Start a coordinator on this machine
	$(BIN)/fed-compute serve $(ARGS)

test: $(DEV)  ## Run every test, files side by side on all cores
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

quick: $(DEV)  ## Run the unit and architecture tests only
	$(BIN)/python -m pytest tests/unit tests/architecture $(ARGS)

long: $(DEV)  ## Run every test with many more random examples
	$(BIN)/python -m pytest --hypothesis-profile=long --timeout=1800 $(ARGS)

fault: $(DEV)  ## Kill, cut off and starve a real coordinator by the hundred; 40 minutes, or --quick
	$(BIN)/python -m tests.fault.campaign $(ARGS)

docker-test:  ## Build the images and run them for real; needs Docker, or root on Debian
	tests/docker/run.sh $(ARGS)

prove-faults: $(DEV)  ## Plant six bugs, one at a time, and see the fault tests turn red
	$(BIN)/python -m tests.fault.planted.prove $(ARGS)

check: $(DEV)  ## Check format, lint, types and the house rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict src
	$(BIN)/python -m pytest -q tests/architecture

fmt: $(DEV)  ## Put the code into the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV)  ## Run every benchmark, minutes each; the numbers in the README come from here
	@for script in $(filter-out benchmarks/robustness.py benchmarks/cohort_cuda.py benchmarks/peers.py,$(wildcard benchmarks/*.py)); do \
		echo "== $$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; done
	@echo "== benchmarks/robustness.py --quick"; $(BIN)/python benchmarks/robustness.py --quick

bench-robust: $(DEV)  ## Attack every aggregation rule, 20 minutes; tables and picture go to docs/
	$(BIN)/python benchmarks/robustness.py --seeds 3 --docs docs $(ARGS)

bench-async: $(DEV)  ## Race asynchronous against synchronous rounds, minutes; the picture goes to docs/
	$(BIN)/python benchmarks/async_fleet.py --seeds 3 --docs docs $(ARGS)

bench-peers: $(DEV)  ## Race other simulators, ten minutes and their installation; the picture goes to docs/
	$(BIN)/python benchmarks/peers.py --docs docs $(ARGS)

docs: $(DEV)  ## Build the documentation into site/, strictly and without the network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

docs-serve: $(DEV)  ## Serve the documentation to a browser, anew after each change of a page
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve $(ARGS)

examples: $(DEV)  ## Record the API documentation's examples anew from a small run
	$(BIN)/python -m tools.record_examples

screenshots: $(DEV)  ## Photograph the dashboard over a running demonstration; the pictures go to docs/pictures
	$(BIN)/python -m tools.photograph_dashboard $(ARGS)

constraints: $(DEV)  ## Write constraints.txt anew from what .venv holds
	$(BIN)/python tools/write_constraints.py

clean:  ## Remove caches and reports; .venv and data directories stay
	rm -rf build dist site demo-report .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(MADE):
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; install one, or say which: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu install python3-venv" >&2; exit 1; }
	touch $(MADE)

$(DEV): pyproject.toml constraints.txt | $(MADE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(DEMO) $(DEV)

$(DEMO): pyproject.toml constraints.txt | $(MADE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	touch $(DEMO)
