# earthgen: `make serve` and `make test` are all a fresh clone needs (Python 3.11 or newer).
#
#   make serve                         install into .venv, then serve the map on http://127.0.0.1:8000
#   make serve ARGS="--port 9000"      ... with arguments for `earthgen serve`
#   make test                          install with the development tools, then run every test
#   make test ARGS="tests/test_cli.py" ... only some of them
#   make TORCH_INDEX=https://download.pytorch.org/whl/cpu serve
#                                      take torch and torchvision from another package index: here the CPU
#                                      builds, about 1 GB on disk in place of 5.5 GB

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=
# As many as there are cores; 0 runs the tests in one process, for a debugger.
TEST_PROCESSES ?= auto
PICTURES_PORT ?= 8765
PICTURES_BASE := http://127.0.0.1:$(PICTURES_PORT)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help serve test check format docs pictures dump-demo bench clean

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/'

serve: $(VENV)/.installed ## install what serving needs, then serve the default worlds and the map
	@echo "earthgen: starting the service; stop it with Ctrl-C"
	$(BIN)/earthgen serve $(ARGS)

test: $(VENV)/.installed-dev ## install the development tools, then run every test
	@echo "earthgen: running the tests"
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

check: $(VENV)/.installed-dev ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-dev ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(VENV)/.installed-dev ## make docs/pictures anew in a headless Chromium; hours with an empty cache
	@echo "earthgen: serving on port $(PICTURES_PORT) while the pictures are taken"
	@$(BIN)/earthgen serve --port $(PICTURES_PORT) & server=$$!; trap 'kill $$server' EXIT; \
	until $(BIN)/python -c 'import urllib.request as r; r.urlopen("$(PICTURES_BASE)/healthz")' 2>/dev/null; do \
		kill -0 $$server || exit 1; sleep 1; \
	done; \
	$(BIN)/python docs/pictures.py --base $(PICTURES_BASE) $(ARGS)

dump-demo: $(VENV)/.installed-dev ## write a small training set of each task into runs/dump-demo and read it back
	@echo "earthgen: eight items of each task; minutes on two quiet cores"
	$(BIN)/python -m trainingsets.demo --out runs/dump-demo $(ARGS)

bench: $(VENV)/.installed-dev ## measure speed, memory and seams on this machine
	$(BIN)/python -m benchmarks.speed $(ARGS)
	$(BIN)/python -m benchmarks.seams $(ARGS)
	$(BIN)/python -m benchmarks.margin $(ARGS)

clean: ## remove the environment and everything built
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Each step leaves a stamp, so that nothing is installed twice until pyproject.toml changes.
$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	@echo "earthgen: installing earthgen and what it needs into $(VENV)"
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.torch
	@echo "earthgen: installing earthgen and its development tools into $(VENV)"
	$(PIP) install -e '.[dev]'
	@# Hugging Face's reader has the name of our own datasets/, so it lies apart, where only its tests look.
	$(PIP) install --no-deps --upgrade --target $(VENV)/readers datasets
	@touch $@ $(VENV)/.installed

$(VENV)/.torch: $(VENV)/bin/python
ifneq ($(TORCH_INDEX),)
	@echo "earthgen: installing torch and torchvision from $(TORCH_INDEX)"
	$(PIP) install --index-url $(TORCH_INDEX) 'torch>=2.13' torchvision
endif
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "earthgen needs Python 3.11 or newer, and $(PYTHON) is another; say make PYTHON=python3.12 ..." >&2; exit 2; }
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "earthgen: Python's venv module is missing; installing Debian's python3-venv"; \
			apt-get update -qq && apt-get install -y -qq python3-venv; \
		else \
			echo "earthgen: Python's venv module is missing; on Debian: sudo apt-get install python3-venv" >&2; exit 2; \
		fi; \
	fi
	@echo "earthgen: making the environment $(VENV)"
	$(PYTHON) -m venv $(VENV)
