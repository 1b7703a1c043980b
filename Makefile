# `make demo` and `make test` need Python 3.11 or newer; everything else they install into .venv.
PYTHON ?= python3
BIN := .venv/bin
# those that need no trained network, no photos, and minutes only
BENCHMARKS := fusion roi_flatten panoptic_quality evaluation coco_reader vistas streets network train_step two_processes

# what a change usually breaks
FAST := $(addprefix tests/,test_layers.py test_readme.py test_public_api.py test_structures.py test_values.py test_planes.py \
	test_paste.py test_fusion.py test_settings.py test_flags.py test_docs_metrics.py metrics model)
# a file goes to one process as a whole, so that its shared fixtures are made once
PROCESSES ?= 2
PARALLEL := --numprocesses $(PROCESSES) --dist loadfile

.PHONY: demo test test-fast lint format benchmarks docs clean

demo: .venv/installed
	$(BIN)/tascnet demo

test: .venv/installed
	$(BIN)/pytest $(PARALLEL) --cov=tascnet --cov-report=term

test-fast: .venv/installed
	$(BIN)/pytest $(PARALLEL) $(FAST)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: .venv/installed
	for script in $(BENCHMARKS); do $(BIN)/python benchmarks/$$script.py || exit 1; done

# the site, in build/site; strict: a warning is an error
docs: .venv/docs
	$(BIN)/mkdocs build --strict

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

# installed anew whenever pyproject.toml changes
.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=python3.12, say" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[demo,dev]'
	$(BIN)/pip install --quiet --no-deps cityscapesscripts==2.3.0  # the official evaluation, for tests; less its plotting
	touch $@

clean:
	rm -rf .venv build runs
