# Two commands: `make demo` and `make test`. Both make the same environment in .venv and need Python >= 3.11 and make.

PYTHON ?= python3
OUT    ?= demo
# For `make g2p`: a dictionary in CMU's format, or the folder of cmudict.dict; and where the network goes.
CMUDICT ?= ../shared/data/cmudict
G2P     ?= g2p

BIN   := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-quick test-all lint docs bench g2p clean

help: ## what can be made
	@echo "make demo OUT=folder    speak a corpus, train on it, write the report and say where it is"
	@echo "make test               every test but the slow ones"
	@echo "make test-quick         without the slow, browser and demo tests; stops at the first failure"
	@echo "make test-all           every test"
	@echo "make lint               ruff check, ruff format --check, mypy"
	@echo "make docs               the HTML documentation in docs/_build; a warning is an error"
	@echo "make bench              every benchmarks/bench_*.py"
	@echo "make g2p CMUDICT=file   train the network from spelling to sound, into the folder G2P"
	@echo "make clean              remove caches and built files; .venv and the demo's results stay"
	@echo
	@echo "Another Python: make demo PYTHON=python3.12"

demo: $(STAMP)
	$(BIN)/otoscope demo --out "$(OUT)"

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

test-quick: $(STAMP)
	$(BIN)/python -m pytest -x -q -m "not slow and not browser and not demo"

test-all: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo "the documentation is at docs/_build/index.html"

bench: $(STAMP)
	@for file in benchmarks/bench_*.py; do \
	    [ -e "$$file" ] || { echo "there is no benchmarks/bench_*.py yet"; exit 1; }; \
	    echo "== $$file"; \
	    $(BIN)/python "$$file" || exit 1; \
	done

g2p: $(STAMP)
	$(BIN)/python recipes/g2p/train.py "$(CMUDICT)" "$(G2P)"

clean:
	rm -rf build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that broke off is taken up again by the next make.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	@touch $@

.venv/.installed-docs: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[docs]"
	@touch $@

# A virtual environment without pip is removed again; otherwise the next make would take it for a whole one.
$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo "otoscope needs Python 3.11 or newer, and there is no '$(PYTHON)' here."; \
	    echo "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "otoscope needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)."; \
	    echo "Install a newer one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo '"$(PYTHON)" -m venv .venv'
	@"$(PYTHON)" -m venv .venv || { \
	    rm -rf .venv; \
	    echo "'$(PYTHON)' could not make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
