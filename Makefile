# Bare `make` explains the targets. Everything is installed into .venv, from pinned versions.
PYTHON ?= python3
EXTRAS ?=
VENV := .venv
BIN := $(VENV)/bin
# What the command line takes; for `make train`, without it, PPO solves CartPole-v1.
ARGS ?=
TRAIN_ARGS := $(if $(ARGS),$(ARGS),ppo --env CartPole-v1 --num-envs 1024 --total-timesteps 2000000)

.PHONY: help install train resume evaluate sweep report test test-slow test-all check bench bench-ppo bench-sac bench-sweep theory variance versus clean

help: ## explain the targets
	@echo "jaxrl_pg: functional reinforcement learning in JAX"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 19
	@echo '  make theory-NAME  one of its figures, such as theory-bounds'
	@echo
	@echo '  make train ARGS="ppo --env Pendulum-v1 --seed 3"   any option of the command line'
	@echo '  make install EXTRAS=gpu                            CUDA (gpu) or TPU (tpu) builds of JAX'

install: $(VENV)/.installed ## create .venv and install the library, nothing else

train: install ## train; ARGS="ppo --env ..." changes everything
	@$(BIN)/jaxrl-pg train $(TRAIN_ARGS)

resume: install ## go on with a stopped run: make resume RUN=runs/...
	@test -n "$(RUN)" || { echo 'say which run: make resume RUN=runs/...'; exit 2; }
	@$(BIN)/jaxrl-pg resume "$(RUN)" $(ARGS)

evaluate: install ## whole episodes of a trained policy: make evaluate RUN=runs/...
	@test -n "$(RUN)" || { echo 'say which run: make evaluate RUN=runs/...'; exit 2; }
	@$(BIN)/jaxrl-pg evaluate "$(RUN)" $(ARGS)

sweep: install ## train every agent of an experiment and report: make sweep EXP=cartpole_ppo
	@test -n "$(EXP)" || { echo 'say which experiment: make sweep EXP=... (a file in experiments/)'; exit 2; }
	@$(BIN)/jaxrl-pg sweep "$(EXP)" $(ARGS)

report: install ## figures, tables and a page of sweeps and runs: make report RUN="runs/..."
	@test -n "$(RUN)" || { echo 'say which: make report RUN="runs/a runs/b"'; exit 2; }
	@$(BIN)/jaxrl-pg report $(RUN) $(ARGS)

test: $(VENV)/.dev ## install and run the tests
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(VENV)/.dev ## the learning gates: ten seeds on real environments
	$(BIN)/python -m pytest -m slow $(ARGS)

test-all: $(VENV)/.dev ## every test, the slow ones too
	$(BIN)/python -m pytest -m '' $(ARGS)

check: $(VENV)/.dev ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: bench-ppo bench-sac bench-sweep ## measure beside rejax, in its own virtual environment

bench-ppo: install ## PPO; writes docs/benchmarks.md
	$(BIN)/python experiments/bench/bench.py $(ARGS)

bench-sac: install ## soft actor-critic and its replay
	$(BIN)/python experiments/bench/sac.py $(ARGS)

bench-sweep: install ## many agents in one program
	$(BIN)/python experiments/bench/sweep.py $(ARGS)

FIGURES := $(filter-out figures,$(basename $(notdir $(wildcard experiments/theory/*.py))))

theory: $(addprefix theory-,$(FIGURES)) ## the theory: every figure of docs/theory.md

theory-%: install
	$(BIN)/python experiments/theory/$*.py

variance: install ## bias and variance of every policy-gradient estimator
	$(BIN)/python experiments/variance/variance.py

versus: install ## the analytical update beside PPO: tuned alike, 20 seeds, ratios, step sizes
	$(BIN)/jaxrl-pg sweep analytical_vs_ppo_tuning
	$(BIN)/python experiments/analytical_vs_ppo/choose.py
	$(BIN)/jaxrl-pg sweep analytical_vs_ppo
	$(BIN)/python experiments/analytical_vs_ppo/ratios.py
	$(BIN)/jaxrl-pg sweep step_size

clean: ## remove what was installed and cached; runs/ stays
	rm -rf $(VENV) .venv-bench .pytest_cache .mypy_cache .ruff_cache build src/*.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".$(if $(EXTRAS),[$(EXTRAS)])"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed
