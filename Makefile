# The menu of this repository: `make` prints it. Needs Python 3.11 or newer and a package index.

PYTHON    ?= python3
BACKEND   ?=
JOBS      ?= 2
ARGS      ?=
PIP_FLAGS ?= --quiet
STORY     ?=
NAME      ?=
FULL      ?=

VENV     := .venv
BIN      := $(VENV)/bin
PIP      := $(BIN)/python -m pip --disable-pip-version-check
TORCH    := $(shell grep '^torch==' constraints.txt)
PACKAGES := constrained_core pyro_constrained numpyro_constrained
PINS     := pyproject.toml constraints.txt
EXPERIMENTS := two_dimensions super_resolution vae vae_pyro counts diffusion charges chemical_units portfolio gradient_estimators reconciliation hierarchy

# One thread per test worker, so that workers do not fight for cores.
SINGLE_THREADED := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST   := $(SINGLE_THREADED) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo tutorials notebooks data experiments test test-experiments test-slow lint format bench docs clean

help: ## print this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12  interpreter of a new $(VENV)     JOBS=4   test workers"
	@echo "  ARGS='...'         passed on to demo, test, bench  PIP_FLAGS=  show what pip does"

venv: $(VENV)/.installed ## make .venv with the pinned packages (the other targets do it when needed)
	@echo "ready: $(BIN)/python"

$(VENV)/.installed: $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Expected Python 3.11 or newer, got $$($(PYTHON) --version 2>&1): make venv PYTHON=python3.12"; exit 1; }
	@$(PIP) --version >/dev/null 2>&1 || \
	  { echo "[1/3] creating $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "[2/3] installing $(TORCH) (a large download the first time)"
	@$(PIP) install $(PIP_FLAGS) '$(TORCH)'
	@echo "[3/3] installing the packages here and what they, their tests and tutorials need"
	@$(PIP) install $(PIP_FLAGS) -e '.[pyro,numpyro,test,tutorials]' -c constraints.txt
	@touch $@

# Heavy extras that only one target needs.
$(VENV)/.installed-%: $(VENV)/.installed
	@echo "installing what 'make $*' needs"
	@$(PIP) install $(PIP_FLAGS) -e '.[$*]' -c constraints.txt
	@touch $@

demo: $(VENV)/.installed ## train a VAE whose images obey a linear law (BACKEND=pyro or numpyro)
	@case '$(or $(BACKEND),pyro)' in pyro|numpyro) ;; \
	  *) echo "Expected BACKEND=pyro or BACKEND=numpyro, got '$(BACKEND)'"; exit 2;; esac
	$(BIN)/python -m demo.vae_$(or $(BACKEND),pyro) $(ARGS)

STORIES := $(if $(STORY),--story $(STORY)) $(if $(BACKEND),--backend $(BACKEND))
tutorials: $(VENV)/.installed ## run all tutorials, shortened (FULL=1 in full, STORY=02 BACKEND=pyro for one)
	$(BIN)/python -m tutorials.stories run $(STORIES) --jobs $(JOBS) $(if $(FULL),,--short)

notebooks: $(VENV)/.installed ## run the tutorials and write docs/notebooks (STORY=02 BACKEND=pyro for one)
	$(BIN)/python -m tutorials.stories build $(STORIES)

data: $(VENV)/.installed ## fetch the larger image sets of the experiments (about 300 MB, kept under data/)
	$(BIN)/python -m experiments.images.sources $(ARGS)

experiments: $(VENV)/.installed-experiments ## scientific applications beside their usual cures (NAME=charges for one, ARGS=--short to try)
	@set -e; for name in $(or $(NAME),$(EXPERIMENTS)); do \
	  echo "experiments.$$name"; $(BIN)/python -m experiments.$$name $(ARGS); done

test: $(VENV)/.installed ## run the tests and the examples in the docstrings
	$(PYTEST) --ignore=tests/experiments --durations=10 $(ARGS)

test-experiments: $(VENV)/.installed-experiments ## run the tests of the experiments, which need more packages
	$(PYTEST) tests/experiments $(ARGS)

test-slow: $(VENV)/.installed-experiments ## run the statistical checks that take minutes
	XLA_FLAGS= $(PYTEST) -m slow $(ARGS)

lint: $(VENV)/.installed ## check style and types, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench ## measure against the frameworks' own laws, write tables to benchmarks/
	$(BIN)/python -m benchmarks.run $(ARGS)

docs: $(VENV)/.installed-docs ## write the reference to build/docs
	$(BIN)/pdoc --math -o build/docs $(PACKAGES)

clean: ## remove caches and build products (.venv, data and outputs stay)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . \( -path ./$(VENV) -o -path ./.git \) -prune -o -type d -name __pycache__ -exec rm -rf {} +
