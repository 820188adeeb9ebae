# Needs make and Python 3.11 only: every target makes .venv and installs the pinned versions when they changed.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PINS := pyproject.toml constraints.txt

# Real data for the tests; without it they are skipped (an error where CI=true).
CAUSALFM_DATA ?= $(abspath $(wildcard ../shared/data))
export CAUSALFM_DATA

# Tests run in as many processes as there are processors, but four (each holds 1 to 2 GB), with one thread each.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help demo test calibrate benchmark clean

help:
	@echo "make demo       render a cohort, encode it, audit it; the report is in demo-report/"
	@echo "make test       ruff, mypy and the tests"
	@echo "make calibrate  the calibration study (hours; goes on where it was cut), then docs/calibration.md"
	@echo "make benchmark  time and memory of the neighbour pass; slide files beside bare HDF5 reads"
	@echo "make clean      remove .venv and what was made"

demo: $(VENV)/.demo
	$(BIN)/causalfm demo --out demo-report

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(ONE_THREAD) $(BIN)/python -m pytest -m "not slow" --durations=20 -n auto --maxprocesses 4 --dist loadfile

calibrate: $(VENV)/.dev
	$(BIN)/python -m experiments.calibration
	$(BIN)/python -m pytest -m slow

benchmark: $(VENV)/.dev
	$(BIN)/python -m experiments.benchmarks.neighbours
	$(BIN)/python -m experiments.benchmarks.families
	$(BIN)/python -m experiments.benchmarks.families --queries
	$(BIN)/python -m experiments.benchmarks.invariance
	$(BIN)/python -m experiments.benchmarks.readers --slides 200
	$(BIN)/python -m experiments.benchmarks.image_sources
	$(BIN)/python -m experiments.benchmarks.scm
	$(BIN)/python -m experiments.benchmarks.effects
	$(BIN)/python -m experiments.benchmarks.effects --large
	$(BIN)/python -m experiments.benchmarks.correctors
	$(BIN)/python -m experiments.benchmarks.extraction
	$(BIN)/python -m experiments.benchmarks.shift
	$(BIN)/python -m experiments.benchmarks.stain

clean:
	rm -rf $(VENV) demo-report build dist .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps say that the pins of this moment are installed.
$(VENV)/.demo: $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.dev: $(PINS) | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,demo]'
	touch $@
