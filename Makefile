# Commands of the project; each does the set-up it needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
COMPARED := .venv/.compared
MUTATION := .venv/.mutation

# pip would compile one module after the other. What cannot be compiled are templates and other Pythons' files.
QUICKLY := --quiet --quiet --no-compile
COMPILE = $(BIN)/python -m compileall -qq -j 0 .venv/lib mtl_ray || true

# Two processes, and first what takes longest: tests that start Ray wait as much as they compute.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10 --durations-min=1 \
	tests/cluster tests/local tests/unit
ON_REQUEST = MTL_RAY_TEST_LONG=1 MTL_RAY_CHAOS_KILLS=10 MTL_RAY_DAILY_DAYS=5 MTL_RAY_TEST_HOSTS=1 \
	MTL_RAY_TEST_CLEAN=$(CURDIR)/build/clean MTL_RAY_TEST_COMPILE=1 MTL_RAY_EVERY_ARCHITECTURE=1 MTL_RAY_SERVE_SECONDS=60

export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true
export GIT_PYTHON_REFRESH := quiet
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint bench quality mutants clean

help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(INSTALLED) ## make .venv with everything needed, once

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv"
	@$(BIN)/python -m pip install $(QUICKLY) --editable '.[dev,serve]' --constraint constraints.txt
	@$(COMPILE)
	@touch $@

demo: setup ## generate a log with planted truth, train on it, print the table and the MLflow run id
	@$(BIN)/mtl-ray train jobs/synthetic.yaml

lint: setup ## ruff, pyright and the contracts between modules
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-logo

test: setup lint ## lint and all tests
	@$(PYTEST)

test-all: setup lint ## lint and all tests, those on request included: an hour or more, as root, see CONTRIBUTING.md
	@$(ON_REQUEST) $(PYTEST) -o timeout=3600

$(COMPARED): $(INSTALLED)
	@echo "installing what the benchmarks compare with into .venv"
	@$(BIN)/python -m pip install $(QUICKLY) --editable '.[bench]' --constraint constraints.txt
	@$(COMPILE)
	@touch $@

bench: $(COMPARED) ## measure speed and memory as ratios, into docs/results/performance.md
	@$(BIN)/pytest tests/benchmarks -m 'not quality' -o timeout=1500 -q

quality: $(COMPARED) ## measure the default recipe on many data sets, into docs/results/quality.md; QUICK=1 a part
	@$(BIN)/python -m tests.quality.run $(if $(QUICK),--quick)

$(MUTATION): $(INSTALLED)
	@$(BIN)/python -m pip install $(QUICKLY) --editable '.[mutation]' --constraint constraints.txt
	@touch $@

mutants: $(MUTATION) ## change operators and constants at random in a copy: do the tests notice? see CONTRIBUTING.md
	@$(BIN)/python tests/mutation/mutants.py $(MUTANTS)

clean: ## remove .venv and caches; data sets, runs and the MLflow store stay
	@rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
