# hpt: `make` alone prints the targets.
PROFILE ?= quick
PYTHON  ?= python3
TORCH   ?= 2.13.0

# PyPI's torch for Linux brings several GB of CUDA. Where no NVIDIA driver answers, the CPU build is
# taken instead, from PyTorch's own index; `make TORCH_INDEX= …` leaves that index alone.
ifeq ($(shell uname -s)$(shell command -v nvidia-smi),Linux)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
endif

VENV  := .venv
READY := $(VENV)/.installed
BIN   := $(VENV)/bin

COMPILE = $(PYTHON) -m uv pip compile pyproject.toml --extra hub --extra lab --extra test --python-version 3.11 \
  --no-annotate --no-header --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env notebooks notebook study reference test lint bench lab lock clean

help: ## what there is
	@echo "usage: make TARGET [PROFILE=quick] [DRY_RUN=1: only say what it costs] [MINUTES=10: stop in time]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

notebooks: $(READY) ## train what is missing, execute all notebooks, write reports/PROFILE/index.html
	$(BIN)/hpt notebooks --profile $(PROFILE) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(DRY_RUN),--dry-run)

notebook: notebooks

study: $(READY) ## the profile's runs alone, no notebooks
	$(BIN)/hpt study --profile $(PROFILE) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(DRY_RUN),--dry-run)

reference: $(READY) ## the reference studies of runs/reference, NAMES="sixteen decay", MINUTES=30
	$(BIN)/hpt reference $(NAMES) --profile $(PROFILE) $(if $(MINUTES),--minutes $(MINUTES))

test: $(READY) lint ## the test suite
	$(BIN)/python -m pytest

lint: $(READY) ## style, layout, and the layers that imports keep
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

bench: $(READY) ## how fast, beside a plain baseline, on this machine: runs/bench.json
	$(BIN)/python benchmarks/speed.py

lab: $(READY) ## JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks/00_tour.ipynb

env: $(READY) ## the environment alone, in .venv

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "hpt needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV): some 2 GB on disk, a minute or two on a fast line, once."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	@echo "No NVIDIA driver found: looking for the CPU build of torch first (the default build downloads GBs of CUDA)."
	$(BIN)/python -m pip install --quiet --retries 0 --no-deps --extra-index-url $(TORCH_INDEX) $$(grep '^torch==' requirements.lock)
endif
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@# mup asks for torchvision, which it does not use; PyPI's does not import beside the CPU build of torch
	$(BIN)/python -m pip install --quiet --no-deps mup==1.0.0 --editable .
	@# JupyterLab's first start asks nothing
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' \
	  > $(VENV)/share/jupyter/lab/settings/overrides.json
	@touch $@

lock: ## renew requirements.lock from pyproject.toml
	$(PYTHON) -m pip install --quiet uv
	@mkdir -p build && echo "torch==$(TORCH)" > build/torch.txt
	@# the oldest Python's versions serve every Python, so that all have the same source text as data
	$(COMPILE) --constraint build/torch.txt --output-file build/oldest.txt
	$(COMPILE) --constraint build/oldest.txt --universal --output-file build/lock.txt
	@# torch pins its CUDA packages itself; listed here, they would reach machines that do without
	{ echo "# Made by 'make lock'; read by 'pip install -r requirements.lock'."; \
	  grep -vE '^(nvidia|cuda|triton)' build/lock.txt; } > requirements.lock

clean: ## remove .venv, reports and your own run records (runs/reference stays)
	rm -rf $(VENV) reports build hpt.egg-info .pytest_cache .ruff_cache
	find runs -mindepth 1 -maxdepth 1 ! -name README.md ! -name reference -exec rm -rf {} +
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
