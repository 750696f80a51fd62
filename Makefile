# Two commands matter: `make demo` and `make test`. Both install what they need into .venv; nothing else is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo down test load crash faults lint types layers clean lock audit tools image-check
.DELETE_ON_ERROR:

demo: $(STAMP)  ## the main job on real embedded services
	$(BIN)/vision demo

down: $(STAMP)  ## stop everything that demo or `vision up` started
	$(BIN)/vision down

test: $(STAMP) tools lint types layers  ## everything CI runs
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --cov --cov-report=term:skip-covered

load: $(STAMP)  ## what takes too long for every run
	$(BIN)/python -m pytest -m load --ignore=tests/faults/test_crash_points.py

crash: $(STAMP)  ## a worker dies once at every await; an hour
	$(BIN)/python -m pytest -m load tests/faults/test_crash_points.py

faults: $(STAMP)  ## each service fails in each way; FAULT_SECONDS=60 for the published table
	$(BIN)/python -m pytest -m load tests/faults/test_stopping.py tests/faults/test_restarts.py tests/faults/test_dependencies.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

tools:  ## what only the system's packages have; tests that need it say so when it is missing
	@sh scripts/system_tools.sh

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old: Python 3.11 or later is needed; name one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

image-check: $(STAMP)  ## build the worker's image without Docker and run the guide's commands in it (root, Debian)
	sh deploy/image_check.sh

audit: $(STAMP)  ## does any locked version have a known vulnerability? needs the network
	$(BIN)/python scripts/audit.py

lock:  ## resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml --extra stack --extra test --generate-hashes --no-emit-index-url \
	  --universal --python-version 3.11 --custom-compile-command "make lock" -q -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --constraint requirements.lock --generate-hashes --no-emit-index-url \
	  --universal --python-version 3.11 --custom-compile-command "make lock" -q -o requirements-run.lock
	$(BIN)/uv pip compile deploy/requirements-build.in --generate-hashes --no-emit-index-url \
	  --universal --python-version 3.11 --custom-compile-command "make lock" -q -o deploy/requirements-build.lock

clean:  ## forget the environment and the embedded services' data
	-test -x $(BIN)/vision && $(BIN)/vision down
	rm -rf $(VENV) .vision .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
