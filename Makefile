# Every target is one call of a command line; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
PINS := pyproject.toml runtime/pyproject.toml $(wildcard requirements/*.txt)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

WEIGHTS ?= real
MODELS ?=
JOBS ?=
OUT ?=

.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create .venv with pinned dependencies (implied by the others)

$(STAMP): $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer, found " + sys.version.split()[0] + "; run make PYTHON=python3.11 setup")'
	@echo "setting up $(VENV) (about 2 minutes)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --only-binary :all: -r requirements/build.txt
	$(PIP) install --only-binary :all: --no-build-isolation -c requirements/lock.txt -e runtime -e '.[dev]'
	$(PIP) install --only-binary :all: --no-deps -r requirements/openmmlab.txt -r requirements/peers.txt
	@$(MAKE) --no-print-directory evaluator || echo "no AP can be measured: that takes a C compiler; all else works. Later: make evaluator"
	@touch $@

evaluator:  ## build what AP is measured with (implied by setup; needs a C compiler)
	@$(PIP) install --no-deps --no-build-isolation --no-binary xtcocotools -r requirements/evaluator.txt

export-all: setup  ## export all variants [WEIGHTS=real|synthetic] [MODELS="..."] [JOBS=n] [OUT=dir]
	$(BIN)/cigpose-tools export $(or $(MODELS),--all) --weights $(WEIGHTS) $(if $(JOBS),--jobs $(JOBS)) $(if $(OUT),--out "$(OUT)")

verify-all: setup  ## prove the exported files against PyTorch [WEIGHTS=...] [MODELS="..."] [JOBS=n] [OUT=dir]
	$(BIN)/cigpose-tools verify $(if $(MODELS),$(MODELS:%=$(or $(OUT),dist/$(WEIGHTS))/%.onnx),--all --weights $(WEIGHTS) $(if $(OUT),--out "$(OUT)")) $(if $(JOBS),--jobs $(JOBS))

checkpoints: setup  ## fetch the published checkpoints
	$(BIN)/cigpose-tools checkpoints fetch $(or $(MODELS),--all)

inspect: setup  ## describe exported files [FILES="..."]
	$(BIN)/cigpose-runtime inspect $(or $(FILES),$(wildcard dist/*/*.onnx),$(error nothing exported yet: make export-all, or make inspect FILES="..."))

doctor: setup  ## look for install conflicts and name the fix of each
	$(BIN)/cigpose-tools doctor

demo: setup  ## export, verify and run a tiny model on drawn people, offline: 3 minutes
	$(BIN)/cigpose-tools demo

release: setup  ## build the folder to publish [WEIGHTS=...] [ALLOW_SYNTHETIC=1] [OUT=dir]
	$(BIN)/cigpose-tools release build --weights $(WEIGHTS) $(if $(ALLOW_SYNTHETIC),--allow-synthetic) $(if $(OUT),--out "$(OUT)")

bench: setup  ## measure export cost, beside a straight trace of the reference head
	$(BIN)/cigpose-tools bench

test: setup  ## run the tests (under 15 minutes on 2 cores)
	$(BIN)/python -m pytest -n auto --dist loadfile

test-long: setup  ## run the long campaigns too: all 14 at full size, kill points, fuzzing
	$(BIN)/python -m pytest -n auto --dist loadfile -m 'long or not long'

lint: setup  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove what export, build and test leave; keeps .venv and fetched checkpoints
	rm -rf dist build checkpoints/synthetic .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup evaluator export-all verify-all checkpoints inspect doctor demo release bench test test-long lint clean
