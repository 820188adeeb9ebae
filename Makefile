# Needs make and Python 3.11 only: every target makes .venv and installs the pinned versions when they changed.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PINS := pyproject.toml constraints.txt

# Real data for the tests; without it they are skipped (an error where CI=true).
CAUSALFM_DATA ?= $(abspath $(wildcard ../shared/data))
export CAUSALFM_DATA

# Tests run in as many processes as there are processors, but four (each holds 1 to 2 GB), with one thread each. Files
# go to processes in their order: those with few, long tests would be the last, and one process would wait for another.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help demo test docs calibrate benchmark figures minimum newest release clean

help:
	@echo "make demo       render a cohort, encode it, audit it; the report is in demo-report/"
	@echo "make test       ruff, mypy and the tests"
	@echo "make docs       the documentation as a site, offline, warnings are errors: docs/_build/html/index.html"
	@echo "make calibrate  the calibration study (hours; goes on where it was cut), then docs/calibration.md"
	@echo "make benchmark  every claim of speed beside its peer and its limit (half an hour), then docs/benchmarks.md"
	@echo "make figures    the figures of the paper with their tables and claims, in figures/, then docs/figures.md"
	@echo "make minimum    the core tests with the lowest versions that pyproject.toml allows, then docs/releasing.md"
	@echo "make newest     ... with the newest, and later Pythons"
	@echo "make release    build, check and install what is published, then docs/releasing.md; publishes nothing"
	@echo "make clean      remove .venv and what was made"

demo: $(VENV)/.demo
	$(BIN)/causalfm demo --out demo-report

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; \
	$(ONE_THREAD) $(BIN)/python -m pytest $(PARALLEL) -m "not slow" --durations=20; tests=$$?; \
	wait $$types || { echo "mypy found errors: see above"; exit 1; }; exit $$tests

docs: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

calibrate: $(VENV)/.dev
	$(BIN)/python -m experiments.calibration
	$(BIN)/python -m pytest -m slow

benchmark: $(VENV)/.dev $(VENV)/peers
	PYTHONPATH=$(VENV)/peers $(BIN)/python -m experiments.benchmarks

figures: $(VENV)/.dev
	$(BIN)/python -m experiments.figures
	$(BIN)/python -m experiments.figures.page

minimum: $(VENV)/.dev $(VENV)/tools
	$(BIN)/python -m experiments.releasing minimum

newest: $(VENV)/.dev $(VENV)/tools
	$(BIN)/python -m experiments.releasing newest

release: $(VENV)/.dev $(VENV)/tools
	$(BIN)/python -m pytest tests/test_packaging.py tests/test_release.py tests/test_layout.py
	$(BIN)/python -m experiments.releasing release

clean:
	rm -rf $(VENV) demo-report docs/_build docs/api docs/gallery build dist .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps say that the pins of this moment are installed.
$(VENV)/.demo: $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[demo]'
	touch $@

# A peer that asks for NumPy 1 and runs with NumPy 2. Where it cannot be had, the page says so.
$(VENV)/peers: | $(VENV)/.dev
	$(BIN)/python -m pip install --no-deps --target $@ torch-staintools==1.0.5 kornia==0.9.0 kornia_rs==0.2.0 || mkdir -p $@

# Tools of a release, apart from the library: cffconvert asks for an older jsonschema.
$(VENV)/tools: | $(BIN)/python
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install uv==0.13.9 twine==7.0.0 cffconvert==2.0.0 || { rm -rf $@; exit 1; }

$(VENV)/.dev: $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,demo,docs]'
	touch $@
