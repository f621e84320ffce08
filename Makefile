# Every target sets up what it needs in .venv, from plain pip and constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
STORE ?= runs/demo
# One test process a core; a second thread in each would only wait. Bytecode is kept: a test file whose asserts are
# rewritten anew takes longer than its tests, and many tests start the command. Each process has half of the files and
# takes from the other's when its own are done (worksteal), so that what a file's tests share is made once. Those that
# start clusters or browsers of several processes are alone, and so are faults, of which one becomes another user.
# Tests' thousands of small folders are in memory where 4 GB of it are free, because some disks take long to remove them.
MEMORY := /dev/shm
ROOM := $(shell df --output=avail $(MEMORY) 2>/dev/null | awk 'NR == 2 && $$1 > 4000000')
RUNS_PROGRAMS := $(shell grep ' $(MEMORY) ' /proc/mounts 2>/dev/null | grep -v noexec)
FOLDERS := $(if $(ROOM),$(if $(RUNS_PROGRAMS),PYTEST_DEBUG_TEMPROOT=$(MEMORY)))
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(FOLDERS) $(BIN)/python -m pytest
ON_ALL_CORES := -n auto --dist worksteal

.PHONY: demo test verify unit lint format docs test-faults test-oracles test-browser test-ray test-gpu bench clean

demo: $(VENV)/.ready  ## a real contest of four optimizers that ends in a verdict and a page
	$(BIN)/fairstep demo --store $(STORE)

test: verify  ## everything that needs nothing beyond this machine
	$(PYTEST) $(ON_ALL_CORES) -m "not oracle and not browser and not gpu and not faults"

verify: $(VENV)/.dev  ## the stores in results/, and that the leaderboard and the claims are of them
	[ ! -d results ] || $(BIN)/fairstep store verify results/*
	$(BIN)/python tools/results_pages.py --check

unit: $(VENV)/.dev  ## the fast tests alone
	$(PYTEST) $(ON_ALL_CORES) -m "not slow and not oracle and not browser and not gpu and not dist and not faults"

test-faults: $(VENV)/.dev  ## faults by the hundred; ends in a table of what was tried, right and silent
	$(PYTEST) -m faults tests/faults

test-oracles: $(VENV)/.oracles  ## every rule against implementations that we did not write; contests in trainers of others
	$(PYTEST) $(ON_ALL_CORES) -m oracle

test-browser: $(VENV)/.browser  ## the report in a real Chromium
	$(PYTEST) -m browser -rs

test-ray: $(VENV)/.ray  ## studies on a real Ray and on submitit's local executor, workers killed in the middle
	$(PYTEST) -rs tests/study/test_launchers.py tests/external/test_launchers.py

test-gpu: $(VENV)/.dev  ## on a machine with CUDA: equality with the processor, then speed; under ten minutes
	$(PYTEST) -m gpu -rs tests/gpu
	$(BIN)/python benchmarks/gpu.py --only mfu,peers,overhead --minutes 5

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## the documentation site, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	$(PYTEST) tests/docs

bench: $(VENV)/.ready  ## our training step beside plain loops, in one run; its table goes into docs/results/throughput.md
	$(BIN)/python benchmarks/train_throughput.py --write docs/results/throughput.md

clean:
	rm -rf $(VENV) docs/_build docs/_generated .pytest_cache .mypy_cache .ruff_cache

# torch goes first and by its exact version, so that no other package pulls in another build of it.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) $$(grep '^torch==' constraints.txt)
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(PIP) --editable '.[dev]'
	touch $@

$(VENV)/.oracles: $(VENV)/.dev
	$(PIP) --editable '.[oracles,eval,track,lightning]' 'jsonargparse[signatures]'
	$(PIP) --no-deps kron-torch timm  # they ask for triton and torchvision, which what is compared does not need
	$(PIP) --no-deps litgpt  # it asks for a huggingface-hub that transformers 5 cannot use
	touch $@

$(VENV)/.ray: $(VENV)/.dev
	$(PIP) --editable '.[ray,slurm]'
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) --editable '.[docs]'
	touch $@

$(VENV)/.browser: $(VENV)/.dev
	$(PIP) --editable '.[browser]'
	touch $@
