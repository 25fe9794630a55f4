# Every target sets up what it needs: a virtual environment in .venv, installed with the pins of constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: help demo test evidence bench check format clean

help:
	@echo "make demo    install, run the small study, write a report"
	@echo "make test    install, run the tests"
	@echo "make evidence  published results again, with their bands: about five minutes"
	@echo "make bench   install the peers that can be had, race them, write docs/performance.md"
	@echo "make check   formatter, linter, type checker, import rules"
	@echo "make format  rewrite the code in the house format"
	@echo "make clean   remove the virtual environment and caches"

demo: $(VENV)/run.stamp
	$(BIN)/rankscope demo

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile

evidence: $(VENV)/run.stamp
	$(BIN)/rankscope reproduce all

bench: $(VENV)/run.stamp
	-$(PIP) --group bench
	$(BIN)/python benchmarks/everything.py

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rankscope needs Python 3.11 or newer, found $$($(PYTHON) --version); set PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	touch $@

$(VENV)/run.stamp: $(VENV)/python.stamp pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(PIP) --group dev
	touch $@

clean:
	rm -rf $(VENV) .ruff_cache .pytest_cache .import_linter_cache
