# Every command of this project. It needs Python 3.11 or newer with venv, Node 20 or newer, and make.
# Nothing is installed outside the checkout: see .venv, node_modules and .local.

PYTHON ?= python3
BIN := .venv/bin
# With this the app, the tests and the checks find the checkout's own tools before any others.
TOOLS := PATH="$(CURDIR)/$(BIN):$(CURDIR)/node_modules/.bin:$$PATH"
READY := .venv/.installed node_modules/.installed
SYNTH := .local/check

export CDK_HOME = $(CURDIR)/.local/cdk
export CDK_DISABLE_CLI_TELEMETRY = true
export JSII_RUNTIME_PACKAGE_CACHE_ROOT = $(CURDIR)/.local/jsii
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION = 20
export NODE_NO_WARNINGS = 1

.PHONY: help demo chaos up down test check evidence packages clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

up: $(READY) ## start the local AWS and deploy to it (on another port: PORT=4577 make up)
	@$(BIN)/python -m local up

demo: $(READY) ## watch a hundred orders survive an outage, and check every claim
	@$(BIN)/python -m demo

chaos: $(READY) ## submit load, cause faults, check every invariant (SEED=7 repeats a plan, MINUTES=2)
	@$(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) --minutes $(or $(MINUTES),2)

down: ## stop the local AWS
	@! test -e .venv/.installed || $(BIN)/python -m local down

test: $(READY) ## run all tests
	@$(TOOLS) pytest --numprocesses 4 --dist loadscope --no-loadscope-reorder

check: $(READY) ## check lint, format, types and the template
	$(TOOLS) ruff check .
	$(TOOLS) ruff format --check .
	$(TOOLS) mypy
	$(BIN)/python -m local packages
	$(TOOLS) cdk synth --quiet --no-notices --output $(SYNTH)
	$(TOOLS) cfn-lint $(SYNTH)/*.template.json

evidence: $(READY) ## write docs/evidence: which tests show each promise and cause each fault
	@$(BIN)/python -m tests.evidence

packages: $(READY) ## install the packages of functions/requirements.txt for `cdk deploy`
	@$(BIN)/python -m local packages

clean: down ## stop the local AWS, and remove all that was installed and written here
	rm -rf .venv node_modules .local .packages

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, but $(PYTHON) is {v[0]}.{v[1]}: PYTHON=<another> make ...")'
	@$(PYTHON) -m venv .venv

.venv/.installed: requirements.txt pyproject.toml | .venv/bin/python
	@echo "Installing Python packages into .venv (once, about a minute) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

node_modules/.installed: package-lock.json .venv/.installed
	@$(BIN)/python -m local check-node
	@echo "Installing the cdk into node_modules ..."
	@npm ci --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@
