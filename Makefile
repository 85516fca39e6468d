# Every target sets up what it needs in .venv, with the exact versions of constraints.txt.

PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test check bench conformance clean

help:
	@echo "make demo    see it work: a node, a PACS, real radiographs; results in demo-out/"
	@echo "make test    all tests"
	@echo "make check   lint, types, architecture contracts"
	@echo "make bench   side-by-side benchmarks"

demo: .venv/serving
	.venv/bin/collimator demo $(DEMO)

# A file's tests stay together: they share a node, a database, a PACS.
PARALLEL = --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: .venv/testing
	.venv/bin/python -m pytest $(PARALLEL) $(PYTEST)

check: .venv/testing
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy .
	.venv/bin/lint-imports

bench: .venv/testing
	.venv/bin/python -m benchmarks $(BENCH)

conformance: .venv/testing
	.venv/bin/python -m docs.conformance

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Collimator needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

# What a serving node needs: no torch.
.venv/serving: pyproject.toml constraints.txt | .venv/bin/python
	@echo "setting up .venv (serving)"
	$(PIP) --editable .
	@touch $@

# What tests, checks and the conversion of published weights need as well.
.venv/testing: pyproject.toml constraints.txt | .venv/bin/python
	@echo "setting up .venv (with test requirements; about two gigabytes)"
	$(PIP) --editable '.[test]'
	@touch $@ .venv/serving

clean:
	rm -rf .venv build *.egg-info demo-out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
