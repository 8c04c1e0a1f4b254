# Everything a newcomer needs: Python 3.11 or newer and make. `make demo` shows it working, `make test` proves it.
PYTHON ?= python3
SITE ?= local
BIN := .venv/bin
STAMP := .venv/.installed
# The system tests mostly wait: four at a time. AT_ONCE= runs them one after the other.
AT_ONCE ?= -n 4 --dist loadgroup

.PHONY: demo test test-all check unit system bench install wheel clean bench-delivery bench-scale bench-submit bench-mirror bench-results bench-metadata bench-encryption bench-stacks chaos conformance endings

demo: $(STAMP)  ## Stream a simulated detector through a pool and back; SITE=local or local-mpi
	@$(BIN)/python examples/first-light/demo.py --site "$(SITE)"

test: check unit system  ## What CI runs

check: $(STAMP)
	$(BIN)/ruff check src tests bench examples
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/python -m pytest tests/unit -q

system: $(STAMP)
	$(BIN)/python -m pytest tests/system -q -m "not slow" $(AT_ONCE)

test-all: check unit $(STAMP)  ## With the slow tests too: another ten minutes
	$(BIN)/python -m pytest tests/system -q $(AT_ONCE)

bench: $(STAMP)  ## Frames per second against a bare pvaccess monitor and PvaPy, in one run
	$(BIN)/python bench/throughput.py

bench-delivery: $(STAMP)  ## At-least-once against at-most-once, unequal ranks, the mirror's memory
	$(BIN)/python bench/delivery.py

bench-scale: $(STAMP)  ## 4096 ranks on one controller: time to ready, and what their heartbeats cost it
	$(BIN)/python bench/scale.py

bench-submit: $(STAMP)  ## From submission to ready on the Slurm lab, against a bare Parsl task (root)
	$(BIN)/python bench/submit.py

bench-mirror: $(STAMP)  ## What the mirror forwards against a bare PvaMirrorServer
	$(BIN)/python bench/mirror.py

bench-results: $(STAMP)  ## The three ways on which results come back
	$(BIN)/python bench/results_way.py

bench-metadata: $(STAMP)  ## Six metadata channels at every frame, against PvaPy
	$(BIN)/python bench/metadata.py --rounds 3

bench-encryption: $(STAMP)  ## Sealing and opening, against PvaPy's encryptor and decryptor
	$(BIN)/python -m pip install --quiet rsa pycryptodome
	$(BIN)/python bench/encryption.py

bench-stacks: $(STAMP)  ## Small frames in stacks, against PvaPy
	$(BIN)/python bench/stacks.py

MINUTES ?= 0.5
chaos: $(STAMP)  ## Hurt real runs in every way we promise to survive; MINUTES=30 for long random kills
	PYTHONPATH=tests:tests/system $(BIN)/python -m chaos --minutes $(MINUTES)

conformance: $(STAMP)  ## NTNDArray as the world writes it, from servers of either kind, to clients of either kind
	PYTHONPATH=tests $(BIN)/python -m conformance

TIMES ?= 30
endings: $(STAMP)  ## Start and end real runs at a real terminal, at random moments, as a stranger does
	PYTHONPATH=tests $(BIN)/python -m endings --times $(TIMES)

wheel: $(STAMP)
	$(BIN)/python -m build

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("beamcast needs Python 3.11 or newer; this is %d.%d. Try: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --editable '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf .venv build dist runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
