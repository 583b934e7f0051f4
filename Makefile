# Every target is one call of a command line; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
PINS := pyproject.toml runtime/pyproject.toml $(wildcard requirements/*.txt)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PINNED := $(PIP) install --require-hashes --only-binary :all:
# As many workers as cores, so one thread of PyTorch in each: two on a core take several times as long.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# A .venv of another Python than PYTHON= asks for is made anew. Without PYTHON=, .venv stays as it is.
WHICH := import sys; print(sys.version, sys.base_prefix)
ANEW := $(if $(filter-out file,$(origin PYTHON)),$(shell test ! -e $(VENV) || \
  test "$$($(PYTHON) -c '$(WHICH)')" = "$$($(BIN)/python -c '$(WHICH)')" || echo --clear))

WEIGHTS ?= real
MODELS ?=
JOBS ?=
OUT ?=
PRECISION ?=
CALIBRATION ?=
ALSO ?=
TORCH_INDEX ?=
ENGINES ?=

.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create .venv with pinned dependencies (implied by the others) [TORCH_INDEX=url]

$(STAMP): $(PINS) $(if $(ANEW),FORCE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer, found " + sys.version.split()[0] + "; run make PYTHON=python3.11 setup")'
	@echo "setting up $(VENV) (about 2 minutes)"
	$(PYTHON) -m venv $(ANEW) $(VENV)
	$(PINNED) -r requirements/build.txt
	@$(PINNED) --no-deps $(TORCH_INDEX:%=--index-url %) -r requirements/torch-cpu.txt $(if $(TORCH_INDEX),,2>/dev/null || echo "no CPU build of PyTorch where pip looks: taking PyPI's, on Linux with CUDA")
	$(PINNED) -c requirements/lock.txt $$($(BIN)/python requirements/direct.py)
	$(PINNED) --no-deps -r requirements/openmmlab.txt -r requirements/peers.txt
	@$(PIP) install --require-hashes --no-deps --no-build-isolation -r requirements/xtcocotools.txt || echo "xtcocotools could not be built: one test that compares with it is skipped, all else works"
	$(PIP) install --no-deps --no-build-isolation -e runtime -e .
	@touch $@

lock:  ## write requirements/lock.txt from the pins in pyproject.toml, with hashes; needs uv
	$(BIN)/python requirements/direct.py | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" --output-file requirements/lock.txt -

export-all: setup  ## export all variants [WEIGHTS=real|synthetic] [MODELS="..."] [PRECISION=fp16|w16|int8 CALIBRATION=DIR|drawn] [JOBS=n] [OUT=dir]
	$(BIN)/cigpose-tools export $(or $(MODELS),--all) --weights $(WEIGHTS) $(if $(PRECISION),--precision $(PRECISION)) $(if $(CALIBRATION),--calibration "$(CALIBRATION)") $(if $(JOBS),--jobs $(JOBS)) $(if $(OUT),--out "$(OUT)")

verify-all: setup  ## compare the exported files with PyTorch [WEIGHTS=...] [MODELS="..."] [PRECISION=...] [JOBS=n] [OUT=dir]
	$(BIN)/cigpose-tools verify $(if $(MODELS),$(MODELS:%=$(or $(OUT),dist/$(WEIGHTS))/%$(if $(PRECISION),_$(PRECISION)).onnx),--all --weights $(WEIGHTS) $(if $(PRECISION),--precision $(PRECISION)) $(if $(OUT),--out "$(OUT)")) $(if $(JOBS),--jobs $(JOBS))

checkpoints: setup  ## fetch the published checkpoints [MODELS="..."] [RECORDED=1]
	$(BIN)/cigpose-tools checkpoints fetch $(or $(MODELS),--all) $(if $(RECORDED),--recorded)

inspect: setup  ## describe exported files [FILES="..."]
	$(BIN)/cigpose-runtime inspect $(or $(FILES),$(wildcard dist/*/*.onnx),$(error nothing exported yet: make export-all, or make inspect FILES="..."))

