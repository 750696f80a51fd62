# Two commands matter: `make demo` and `make test`. Both install what they need into .venv and download into the cache
# (pip's own, and ~/.cache/vision_app for the jars of Kafka and Neo4j). Nothing else is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export VENV

.PHONY: demo down test unit load crash faults fuzz lint types layers reference clean lock audit tools image-check \
        fresh-check pythons environment test-environment
.DELETE_ON_ERROR:

demo: environment  ## the main job on real embedded services
	@$(BIN)/vision demo

down: environment  ## stop everything that demo or `vision up` started
	@$(BIN)/vision down

test: test-environment $(if $(filter true,$(CI)),tools) lint types layers  ## everything CI runs
	$(BIN)/python -m pytest --basetemp=.pytest_tmp --numprocesses=2 --dist=loadfile --cov --cov-report=term:skip-covered

unit: test-environment  ## what needs no services
	$(BIN)/python -m pytest --basetemp=.pytest_tmp --numprocesses=2 --dist=loadfile tests/unit tests/agents

load: test-environment  ## what takes too long for every run
	$(BIN)/python -m pytest -m load --ignore=tests/faults/test_crash_points.py

crash: test-environment  ## a worker dies once at every await; an hour
	$(BIN)/python -m pytest -m load tests/faults/test_crash_points.py

faults: test-environment  ## each service fails in each way; FAULT_SECONDS=60 for the published table
	$(BIN)/python -m pytest -m load tests/faults/test_stopping.py tests/faults/test_restarts.py tests/faults/test_dependencies.py

fuzz: test-environment  ## 10,000 hostile events among sound posts; FUZZ_EVENTS, FUZZ_PER_SECOND, FUZZ_SEED
	$(BIN)/python -m pytest -m load -rP tests/integration/test_fuzz.py

lint: test-environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: test-environment
	$(BIN)/mypy

layers: test-environment
	$(BIN)/lint-imports

reference: environment  ## write docs/reference/settings.md from the settings
	$(BIN)/python scripts/settings_reference.py

tools:  ## what only the system's packages have (root, Debian); tests that need it say so when it is missing
	@sh scripts/system_tools.sh

# Both look at a stamp first: when nothing is to be done they take a tenth of a second.
environment:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) is not on the PATH: install Python 3.11 to 3.14, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) scripts/platform_check.py requirements-demo.lock
	@$(PYTHON) scripts/install.py requirements-demo.lock

test-environment: environment
	@$(PYTHON) scripts/platform_check.py requirements.lock
	@$(PYTHON) scripts/install.py requirements.lock

fresh-check: test-environment  ## the README's commands on a new Debian 12 and 13, as a plain user (root, Debian)
	$(BIN)/python scripts/fresh_check.py

pythons: test-environment  ## the unit tests on every supported Python of this machine
	$(BIN)/python scripts/pythons.py

image-check: test-environment  ## build the worker's image without Docker and run the guide's commands in it (root, Debian)
	sh deploy/image_check.sh

audit: test-environment  ## does any locked version have a known vulnerability? needs the network
	$(BIN)/python scripts/audit.py

lock: test-environment  ## resolve the dependencies anew
	$(BIN)/python scripts/lock.py

clean:  ## forget the environment and the embedded services' data
	-test -x $(BIN)/vision && $(BIN)/vision down
	rm -rf $(VENV) $(VENV).lock .vision .coverage .mypy_cache .ruff_cache .pytest_cache .pytest_tmp .hypothesis .import_linter_cache
