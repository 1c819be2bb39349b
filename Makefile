# Two commands for a fresh machine: `make demo` and `make test`. They need Python 3.11+, make, and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# Tests start the command again and again: it is compiled once, whatever the shell says of that.
unexport PYTHONDONTWRITEBYTECODE
FURTHER := browser docs integrations package schedulers spark stores
WORKERS ?= 3  # more than cores: many tests wait for a process or a server

.PHONY: demo test lint types layers unit slow coverage traced soak bench samples screenshots site locked lock clean $(FURTHER) $(FURTHER:%=%-packages)

demo: $(STAMP)
	@$(BIN)/python docs/demo.py

test: lint layers unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# A step of its own: without its cache mypy takes a fifth of the time that the tests take.
types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports --no-cache

unit: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report= --cov-fail-under 95

# The tests in tests/slow.txt, most of which begin processes in full.
slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -n $(WORKERS) --dist worksteal

# What the tests leave out of the last `make test`, by file.
coverage: $(STAMP)
	$(BIN)/coverage report

# Chooses anew which tests `make test` traces: those that reach nearly all that all tests reach, in the least time.
TIMES := $(VENV)/times.xml
traced: $(STAMP)
	PROPSYNC_TRACE=all $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-context=test --cov-report= --junitxml=$(TIMES)
	$(BIN)/python -m tests.choose_traced $(TIMES)

# The same tests with all examples of every property, and what takes longer than two minutes; bounded, and
# ends with a table: law, cases tried, violations.
soak: $(STAMP)
	PROPSYNC_EXAMPLES=all $(BIN)/python -m pytest -n $(WORKERS) --timeout 600
	PROPSYNC_EXAMPLES=all $(BIN)/python -m pytest -m slow -n $(WORKERS) --timeout 600
	$(BIN)/python -m pytest tests/soak tests -m soak -n $(WORKERS) --timeout 900

# Tests that need more than the group dev: each of FURTHER has a folder, a marker and a group of packages; NEEDS_
# is a program that must be there. A Spark session takes both cores, so its tests run one after another.
NEEDS_spark := java
NEEDS_browser := chromium
OPTIONS := -n $(WORKERS) -rs
spark: OPTIONS := --timeout 300
package: OPTIONS := --timeout 600 -rs
# Airflow and Dagster get an environment each, made once in .schedulers: two minutes, 750 MB.
schedulers: OPTIONS := -rs
$(FURTHER:%=%-packages): %-packages: $(STAMP)
	@command -v $(or $(NEEDS_$*),true) >/dev/null || { echo "make $* needs $(NEEDS_$*)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group $*

$(FURTHER): %: %-packages
	$(BIN)/python -m pytest tests/$* -m $* $(OPTIONS)

# Takes the pictures of README and docs anew.
screenshots: browser-packages
	$(BIN)/python -m docs.screenshots

# The site of the documents, in build/site; any warning fails it.
docs: site
site: docs-packages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The environment from uv.lock, hash by hash, in place of the newest releases: what the workflows test and publish.
# `make lock` writes the lock anew after a change of pyproject.toml. Both need uv.
locked:
	uv sync --locked --all-groups
	uv pip install --quiet pip
	@touch $(STAMP)

lock: package-packages
	$(BIN)/uv lock --upgrade --default-index https://pypi.org/simple

# Measures this and its peers, and writes docs/performance.md. PART=peers ROWS=100000 for a quick look at a part.
PART ?= all
ROWS ?= 1000000
bench: $(STAMP)
	$(BIN)/python -m bench $(PART) --rows $(ROWS)

samples: $(STAMP)
	$(BIN)/python sample_data/generate.py

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("propsync needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