doctor: setup  ## look for install conflicts and name the fix of each
	$(BIN)/cigpose-tools doctor

demo: setup  ## export, verify and run a tiny model on drawn people, offline: half a minute
	$(BIN)/cigpose-tools demo

release: setup  ## build the folder to publish [WEIGHTS=...] [ALSO="fp16 w16 packed"] [ALLOW_SYNTHETIC=1] [OWN_WEIGHTS=1] [OUT=dir]
	$(BIN)/cigpose-tools release build --weights $(WEIGHTS) $(ALSO:%=--also %) $(if $(ALLOW_SYNTHETIC),--allow-synthetic) $(if $(OWN_WEIGHTS),--own-weights) $(if $(OUT),--out "$(OUT)")

publish: setup  ## publish what release built TO=github:OWNER/REPO@TAG|hf:ORG/REPO|URL [OUT=dir] [UPDATE=1]
	$(BIN)/cigpose-tools release publish $(if $(OUT),"$(OUT)") --to "$${TO:?make publish TO=github:OWNER/REPO@TAG, hf:ORG/REPO or a URL}" $(if $(UPDATE),--update) $(if $(ALLOW_SYNTHETIC),--allow-synthetic)

bench: setup  ## measure what exporting, verifying and running cost
	$(BIN)/python -m benchmarks

engines: setup  ## run files in other engines, each in a Python of its own; writes docs/engines.md [ENGINES="..."]
	$(BIN)/python -m benchmarks.engines $(ENGINES:%=--engine %)

test: setup  ## run the tests (under 15 minutes on 2 cores)
	$(PYTEST)

test-long: setup  ## run the long campaigns too: all 14 at full size, kill points, fuzzing
	$(PYTEST) -m 'long or not long'

test-runtime:  ## the runtime's own tests, on its wheel and sdist alone [PYTHON=python3.12]
	@for kind in whl tar.gz; do \
	  rm -rf build/test-runtime && $(PYTHON) -m venv build/test-runtime && \
	  build/test-runtime/bin/python -m pip --disable-pip-version-check --quiet install --prefer-binary -r requirements/runtime-tests.txt && \
	  (cd runtime && ../build/test-runtime/bin/python -m hatchling build -d ../build/test-runtime/dist >/dev/null 2>&1) && \
	  build/test-runtime/bin/python -m pip --disable-pip-version-check --quiet install --prefer-binary "$$(ls $(CURDIR)/build/test-runtime/dist/*.$$kind)[label]" && \
	  build/test-runtime/bin/python -m pytest -q tests/runtime || exit 1; done

test-runtime-minimum:  ## ... of the wheel with [cli], on the oldest versions that it says it takes [PYTHON=python3.11]
	@rm -rf build/test-runtime && $(PYTHON) -m venv build/test-runtime
	@build/test-runtime/bin/python -m pip --disable-pip-version-check --quiet install --prefer-binary -r requirements/runtime-minimum.txt
	@cd runtime && ../build/test-runtime/bin/python -m hatchling build -t wheel -d ../build/test-runtime/dist >/dev/null 2>&1
	@build/test-runtime/bin/python -m pip --disable-pip-version-check --quiet install -c requirements/runtime-minimum.txt "$$(ls $(CURDIR)/build/test-runtime/dist/*.whl)[cli]"
	@build/test-runtime/bin/python -m pytest -q tests/runtime --ignore-glob='*/test_label*'

lint: setup  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## write docs/api.md, and the picture and tables of docs/architecture.md, from the code
	$(BIN)/python docs/draw_architecture.py
	$(BIN)/python docs/write_pages.py

clean:  ## remove what export, build and test leave; keeps .venv and fetched checkpoints
	rm -rf dist build checkpoints/synthetic .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup lock export-all verify-all checkpoints inspect doctor demo release publish bench engines test test-long test-runtime test-runtime-minimum lint docs clean FORCE
.NOTPARALLEL:
