# Two commands matter: `make demo` and `make test`. Both install what they need into .venv and download into the cache
# (pip's own, and ~/.cache/vision_app for the jars of Kafka and Neo4j). They change nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export VENV

.PHONY: demo down test unit load crash faults fuzz lint types layers reference clean lock audit tools image-check pin-images \
        fresh-check pythons environment test-environment
.DELETE_ON_ERROR:

demo: environment  ## run the main job on real embedded services
	@$(BIN)/vision demo

down: environment  ## stop everything that demo or `vision up` started
	@$(BIN)/vision down

test: test-environment $(if $(filter true,$(CI)),tools) lint types layers  ## run everything that CI runs
	$(BIN)/python -m pytest --basetemp=.pytest_tmp --numprocesses=2 --dist=loadfile --cov --cov-report=term:skip-covered

unit: test-environment  ## run the tests that need no services; the slowest property tests with a quarter of their examples
	QUICK=1 $(BIN)/python -m pytest --basetemp=.pytest_tmp --numprocesses=3 --dist=worksteal tests/unit tests/agents

load: test-environment  ## run the tests that take too long for `make test`
	$(BIN)/python -m pytest -m load --ignore=tests/faults/test_crash_points.py

crash: test-environment  ## kill a worker once at every await; takes an hour
	$(BIN)/python -m pytest -m load tests/faults/test_crash_points.py

faults: test-environment  ## let each service fail in each way; FAULT_SECONDS=60 for the published table
	$(BIN)/python -m pytest -m load tests/faults/test_stopping.py tests/faults/test_restarts.py tests/faults/test_dependencies.py

fuzz: test-environment  ## send 10,000 hostile events among normal posts; FUZZ_EVENTS, FUZZ_PER_SECOND, FUZZ_SEED
	$(BIN)/python -m pytest -m load -rP tests/integration/test_fuzz.py

lint: test-environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: test-environment
	$(BIN)/mypy

layers: test-environment
	$(BIN)/lint-imports

reference: environment  ## write docs/reference/settings.md, log-events.md and docs/schemas from the program
	$(BIN)/python scripts/settings_reference.py
	$(BIN)/python scripts/log_events_reference.py
	$(BIN)/python scripts/event_schemas.py

tools:  ## install Tesseract, promtool and servers for tests from the system's packages (root, Debian); tests that need them say if they are missing
	@sh scripts/system_tools.sh

# Both check a stamp first: if there is nothing to do they take a tenth of a second.
environment:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) is not on the PATH: install Python 3.11 to 3.14, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) scripts/platform_check.py requirements-demo.lock
	@$(PYTHON) scripts/install.py requirements-demo.lock

test-environment: environment
	@$(PYTHON) scripts/platform_check.py requirements.lock
	@$(PYTHON) scripts/install.py requirements.lock

fresh-check: test-environment  ## run the README's commands on a new Debian 12 and 13, as a plain user (root, Debian)
	$(BIN)/python scripts/fresh_check.py

pythons: test-environment  ## run the unit tests on every supported Python of this machine
	$(BIN)/python scripts/pythons.py

image-check: test-environment  ## build the worker's image without Docker and run the guide's commands in it (root, Debian)
	sh deploy/image_check.sh

pin-images: environment  ## write the digests behind the images' tags into the compose files; needs the network
	$(BIN)/python scripts/pin_images.py

audit: test-environment  ## check the locked versions for known vulnerabilities; needs the network
	$(BIN)/python scripts/audit.py

lock: test-environment  ## resolve the dependencies again
	$(BIN)/python scripts/lock.py

clean:  ## delete the environment and the embedded services' data
	-test -x $(BIN)/vision && $(BIN)/vision down
	rm -rf $(VENV) $(VENV).lock .vision .coverage .mypy_cache .ruff_cache .pytest_cache .pytest_tmp .hypothesis .import_linter_cache
