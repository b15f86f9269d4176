# `make demo` and `make test` install into .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCHMARKS := hypergradient training input_pipeline scale startup

.PHONY: demo test check docs bench lint types slow docs-check clean

demo: $(INSTALLED)
	$(BIN)/molere demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow"

check: lint types test slow docs-check

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

docs-check: $(INSTALLED)
	$(BIN)/python docs/generate.py --check

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,bench]"
	-$(BIN)/python -m pip install --quiet betty-ml # newer pips refuse its metadata; its rows then say so
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
