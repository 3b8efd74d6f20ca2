# The only door: `make help` lists what it can do. Each target installs what it needs, once.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
ENV ?= dev
export UV := $(CURDIR)/.venv-uv/bin/uv
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE ?= hardlink
export UV_NO_CONFIG := 1
export PYTHONPATH := $(CURDIR)/layers/gateway:$(CURDIR)/tools
BIN := .venv/bin
SAM := .venv-sam/bin/sam
AUDIT := .venv-audit/bin
export SAM_CLI_TELEMETRY := 0
CODE := layers functions tools examples tests
# In the order in which they build on each other.
PINS := layers/dependencies/requirements.txt $(foreach name,uv build image dev local-aws sam audit,requirements/$(name).txt)

# The deployed functions' Python and processor, as the template's parameters say them. Empty: what samconfig.toml's section
# says, or the template's defaults. Everything else is derived from them; see docs/operations.md.
RUNTIME ?=
ARCHITECTURE ?=
# The shell reads them from its environment, so that no character of theirs is a command.
export ENV RUNTIME ARCHITECTURE
# `required` makes `make artefacts` fail where no Python of the functions' version can compile them.
BYTECODE ?=
DEPLOYMENT = .venv-sam/bin/python -m deployment

##@ See it work
.PHONY: demo up down push serve
demo: .venv/ready .venv-local-aws/ready ## Deploy to a local AWS and tell the whole story as a transcript
	@$(BIN)/python -m local_aws demo

up: .venv/ready .venv-local-aws/ready ## Start the gateway on a local AWS and keep it running
	@$(BIN)/python -m local_aws up

down: .venv/ready ## Stop what `make up` started
	@$(BIN)/python -m local_aws down

push: .venv/ready ## Upload a prompt to what `make up` started: make push FILE=hello.prompt
	@$(BIN)/python -m local_aws push "$(FILE)"

serve: .venv/ready ## Serve prompts/ as one process: test mode, open to this machine, no AWS
	@mkdir -p .build
	@printf '%s\n' '' 'Paste into another terminal:' '' \
		"  curl -s localhost:8080/v1/call -H 'content-type: application/json' -d '{\"prompt\": \"translate.txt\", \"variables\": {\"text\": \"Hallo\"}}'" \
		"  curl -s \"localhost:8080/v1/usage?start=$$(date -u +%Y-%m-%dT00:00:00Z)&end=$$(date -u +%Y-%m-%dT23:59:59Z)&group_by=prompt\"" \
		'  $(BIN)/llm-gateway call translate.txt --var text=Hallo        # by gRPC' '' 'Ctrl-C ends it.' ''
	@LLM_GATEWAY_TEST_MODE=true LLM_GATEWAY_ACCESS=open LLM_GATEWAY_PROMPT_FOLDER=prompts LLM_GATEWAY_USAGE_FILE=.build/usage.db \
		exec $(BIN)/llm-gateway serve $(ARGS)

##@ Prove it
.PHONY: test unit bench check format fix lint types imports template docs proto-check prompts prices wheels artefacts audit audit-dependencies examples
test: .venv/ready .venv-local-aws/ready .venv-sam/ready ## Run every test, the deployed stack on a local AWS included
ifdef ARGS
	@$(BIN)/pytest $(ARGS)
else
	@$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not alone"
	@$(BIN)/pytest -m alone
endif

unit: .venv/ready ## Run the fast tests only
	@$(BIN)/pytest tests/unit $(ARGS)

bench: .venv/ready .venv-local-aws/ready ## Measure: make bench, or make bench ARGS=freshness
	@$(BIN)/python -m tests.bench $(ARGS)

check: format lint types imports template docs proto-check prompts prices artefacts audit test ## Everything a change must pass

format: .venv/ready ## Check the formatting
	@$(BIN)/ruff format --check $(CODE)

fix: .venv/ready ## Format, and mend what the linter can mend
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

lint: .venv/ready ## Lint
	@$(BIN)/ruff check $(CODE)

