# `make demo` and `make test` need Python 3.11 or newer; everything else they install into .venv.
PYTHON ?= python3
BIN := .venv/bin
# those that need no trained network, no photos, and minutes only
BENCHMARKS := fusion roi_flatten panoptic_quality evaluation coco_reader vistas streets network train_step two_processes

.PHONY: demo test lint format benchmarks clean

demo: .venv/installed
	$(BIN)/tascnet demo

test: .venv/installed
	$(BIN)/pytest --cov=tascnet --cov-report=term

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: .venv/installed
	for script in $(BENCHMARKS); do $(BIN)/python benchmarks/$$script.py || exit 1; done

# installed anew whenever pyproject.toml changes
.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=python3.12, say" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[demo,dev]'
	$(BIN)/pip install --quiet --no-deps cityscapesscripts==2.3.0  # the official evaluation, for tests; less its plotting
	touch $@

clean:
	rm -rf .venv build runs
