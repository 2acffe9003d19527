# Two commands set everything up on a machine with python3 (3.11 or newer) and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# Options for pip, such as another index with builds of PyTorch for CPUs only.
PIP_ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

install: $(INSTALLED) ## Create .venv and install fer_hf into it, once

# Runs again only when pyproject.toml changes.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; found: $$($(PYTHON) --version). Use: make PYTHON=python3.11 ..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing fer_hf and its dependencies into $(VENV) (PyTorch is a few GB; once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -e ".[dev]"
	@touch $@

demo: $(INSTALLED) ## Fine-tune a small ViT on drawn faces with gradual unfreezing, two to three minutes on a CPU
	$(BIN)/accelerate launch recipes/vit_gradual_unfreeze.py

test: $(INSTALLED) ## Run the tests, about five minutes on two CPU cores
	$(BIN)/python -m pytest -n auto --dist loadfile

# What depends on floating-point arithmetic must hold on other processors, too.
numeric: export ATEN_CPU_CAPABILITY = default
numeric: export ONEDNN_MAX_CPU_ISA = AVX2
numeric: export MKL_CBWR = COMPATIBLE
numeric: $(INSTALLED) ## Run the tests of arithmetic as an older processor would
	$(BIN)/python -m pytest -n auto --dist loadfile -m numeric

slow: $(INSTALLED) ## Run the tests that are slow by nature
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED) ## Mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(INSTALLED) ## Build a wheel into dist, with what `fer-hf page` runs on (from npm, which this needs)
	$(BIN)/python -m fer_hf.inference.browser_runtime
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist $(PIP_ARGS) .

clean: ## Remove the environment and caches; runs stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache

.PHONY: help install demo test numeric slow lint format wheel clean
