.PHONY: format lint test test-all docs samples hashes

format:
	ruff format .
	ruff check --fix .

lint:
	ruff format --check .
	ruff check .
	mypy

test:
	python -m pytest -n 4 -m "not slow"

test-all:
	python -m pytest -n 4

docs:
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet

samples:
	python -m tools.make_samples

hashes:
	python -m tools.hashes
