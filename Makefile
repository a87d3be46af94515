PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ok

.PHONY: setup demo test lint dashboard perf docs paper-offline clean

setup: $(STAMP)

# torch is pinned in constraints.txt; pip >= 25.1 knows dependency groups.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -U "pip>=25.1"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[all]" --group dev
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m hero_ray.sweep

# Real processes, browsers and databases share the machine with whatever else runs on it: what fails gets one more try,
# by itself. A test that fails twice fails.
test: $(STAMP)
	$(BIN)/python -m pytest -q || $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dashboard: $(STAMP)
	$(BIN)/hero-ray dashboard

perf: $(STAMP)
	$(BIN)/python -m perf

docs: $(STAMP)
	$(BIN)/python -m hero_ray.methods.kit.catalogue > docs/methods.md

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
	rm -rf $(VENV) hero_ray.db hero_ray.db-shm hero_ray.db-wal
