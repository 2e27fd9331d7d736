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
PINS     := pyproject.toml constraints.txt
OLDEST   := .venv-oldest
OLDEST_PINS := constraints-oldest.txt
OLDEST_TESTS := constrained_core pyro_constrained numpyro_constrained tests/core tests/parity tests/test_architecture.py tests/test_explain.py \
  tests/on_pyro/test_native.py tests/on_pyro/test_transformations.py tests/on_numpyro/test_native.py
# An older PyTorch maps over groups slowly.
OLDEST_OPTIONS := -W 'ignore:There is a performance drop:UserWarning'
# Where a value that is rounded in two ways, with a fused multiply-add and without, would be seen.
DIGITS := $(addprefix tests/laws/test_,digits.py pinned.py support.py powers_of_two.py)
EXPERIMENTS := two_dimensions super_resolution vae vae_pyro counts diffusion charges chemical_units portfolio gradient_estimators reconciliation disease_mapping hierarchy large_hierarchy

# One thread per test worker, so that workers do not fight for cores.
SINGLE_THREADED := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST   := $(SINGLE_THREADED) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo tutorials notebooks data experiments test test-stories test-experiments test-slow test-optimised test-accelerator test-oldest lint format bench docs dist clean

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
	$(PYTEST) --ignore=tests/experiments --ignore=tests/tutorials --ignore=tests/test_docs.py --durations=10 $(ARGS)

test-stories: $(VENV)/.installed ## run the tutorials in short mode, and the examples of the site
	$(PYTEST) tests/tutorials tests/test_docs.py --durations=10 $(ARGS)

test-experiments: $(VENV)/.installed-experiments ## run the tests of the experiments, which need more packages
	$(PYTEST) tests/experiments $(ARGS)

test-slow: $(VENV)/.installed-experiments ## run the statistical checks that take minutes, and more cases in JAX
	$(PYTEST) -m slow --durations=10 $(ARGS)

test-optimised: $(VENV)/.installed ## run JAX's tests of the last digits with all optimisations of XLA
	XLA_FLAGS= $(PYTEST) $(DIGITS) -k jax -m 'slow or not slow' $(ARGS)

test-accelerator: $(VENV)/.installed ## run the tests of the laws on a GPU (needs builds of torch and jax with CUDA)
	TORCH_DEVICE=cuda JAX_PLATFORMS=cuda,cpu XLA_FLAGS= XLA_PYTHON_CLIENT_PREALLOCATE=false \
	  $(PYTEST) tests/laws -p no:cacheprovider $(ARGS)

test-oldest: $(OLDEST)/.installed ## run a choice of the tests with the oldest versions that are supported
	$(SINGLE_THREADED) $(OLDEST)/bin/python -m pytest -n $(JOBS) --dist worksteal $(OLDEST_TESTS) $(OLDEST_OPTIONS) $(ARGS)

$(OLDEST)/.installed: pyproject.toml $(OLDEST_PINS)
	@echo "making $(OLDEST) with the oldest versions (a large download the first time)"
	@$(PYTHON) -m venv --clear $(OLDEST)
	@$(OLDEST)/bin/python -m pip install $(PIP_FLAGS) -e '.[pyro,numpyro,diagnostics,test]' -c $(OLDEST_PINS)
	@touch $@

lint: $(VENV)/.installed ## check style and types, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench ## measure against the frameworks' own laws, write tables to benchmarks/
	$(BIN)/python -m benchmarks.run $(ARGS)

docs: $(VENV)/.installed-docs ## build the site in build/docs; open build/docs/index.html
	$(SINGLE_THREADED) $(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs $(ARGS)

dist: $(VENV)/.installed-dist ## build wheel and source archive, and try the wheel in empty environments
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python tests/try_wheel.py dist

clean: ## remove caches and build products (environments, data and outputs stay)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . \( -path ./$(VENV) -o -path ./$(OLDEST) -o -path ./.git \) -prune -o -type d -name __pycache__ -exec rm -rf {} +