types: .venv/ready ## Check the types, strictly
	@$(BIN)/mypy
	@for app in functions/*/app.py; do $(BIN)/mypy --no-error-summary "$$app"; done

imports: .venv/ready ## Check that the layers of the code point one way
	@$(BIN)/lint-imports --no-cache

template: .venv/ready .venv-sam/ready ## Validate and lint template.yaml, as written and as SAM translates it
	@AWS_DEFAULT_REGION=us-east-1 $(SAM) validate --lint
	@$(BIN)/cfn-lint template.yaml
	@$(BIN)/python -m template_lint

docs: .venv/ready ## Check that docs/openapi.json is current
	@$(BIN)/python -m openapi --check

proto-check: .venv/ready ## Check that the generated gRPC code is that of proto/
	@$(BIN)/python -m protobuf --check

prompts: .venv/ready ## Lint the sample prompts, warnings included
	@$(BIN)/llm-gateway lint prompts/ --strict

prices: .venv/ready ## Check that models/catalogue.toml has the prices of the installed price list
	@$(BIN)/python -m prices --check

wheels: .venv-sam/ready ## Check that every pin of the layer has a wheel for each Python and processor
	@$(DEPLOYMENT) wheels

artefacts: .venv-sam/ready ## Build for AWS, for both processors, and look into what was built
	@$(DEPLOYMENT) check --bytecode "$(BYTECODE)"

audit: .venv-audit/ready ## Audit workflows, image, sandbox and template, offline
	@$(AUDIT)/actionlint
	@$(AUDIT)/zizmor --quiet --offline --persona auditor .github
	@$(AUDIT)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(AUDIT)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(AUDIT)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	@$(AUDIT)/hadolint Dockerfile tools/local_aws/Dockerfile
	@$(AUDIT)/checkov --config-file .checkov.yaml

audit-dependencies: .venv-audit/ready ## Look for known vulnerabilities of everything that is pinned
	@for pins in $(PINS); do echo "→ $$pins"; \
		$(AUDIT)/pip-audit --progress-spinner off --disable-pip --require-hashes -r "$$pins"; done

examples: .venv/ready ## Call the gateway that runs here over HTTP and gRPC
	@$(BIN)/python examples/http_client.py
	@$(BIN)/python examples/grpc_client.py

##@ Ship it
.PHONY: build deploy sbom
build: .venv-sam/ready ## Build functions and layers for AWS
	@$(DEPLOYMENT) build --section="$$ENV" --runtime="$$RUNTIME" --architecture="$$ARCHITECTURE"

deploy: .venv-sam/ready ## Deploy to AWS: make deploy ENV=dev, a section of samconfig.toml
	@$(DEPLOYMENT) deploy --section="$$ENV" --runtime="$$RUNTIME" --architecture="$$ARCHITECTURE" $(ARGS)

sbom: .venv-audit/ready ## Write what functions and image consist of, as CycloneDX
	@mkdir -p .build/sbom
	@$(AUDIT)/cyclonedx-py requirements layers/dependencies/requirements.txt -o .build/sbom/functions.cdx.json
	@$(AUDIT)/cyclonedx-py requirements requirements/image.txt -o .build/sbom/image.cdx.json

##@ Look after it
.PHONY: help install openapi proto prices-update lock clean
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

install: .venv/ready .venv-local-aws/ready .venv-sam/ready .venv-audit/ready ## Install everything now instead of when first needed

openapi: .venv/ready ## Write docs/openapi.json from the code
	@$(BIN)/python -m openapi

proto: .venv/ready ## Write the generated gRPC code from proto/
	@$(BIN)/python -m protobuf

prices-update: .venv/ready ## Write prices and dated names into models/catalogue.toml from the installed price list
	@$(BIN)/python -m prices

lock: .venv-uv/ready ## Pin the newest versions of every dependency, with hashes
	@for pins in $(PINS); do echo "→ $$pins"; \
		$(UV) pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --python-version 3.11 \
			--custom-compile-command "make lock" "$${pins%.txt}.in" -o "$$pins"; done
	@$(MAKE) wheels

clean: ## Remove everything that make installed or built
	rm -rf .venv .venv-uv .venv-local-aws .venv-sam .venv-audit .build .aws-sam .mypy_cache .pytest_cache .ruff_cache .hypothesis

# ------------------------------------------------------------------ environments
.venv-uv/ready: requirements/uv.txt
	@echo "→ installing uv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -m venv --clear .venv-uv
	@.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

define environment
	@echo "→ installing $(1)"
	@$(UV) venv --quiet --clear --python "$$(.venv-uv/bin/python -c 'import sys; print(sys.executable)')" $(@D)
	@$(UV) pip sync --require-hashes --python $(@D)/bin/python $<
	@touch $@
endef

.venv/ready: requirements/dev.txt .venv-uv/ready
	$(call environment,the development tools)
	@$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

.venv-local-aws/ready: requirements/local-aws.txt .venv-uv/ready
	$(call environment,the local AWS)

.venv-sam/ready: requirements/sam.txt .venv-uv/ready
	$(call environment,SAM)

.venv-audit/ready: requirements/audit.txt .venv-uv/ready
	$(call environment,the auditors)
