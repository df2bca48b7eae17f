# Every target sets up what it needs first, in $(VENV). `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
# A wheel index for torch alone. Without an NVIDIA GPU, that of the CPU builds is tried, which are much smaller. Empty: PyPI,
# whose Linux wheels bring CUDA.
NVIDIA := $(wildcard /dev/nvidiactl)
TORCH_INDEX ?= $(if $(NVIDIA),,https://download.pytorch.org/whl/cpu)
TORCH ?= torch==2.13.0

# make demo: MODEL empty is models/chroma-nano; VOICE is the id of a sample voice
MODEL ?=
DEVICE ?= cpu
DTYPE ?= auto
STATE ?= state
OUT ?= out
VOICE ?= $(firstword $(sort $(basename $(notdir $(wildcard samples/voices/*.flac)))))
# make bench-capacity: a file like bench/capacity/assumptions.toml
ASSUMPTIONS ?=
# make conformance
GOLDEN ?= tests/golden/public

BIN := $(VENV)/bin
PROTOS := $(wildcard protos/chroma/v1/*.proto)
STEPS := $(wildcard services/runtime/cpu/source/*)
INSTALLED := $(VENV)/.installed
SERVED := $(VENV)/.served
PYTHON_SOURCES := services gateway checkpoints reference train clients/python examples tests bench deploy/helm deploy/monitoring deploy/supply hatch_build.py

.DEFAULT_GOAL := help
.PHONY: help setup demo lock licences sbom audit wheels images generated test test-all test-containers lint format proto conformance smoke-full bench bench-overload bench-capacity bench-gaps bench-gateway bench-soak fuzz bench-gpu bench-gpu-schedule gpu-wheels clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## install everything into .venv, the tools of development too (VENV=, PYTHON=, TORCH_INDEX= change where from and to)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make setup PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "no virtual environment: on Debian and Ubuntu install python3-venv"; exit 1; }

# Only torch itself comes from its index: what torch needs is on PyPI. An index that was asked for must have it.
$(VENV)/.torch: constraints.txt | $(VENV)/bin/python
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 --timeout 20 \
		--index-url $(TORCH_INDEX) "$(TORCH)" $(if $(filter file,$(origin TORCH_INDEX)),|| echo "no CPU build of torch: taking PyPI's"))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$(TORCH)"
	@touch $@

# Installing generates the gRPC stubs from protos/ into stubs/. What runs the server is half of what development needs.
$(SERVED): pyproject.toml constraints.txt hatch_build.py $(PROTOS) $(STEPS) $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[local,webrtc]"
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt hatch_build.py $(PROTOS) $(STEPS) $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

proto: setup ## make the gRPC stubs again from protos/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .

demo: $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(SERVED)) ## start everything with the sample voices, ask a sample question, stop everything (MODEL=, VOICE=, DEVICE=, DTYPE=)
	@set -e; run() { printf '\n$$ chroma-voice'; for word; do case "$$word" in \
		*\ *) printf ' "%s"' "$$word";; *) printf ' %s' "$$word";; esac; done; printf '\n'; $(BIN)/chroma-voice "$$@"; }; \
	trap 'run down --state $(STATE)' EXIT; trap 'exit 130' INT TERM; \
	run up --detach --sample-voices --state $(STATE) --device $(DEVICE) --dtype $(DTYPE) $(if $(MODEL),--model "$(MODEL)"); \
	run voice list --state $(STATE); \
	run talk samples/question_make_taco.wav --voice $(VOICE) --state $(STATE) --out $(OUT)/reply.wav

# Tests that start whole stacks run one after the other: each stack wants the machine for itself.
test: setup ## the tests of every commit: unit, integration, end to end (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow" --ignore tests/e2e --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m "not slow" tests/e2e

# The policy scanner's dependencies conflict with ours: it lives apart.
.venv-deploy/.installed:
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30
	@touch $@

test-all: setup .venv-deploy/.installed ## the slower tests (under 40 minutes)
	$(BIN)/python -m pytest -m "slow and not containers" --ignore tests/e2e --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m "slow and not containers" tests/e2e

test-containers: setup ## build the images, run compose and look for what is left (as root, about 15 minutes)
	$(BIN)/python -m pytest -m containers tests/containers

lint: setup ## formatting, style, types, import rules, protos
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

format: setup ## rewrite Python and protos in the one format
	$(BIN)/ruff format $(PYTHON_SOURCES)
	$(BIN)/ruff check --fix $(PYTHON_SOURCES)
	$(BIN)/buf format --write

# The tools of the supply chain live apart from ours.
SUPPLY := .venv-supply/bin
.venv-supply/.installed:
	$(PYTHON) -m venv .venv-supply
	$(SUPPLY)/pip install --quiet --disable-pip-version-check pip==26.3 uv==0.13.9 pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@touch $@

LOCKS := deploy/requirements
VERSIONS := $(SUPPLY)/uv pip compile --quiet --no-header --no-annotate --only-binary :all: --python-version 3.11 \
	--python-platform x86_64-manylinux_2_28 --constraints constraints.txt
WITH_HASHES := $(SUPPLY)/python deploy/supply/lock.py

# torch's CPU build is on PyTorch's own index only; its CUDA build and the libraries of CUDA are on PyPI.
TORCH_CPU_SOURCE ?= --extra-index-url https://download.pytorch.org/whl/cpu
lock: .venv-supply/.installed ## write deploy/requirements again: every package of the images with its hash
	echo 'hatchling==1.33.0 grpcio-tools==1.85.1 mypy-protobuf==5.1.0 ziglang==0.17.1' | tr ' ' '\n' | $(VERSIONS) - | $(WITH_HASHES) $(LOCKS)/build.txt
	$(VERSIONS) pyproject.toml --extra gateway --extra tracing --extra webrtc | $(WITH_HASHES) $(LOCKS)/gateway.txt
	echo '$(TORCH)' | $(VERSIONS) - | $(WITH_HASHES) $(LOCKS)/torch-cu130.txt
	echo '$(TORCH)+cpu' | $(WITH_HASHES) $(LOCKS)/torch-cpu.txt $(TORCH_CPU_SOURCE)
	$(VERSIONS) pyproject.toml --extra reasoner --extra speech-gen --extra codec --extra tracing \
	  $$(sed -n 's/^\(torch\|triton\|nvidia-[a-z0-9-]*\|cuda-[a-z-]*\)\(\[.*\]\)\?==.*/--no-emit-package \1/p' $(LOCKS)/torch-cu130.txt) \
	  | $(WITH_HASHES) $(LOCKS)/model.txt

licences: .venv-supply/.installed ## write docs/licences.md again: the licence of every package in an image
	$(SUPPLY)/python deploy/supply/licences.py $(LOCKS) docs/licences.md

sbom: .venv-supply/.installed ## CycloneDX lists of what each image holds (build/sbom)
	@mkdir -p build/sbom
	$(SUPPLY)/cyclonedx-py requirements $(LOCKS)/gateway.txt --output-file build/sbom/gateway.json
	cat $(LOCKS)/model.txt $(LOCKS)/torch-cu130.txt | $(SUPPLY)/cyclonedx-py requirements - --output-file build/sbom/model-cu130.json
	cat $(LOCKS)/model.txt $(LOCKS)/torch-cpu.txt | $(SUPPLY)/cyclonedx-py requirements - --output-file build/sbom/model-cpu.json

audit: .venv-supply/.installed ## ask PyPI's advisory database about every package of the images
	$(SUPPLY)/pip-audit --disable-pip --require-hashes -r $(LOCKS)/gateway.txt
	$(SUPPLY)/pip-audit --disable-pip --require-hashes -r $(LOCKS)/model.txt
	$(SUPPLY)/pip-audit --disable-pip --require-hashes -r $(LOCKS)/torch-cu130.txt

# The engine that builds the images, docker or podman, and its further options.
ENGINE ?= docker
IMAGE_OPTIONS ?=
# The build of torch (cpu or cu130), and the base image when it is not that of the Dockerfile.
VARIANT ?= cpu
PYTHON_IMAGE ?=
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

wheels: .venv-supply/.installed ## fetch the wheels of the images into deploy/wheels (VARIANT=): then `make images` asks no index
	$(SUPPLY)/python deploy/supply/wheels.py deploy/wheels $(VARIANT) $(TORCH_CPU_SOURCE)

images: ## build the four images (ENGINE=docker or podman, VARIANT=, PYTHON_IMAGE=, IMAGE_OPTIONS=)
	@set -ex; for image in gateway reasoner speech-gen codec; do \
		$(ENGINE) build $(IMAGE_OPTIONS) --file deploy/Dockerfile --target $$image --tag chroma-voice/$$image:$(VERSION) \
			--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg VARIANT=$(VARIANT) \
			$(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) \
			$(if $(wildcard deploy/wheels/*.whl),--build-arg PIP_NO_INDEX=1) .; \
	done

generated: setup ## write docs/client.md, docs/metrics.md, docs/settings.md, the Grafana dashboards and the Helm chart again
	$(BIN)/python -m deploy.monitoring.metrics_reference
	$(BIN)/python -m deploy.monitoring.settings_reference
	$(BIN)/python -m deploy.monitoring.client_reference
	$(BIN)/python -m deploy.monitoring.dashboards
	$(BIN)/python -m deploy.helm.generate

conformance: setup ## compare with the reference's numbers, one JSON line a case (GOLDEN=DIR)
	$(BIN)/python -m tests.conformance $(GOLDEN)

smoke-full: setup ## a few frames at full size with random weights: about 10 GB of disk and 12 GB of memory
	$(BIN)/python -m bench.stack.smoke_full

# Large pages make one stream on a CPU 5 to 9 % faster, in transformers as in ours.
bench: setup ## the engines beside a plain loop: frames a second, first frame, second turn (about 5 minutes; build/bench)
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m bench.engines

bench-overload: setup ## twice the callers that fit: admission and deadlines beside first come, first served
	$(BIN)/python -m bench.engines.overload

bench-capacity: setup ## the capacity model: beside measurements, then GPUs, gateways, store and cost (ASSUMPTIONS=; about 2 minutes)
	$(BIN)/python -m bench.capacity validate || test $$? -eq 1
	$(BIN)/python -m bench.capacity plan $(if $(ASSUMPTIONS),--assumptions $(ASSUMPTIONS))
	$(BIN)/python -m bench.capacity events $(if $(ASSUMPTIONS),--assumptions $(ASSUMPTIONS))

bench-gaps: setup ## the longest gap in a reply while another caller asks a 30 s question with history
	$(BIN)/python -m bench.engines.gaps

PROCESSES ?= 1
bench-gateway: setup ## the gateway's CPU time a conversation-second, with paced fake stages (PROCESSES=, about 5 minutes)
	$(BIN)/python -m bench.gateway --processes $(PROCESSES)

MINUTES ?= 10
bench-soak: setup ## callers, bad clients and faults at once (MINUTES=); afterwards everything must be as before
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

fuzz: setup ## coverage-guided fuzzing of everything that strangers may send (MINUTES=); findings are kept in out/fuzz
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

bench-gpu: setup ## one GPU, full size, random weights: tests, profile of a frame, step times, first sound, 64 to 512 conversations
	$(BIN)/python -m bench.gpu.session

gpu-wheels: ## build/gpu-wheels: what bench/gpu/session.sh needs on a machine with torch and Python 3.12 and no internet
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
	  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 \
	  -d build/gpu-wheels -r bench/gpu/requirements.txt -c constraints.txt

bench-gpu-schedule: setup ## the schedule of one GPU with recorded step times, on any machine: first sound by number of conversations
	$(BIN)/python -m bench.gpu.schedule

include train/stages.mk

clean: ## remove the virtual environment, generated stubs and caches; state/ and out/ stay
	rm -rf $(VENV) .venv-deploy stubs .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
