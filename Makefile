# Everything a newcomer types. `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What only looks at the repository (MkDocs, pip-audit, detect-secrets) has an environment and a lock of its own.
TOOLS  := .venv-tools
IMAGE  ?= vdcos:dev
LOCK   := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
# Programs started from here find the project's own interpreter and tools first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install run test check docs lint format gen verify unit simulation sim mutants devcluster packaging badinput scale bench build lock image clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Options of check: OFFLINE=1 (no audit of dependencies: it asks PyPI for advisories)"
	@echo "  Options of run: ONCE=1 (exit when converged), HOSTS=4, CLUSTER=current (the kubeconfig's cluster; asks unless YES=1)"

install: $(VENV)/.installed ## Install what the project needs into .venv, from the hash-pinned lock

# Without dependencies: the lock is complete, and pip's resolver would prefer a newer release that an extra admits
# (coverage[toml]) to the pinned one, whose hash it then misses.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("vdcos needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ...")'
	@echo "Installing the locked Python packages into $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check --disable-pip-version-check >$(VENV)/check || { cat $(VENV)/check; exit 1; }
	@touch $@

$(TOOLS)/.installed: tools.lock
	@echo "Installing the locked tools into $(TOOLS) (once)"
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement tools.lock
	@touch $@

run: install ## Bring up a virtual datacenter and show it
	@$(BIN)/python -m devcluster.run --hosts $(or $(HOSTS),4) --cluster $(or $(CLUSTER),devcluster) $(if $(ONCE),--once) $(if $(YES),--yes)

test: install ## Run everything that must hold before a change lands
	@$(BIN)/python tests/run.py

check: install $(TOOLS)/.installed ## Lint, types, generated files, the site, secrets, and known vulnerabilities of what we depend on
	@OFFLINE=$(OFFLINE) $(BIN)/python tests/run.py format lint types imports generated docs secrets audit

docs: $(TOOLS)/.installed ## Build the site from docs/ into build/site (SERVE=1: show it, and follow changes)
	@NO_MKDOCS_2_WARNING=1 $(TOOLS)/bin/mkdocs $(if $(SERVE),serve --dev-addr 127.0.0.1:8000,build --strict)

lint: install ## Lint, format check, types and import contracts only
	@$(BIN)/python tests/run.py lint format types imports

unit: install ## Unit and property tests only
	@$(BIN)/python tests/run.py unit

simulation: install ## Every fault at every write of every scenario in a simulated datacenter only (EVERYTHING=1: and all combinations)
	@VDCOS_EVERYTHING=$(EVERYTHING) $(BIN)/python tests/run.py simulation

sim: install ## Random runs of the simulator: SECONDS=600 FIRST=0 (the first seed)
	@$(BIN)/vdcos sim --seconds $(or $(SECONDS),600) --first $(or $(FIRST),0)

mutants: install ## Break the operator on purpose, one bug at a time: the simulator must catch each (minutes)
	@$(BIN)/python -m tests.mutants --write docs/mutants.md

devcluster: install ## Integration tests against a real control plane only
	@$(BIN)/python tests/run.py devcluster

packaging: install ## Helm chart, image, alerts and dashboards, with the real tools (builds Helm and Prometheus once)
	@$(BIN)/python tests/run.py packaging

badinput: install ## Thousands of generated bad objects against a real API server (two minutes)
	@$(BIN)/python tests/run.py badinput

scale: install ## 500 VMs on 20 hosts, with the figures (minutes)
	@$(BIN)/python tests/run.py scale

bench: install ## Rates, memory and latency against the fastest possible client, with the figures (half an hour; QUICK=1)
	@$(BIN)/python -m tests.bench $(if $(QUICK),--quick)

build: install ## Build the devcluster's control plane from Go modules (once)
	@$(BIN)/python -m devcluster build

format: install ## Format the Python sources
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

gen: install ## Generate CRDs, RBAC, what the chart has of both, and the API reference from the models and services
	@$(BIN)/vdcos gen

verify: install ## Check that generated files are current
	@$(BIN)/vdcos gen --check

lock: ## Write requirements.lock, and its parts for the image, for what pyproject.toml asks (takes uv 0.13)
	@$(LOCK) pyproject.toml --group dev --output-file requirements.lock
	@$(LOCK) pyproject.toml --constraint requirements.lock --output-file image/runtime.lock
	@$(LOCK) --group image --constraint requirements.lock --output-file image/build.lock

image: ## Build the container image with podman: IMAGE=vdcos:dev, PLATFORMS=linux/amd64,linux/arm64, PUSH=1
	podman build --file image/Containerfile $(if $(PLATFORMS),--platform $(PLATFORMS) --manifest,--tag) $(IMAGE) .
	$(if $(PUSH),podman $(if $(PLATFORMS),manifest push --all,push) $(IMAGE))

clean: ## Remove the virtual environment and caches of this checkout
	@rm -rf $(VENV) $(TOOLS) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
