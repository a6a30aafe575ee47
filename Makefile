# Two commands on a fresh machine:  make demo   make test
VENV   ?= .venv
ifeq ($(OS),Windows_NT)
PYTHON ?= python
BIN    := $(VENV)/Scripts
else
PYTHON ?= python3
BIN    := $(VENV)/bin
endif
STAMP  := $(VENV)/.installed

.PHONY: demo test test-slow check fix pictures docs smoke release ci clean

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing dsg, and what it needs, into $(VENV): some minutes the first time."
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@echo "The demo takes about a minute."
	$(BIN)/python benchmarks/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m slow

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_recipes.py

pictures: $(STAMP)
	@$(BIN)/python -c 'import skimage' 2> $(if $(filter Windows_NT,$(OS)),NUL,/dev/null) || $(BIN)/python -m pip install --quiet -e '.[docs]'
	$(BIN)/python docs/make_pictures.py

docs: $(STAMP)
	@test -x $(BIN)/mkdocs || $(BIN)/python -m pip install --quiet -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean
	@echo "Open site/index.html"

bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py

smoke: $(STAMP)
	$(BIN)/python benchmarks/smoke.py

release: $(STAMP)
	@test -x $(BIN)/twine || $(BIN)/python -m pip install --quiet -e '.[release]'
	$(BIN)/python benchmarks/release.py

ci: check test test-slow smoke docs

clean:
	rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache
