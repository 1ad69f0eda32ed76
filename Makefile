# Bare `make` explains the targets. Everything is installed into .venv, from the versions pinned for
# the Python in it: the one there is, unless PYTHON names another.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(wildcard $(BIN)/python) python3)
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
SUPPORTED := $(patsubst constraints/%.txt,%,$(sort $(wildcard constraints/*.txt)))
CONSTRAINTS := constraints/$(or $(PYTHON_VERSION),none).txt
# pip is quiet, and takes minutes where the packages are not there yet.
SAY_INSTALLING := @echo 'installing into $(VENV), which takes a few minutes the first time' >&2
PIP_INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS)
EXTRAS ?=
comma := ,
space := $(subst ,, )
# Between extras stand commas, spaces or both, and their order says nothing.
EXTRA_LIST := $(sort $(subst $(comma),$(space),$(EXTRAS)))
KNOWN_EXTRAS := $(shell sed -n '/^\[project.optional-dep/,/^\[project.scripts/s/^\([a-z][a-z0-9-]*\) = .*/\1/p' pyproject.toml)
UNKNOWN_EXTRAS := $(filter-out $(KNOWN_EXTRAS),$(EXTRA_LIST))
# pip says nothing of an extra that is not there, and does without it.
$(if $(UNKNOWN_EXTRAS),$(error EXTRAS=$(UNKNOWN_EXTRAS) is not there: give some of $(KNOWN_EXTRAS)))
# A stamp of its own for each set of extras, so that one asked for later is installed then.
INSTALLED := $(VENV)/.installed$(if $(EXTRA_LIST),+$(subst $(space),+,$(EXTRA_LIST)))
# RUN and EXP are read from the environment, where make puts them: a name may hold any character.
export RUN EXP
# What the command line takes; for `make train`, without it, PPO solves CartPole-v1.
ARGS ?=
TRAIN_ARGS := $(if $(ARGS),$(ARGS),ppo --env CartPole-v1 --num-envs 1024 --total-timesteps 2000000)

.PHONY: help install train resume evaluate sweep report docs docs-serve test test-slow test-all smoke fuzz torture conformance check bench bench-accelerator bench-scaling bench-tabular peers envelope theory figures record tables variance versus ratios fine-tuning players dist clean

help: ## explain the targets
	@echo "jaxrl_pg: functional reinforcement learning in JAX"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 19
	@echo '  make theory-NAME  one of its figures, such as theory-bounds'
	@echo
	@echo '  make train ARGS="ppo --env Pendulum-v1 --seed 3"   any option of the command line'
	@echo '  make install EXTRAS=gpu                            CUDA (gpu) or TPU (tpu) builds of JAX'
	@echo '  make install PYTHON=python3.12                     another Python: $(SUPPORTED)'

install: $(INSTALLED) ## create .venv and install the library, nothing else

train: install ## train; ARGS="ppo --env ..." changes everything
	@$(BIN)/jaxrl-pg train $(TRAIN_ARGS)

resume: install ## go on with a stopped run: make resume RUN=runs/...
	@test -n "$$RUN" || { echo 'say which run: make resume RUN=runs/...' >&2; exit 2; }
	@$(BIN)/jaxrl-pg resume "$$RUN" $(ARGS)

evaluate: install ## whole episodes of a trained policy: make evaluate RUN=runs/...
	@test -n "$$RUN" || { echo 'say which run: make evaluate RUN=runs/...' >&2; exit 2; }
	@$(BIN)/jaxrl-pg evaluate "$$RUN" $(ARGS)

sweep: install ## train every agent of an experiment and report: make sweep EXP=cartpole_ppo
	@test -n "$$EXP" || { echo 'say which experiment: make sweep EXP=... (a file in experiments/)' >&2; exit 2; }
	@$(BIN)/jaxrl-pg sweep "$$EXP" $(ARGS)

report: install ## figures, tables and a page of sweeps and runs: make report RUN="runs/..."
	@test -n "$$RUN" || { echo 'say which: make report RUN="runs/a runs/b"' >&2; exit 2; }
	@$(BIN)/jaxrl-pg report $(RUN) $(ARGS)

test: $(VENV)/.dev ## install and run the tests
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(VENV)/.dev ## the learning gates: ten seeds on real environments
	$(BIN)/python -m pytest -m slow $(ARGS)

test-all: $(VENV)/.dev ## every test, the slow ones too
	$(BIN)/python -m pytest -m '' $(ARGS)

# Run a few tests with another Python, in an environment of its own: make smoke-3.12 uses .venv-3.12.
# PYENV_VERSION is read only by pyenv, which hides all Pythons but one.
smoke-%:
	@export PYENV_VERSION=$*; if python$* -c '' 2>/dev/null; \
	then $(MAKE) smoke PYTHON=python$* VENV=.venv-$*; \
	else echo 'python$* is not installed here: its smoke test is skipped'; fi

smoke: $(VENV)/.smoke
	$(BIN)/python -m pytest tests/contract tests/checkpoint tests/cli \
		-k 'not contract or ppo-discrete or sac-continuous' $(ARGS)

fuzz: $(VENV)/.dev ## damage files at random, forty times as often as the tests do
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/faults -k fuzz --timeout 7200 $(ARGS)

SUITES := brax,craftax,jumanji,navix,pgx,playground,xminigrid

conformance: $(VENV)/.dev ## install the suites of environments, and try each beside its own functions
	$(PIP_INSTALL) -e ".[dev,$(SUITES)]"
	$(BIN)/python -m pytest -m '' -n 0 tests/envs/test_suites.py tests/envs/test_installed_suites.py $(ARGS)

torture: install ## kill runs of every agent, resume them, compare: make torture ARGS="--kills 5"
	$(BIN)/python tools/torture.py $(ARGS)

check: $(VENV)/.dev ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Material's notice on its own future is kept out of the output.
MKDOCS := NO_MKDOCS_2_WARNING=1 JAX_PLATFORMS=cpu $(BIN)/python -m mkdocs

docs: $(VENV)/.docs ## build the documentation's site into build/site; no network is needed
	$(MKDOCS) build $(ARGS)

docs-serve: $(VENV)/.docs ## show it at http://127.0.0.1:8000, and build it anew when a page changes
	$(MKDOCS) serve $(ARGS)

bench: install ## measure beside rejax, PureJaxRL, Ajax and SBX: docs/benchmarks.md; bench-NAME for one
	$(BIN)/python experiments/bench/bench.py $(ARGS)

bench-%: install
	$(BIN)/python experiments/bench/bench.py --beside $* $(ARGS)

bench-accelerator: install ## a GPU or TPU in nine minutes; make install EXTRAS=gpu first
	$(BIN)/python experiments/bench/accelerator.py $(ARGS)

bench-scaling: install ## how time and memory grow; writes docs/scaling.md, and goes on where it was stopped
	$(BIN)/python experiments/scaling/scaling.py $(ARGS)

bench-tabular: install ## exact solutions of a thousand MDPs, beside a NumPy loop
	$(BIN)/python experiments/bench/tabular.py

PEER_ajax := -c constraints/3.12.txt -r experiments/bench/requirements-ajax.txt
PEER_jaxnasium := "jaxnasium[algs,gymnax]==0.1.1" "jax<0.12"
PEER_rejax := rejax==0.1.3 gymnax==0.0.9 "jax<0.11"
PEER_brax := brax==0.14.2 "jax<0.10"

peers: peer-ours peer-ajax peer-jaxnasium peer-rejax peer-brax ## time limits and resume in other libraries

peer-ours: install
	@$(BIN)/python experiments/bench/peers.py ours

peer-%:
	@test -x .venv-peer-$*/bin/python || PYENV_VERSION=3.12 python3.12 -m venv .venv-peer-$*
	@.venv-peer-$*/bin/python -m pip install -q $(PEER_$*)
	@.venv-peer-$*/bin/python experiments/bench/peers.py $*

envelope: ## the suites beside jax-envelope's adapters of them, with Python 3.12
	@PYENV_VERSION=3.12 $(MAKE) .venv-envelope/.dev PYTHON=python3.12 VENV=.venv-envelope
	@.venv-envelope/bin/python -m pip install -q -c constraints/3.12.txt -e ".[dev,brax,craftax,navix]" "jumanji>=1.1,<2" requests jax-envelope==0.6.1
	.venv-envelope/bin/python -m pytest -m '' -n 0 tests/envs/test_envelope_oracle.py $(ARGS)

FIGURES := $(filter-out figures,$(basename $(notdir $(wildcard experiments/theory/*.py))))

theory: $(addprefix theory-,$(FIGURES)) ## the theory: every figure of docs/theory.md

theory-%: install
	$(BIN)/python experiments/theory/$*.py

figures: install ## draw the figures that stand on recorded results
	$(BIN)/python experiments/draw.py $(ARGS)

record: install ## keep the results of a finished study, and write its tables: make record RUN=runs/...
	@test -n "$(RUN)" || { echo 'say which: make record RUN=runs/...'; exit 2; }
	$(BIN)/python experiments/record.py $(RUN)

tables: install ## make every table of the pages anew from the results that are kept
	$(BIN)/python experiments/record.py

ratios: install ## how far an iteration of PPO, the analytical update and its kin moves probabilities
	$(BIN)/python experiments/analytical_vs_ppo/ratios.py $(ARGS)
	$(BIN)/python experiments/kin/ratios_of_kin.py $(ARGS)

fine-tuning: install ## what an old policy is worth in a changed environment
	$(BIN)/python experiments/fine_tuning/fine_tuning.py

players: ## players who see a part of the observation, beside independent PPO
	@$(MAKE) install EXTRAS=marl
	$(BIN)/python experiments/players/simple_spread.py

variance: install ## bias and variance of every policy-gradient estimator
	$(BIN)/python experiments/variance/variance.py $(ARGS)

versus: install ## the analytical update beside PPO: tuned alike, 20 seeds, ratios, step sizes
	$(BIN)/jaxrl-pg sweep analytical_vs_ppo_tuning
	$(BIN)/python experiments/analytical_vs_ppo/choose.py
	$(BIN)/jaxrl-pg sweep analytical_vs_ppo
	$(BIN)/python experiments/analytical_vs_ppo/ratios.py
	$(BIN)/jaxrl-pg sweep step_size

# The wheel is built from the source distribution, so that both are tried.
dist: ## build the wheel and the source distribution into dist/, and try the wheel
	rm -rf dist
	$(PYTHON) -m venv --clear .venv-dist
	.venv-dist/bin/python -m pip install -q --disable-pip-version-check "build>=1.3,<2"
	@.venv-dist/bin/python -m build --outdir dist . > .venv-dist/build.log 2>&1 || { cat .venv-dist/build.log; exit 1; }
	@du -h dist/*
	.venv-dist/bin/python tools/try_dist.py dist

clean: ## remove what was installed and cached; runs/ stays
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache build dist src/*.egg-info

# An environment of another Python is made anew, if it was made here: the stamp tells.
MADE := $(VENV)/.python-$(PYTHON_VERSION)

$(MADE): | $(CONSTRAINTS)
	@test ! -e $(VENV)/pyvenv.cfg || ls $(VENV)/.python-* >/dev/null 2>&1 || \
	{ echo '$(VENV) was not made by make, which would empty it: use `make install VENV=.venv-make` (any other folder), or remove $(VENV)' >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

constraints/%.txt:
	@echo '$(PYTHON) is none of Python $(SUPPORTED): say which, such as PYTHON=python3.12' >&2; exit 2

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) $(MADE)
	$(SAY_INSTALLING)
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed+%: pyproject.toml $(CONSTRAINTS) $(MADE)
	$(SAY_INSTALLING)
	$(PIP_INSTALL) -e ".[$(subst $(space),$(comma),$(EXTRA_LIST))]"
	@touch $@ $(VENV)/.installed

$(VENV)/.smoke: pyproject.toml $(CONSTRAINTS) $(MADE)
	$(SAY_INSTALLING)
	$(PIP_INSTALL) -e . pytest pytest-timeout pytest-xdist
	@touch $@ $(VENV)/.installed

$(VENV)/.docs: pyproject.toml $(CONSTRAINTS) $(MADE)
	$(SAY_INSTALLING)
	$(PIP_INSTALL) -e ".[docs]"
	@touch $@ $(VENV)/.installed

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS) $(MADE)
	$(SAY_INSTALLING)
	$(PIP_INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.installed $(VENV)/.smoke $(VENV)/.docs
