# `make` lists everything. `make test` is exactly what CI runs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help install lock demo rollout-demo test check unit audit format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 12

# torch first and pinned, so that no other package can move it to another build.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

install: $(STAMP) ## Create the environment in .venv

# The comment on top stays; a build's own mark, as in 2.13.0+cpu, is dropped.
lock: ## Write the versions of a fresh environment into constraints.txt
	grep -E '^#|^torch==' constraints.txt > constraints.new
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --constraint constraints.new torch
	$(VENV)/lock/bin/python -m pip install --quiet --constraint constraints.new ".[dev]"
	{ grep '^#' constraints.new; $(VENV)/lock/bin/python -m pip freeze --exclude tailwise | sed -E 's/\+[a-z0-9.]+$$//'; } > constraints.txt
	rm -rf constraints.new $(VENV)/lock

demo: $(STAMP) ## Main job on real data with a real LLM: table, and runs/demo/report.html
	$(BIN)/tailwise assets fetch ml-100k smollm2-135m
	$(BIN)/tailwise run --data ml-100k --model smollm2-135m --optimizer adamw --optimizer adamw:logit_adjustment=0.2 --optimizer eisam --out runs/demo --resume

rollout-demo: $(STAMP) ## Two models served, two weeks simulated: one is ramped to everybody, another rolled back
	$(BIN)/tailwise assets fetch ml-100k
	$(BIN)/python recipes/rollout_demo.py --out runs/rollout-demo

test: check unit ## Everything that CI runs

check: $(STAMP) ## Style, types, import order between stages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two at a time, a file at a time: fixtures of a file are made once. In the order of tests/conftest.py, long ones first.
# Children take one thread each.
unit: $(STAMP) ## Tests, with real data, the real LLM, PostgreSQL and Chromium where they can be had
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

audit: $(STAMP) ## Ask for known weaknesses of every dependency
	$(BIN)/python -m pip_audit --skip-editable

format: $(STAMP) ## Let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and everything that tools left behind
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name '*.egg-info' -prune -exec rm -rf {} +
