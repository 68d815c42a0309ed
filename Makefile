# Everything a newcomer needs; `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
JOBS ?= 2

export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras; a new pyproject.toml installs again.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(PIP) -e ".[$*]"
	@touch $@

demo: $(VENV)/.installed-demo ## train, capture, verify, compile, predict, package; writes build/demo/report.html
	$(BIN)/python -m examples.digits --out build/demo

test: $(VENV)/.installed-dev ## the tests, under 20 minutes on 2 cores
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-all: $(VENV)/.installed-dev ## every test, the slow ones too, and the long fuzz and property runs
	$(BIN)/python -m pytest -n $(JOBS)

check: $(VENV)/.installed-dev ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(VENV)/.installed-bench ## models beside torch eager, torch.compile, ONNX Runtime and OpenVINO
	$(BIN)/python -m bench

docs: $(VENV)/.installed-dev ## regenerate the derived tables in docs/
	$(BIN)/python -m docs.generate

clean: ## remove what was built
	rm -rf build dist $(VENV)
