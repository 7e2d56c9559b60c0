.PHONY: format lint test samples

format:
	ruff format .
	ruff check --fix .

lint:
	ruff format --check .
	ruff check .
	mypy

test:
	python -m pytest -n 2

samples:
	python -m tools.make_samples
