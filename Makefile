PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ok

.PHONY: setup demo test lint dashboard perf docs clean

setup: $(STAMP)

# torch is pinned in constraints.txt; pip >= 25.1 knows dependency groups.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -U "pip>=25.1"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[all]" --group dev
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m hero_ray.sweep

test: $(STAMP)
	$(BIN)/python -m pytest -q

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dashboard: $(STAMP)
	$(BIN)/hero-ray dashboard

perf: $(STAMP)
	$(BIN)/python -m perf

docs: $(STAMP)
	$(BIN)/hero-ray list methods --markdown > docs/methods.md

clean:
	rm -rf $(VENV) hero_ray.db hero_ray.db-shm hero_ray.db-wal
