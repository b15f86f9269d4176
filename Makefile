# `make demo` and `make test` install into .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOWEST := .venv-lowest
BENCHMARKS := hypergradient dual_pass precision meta_batch training evaluation compile loading input_pipeline scale startup allocator dry_run concurrency suspects frozen_features frozen_heads

# Hundreds of tests start a process; each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-gpu check docs bench lint types audit slow long docs-check check-lowest reproduce results result clean

demo: $(INSTALLED)
	$(BIN)/molere demo

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto

check: lint types audit test slow long docs-check

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

# Known vulnerabilities of what is installed; without a network a line says that nothing was looked up.
audit: $(INSTALLED)
	$(BIN)/python .ci/audit.py

slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not long" -n auto --dist worksteal --durations 10

long: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long -n auto --dist worksteal --durations 10

# What only a CUDA GPU can show; without one every test skips.
test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest -m gpu

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

docs-check: $(INSTALLED)
	$(BIN)/python docs/generate.py --check
	$(BIN)/python benchmarks/reproduce/results.py --check

# The default tests on the lowest version of every dependency that pyproject.toml allows. The first time downloads
# 3 GB, since torch comes with its CUDA libraries. Old libraries may warn, and each Typer words docs/reference/cli.md its own way.
check-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -m "not slow" -W default \
		--deselect molere_cli_tests/programme/test_docs.py::test_generated_pages_are_up_to_date

$(LOWEST)/.installed: pyproject.toml .ci/lowest.py
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check packaging
	$(LOWEST)/bin/python .ci/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt setuptools
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt \
		--no-build-isolation --editable ".[dev]"
	touch $@

# The programme behind docs/concepts/results.md: runs what has no result yet; may be stopped and continued anywhere.
reproduce: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/reproduce/run.py

# docs/concepts/results.md and its figures from benchmarks/reproduce/results/ alone.
results: $(INSTALLED)
	$(BIN)/python benchmarks/reproduce/results.py

# make result CELL=shortcut/rho-0.90/erm/s0 trains one finished cell again and compares.
result: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/reproduce/run.py --cell $(CELL)

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,bench]"
	-$(BIN)/python -m pip install --quiet betty-ml # newer pips refuse its metadata; its rows then say so
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) $(LOWEST) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,trackio]"
	touch $@
