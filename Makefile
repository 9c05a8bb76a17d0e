# One command for each thing a person does here; CI calls the same ones.
# Every target sets up what it needs the first time and is quick afterwards.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo "$$p"; exit; }; done)
HOST ?= 127.0.0.1
PORT ?= 8000
BUNDLE ?=
PYTEST_ARGS ?=
SUITE := -n 2 --dist loadfile --no-loadscope-reorder
FUZZ_FILES ?= 20000
FUZZ_REQUESTS ?= 10000
FUZZ_SEED ?= 6
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
SERVE_VENV := .venv-serve
EXPORT_VENV := .venv-export
GPU_VENV := .venv-gpu
OPENAPI_VENV := .venv-openapi
TRITON_VENV := .venv-triton
RAY_VENV := .venv-ray
S3_VENV := .venv-s3
# A Python to take as it is, where nothing can be installed: make gpu-check GPU_PYTHON=python3
GPU_PYTHON ?=
GPU_CHECK_ARGS ?=
PY := $(VENV)/bin/python
# One process for each CPU core; on a GPU give DEMO_PROCESSES=1.
DEMO_PROCESSES ?= 2
DEMO_TRAIN = $(VENV)/bin/torchrun --nproc-per-node $(DEMO_PROCESSES) -m model.train --compute.threads 1
PIP_FLAGS := --quiet --constraint constraints.txt
TEST_NEEDS := $(patsubst %,%/.installed,$(VENV) $(OPENAPI_VENV) $(TRITON_VENV) $(S3_VENV)) system-packages

##@ Use it
ifdef MODEL
serve: $(EXPORT_VENV)/.installed ## Start the server on 127.0.0.1:8000 (HOST=, PORT=, BUNDLE=; MODEL=: export it first, once)
	exec $(EXPORT_VENV)/bin/python -m xclip_serve serve "$(MODEL)" --host "$(HOST)" --port "$(PORT)"
else
serve: $(SERVE_VENV)/.installed
	exec $(SERVE_VENV)/bin/python -m service --host "$(HOST)" --port "$(PORT)" $(if $(BUNDLE),--bundle "$(BUNDLE)")
endif

##@ Develop
install: $(VENV)/.installed ## Full environment in .venv (model, export, service, tests)

test: $(TEST_NEEDS) ## Run the test suite, and say which branches it took
	$(PY) -m pytest $(SUITE) --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

test-busy: $(TEST_NEEDS) ## Run the suite beside a loop that keeps one core busy
	$(PY) tests/one_core_busy.py & $(PY) -m pytest $(SUITE) $(PYTEST_ARGS)

test-long: $(TEST_NEEDS) ## Run the tests that take minutes (load, soak, large models)
	$(PY) -m pytest -m "long" --timeout 3600 $(PYTEST_ARGS)

test-ray: $(RAY_VENV)/.installed ## Run the tests of batch and serving on Ray, which has an environment of its own
	$(RAY_VENV)/bin/python -m pytest -m ray tests/ray --timeout 600 $(PYTEST_ARGS)

fuzz: $(VENV)/.installed ## Send damaged files and requests to a server (FUZZ_FILES=, FUZZ_REQUESTS=, FUZZ_SEED=)
	XCLIP_TEST_FUZZ_FILES=$(FUZZ_FILES) XCLIP_TEST_HTTP_MUTANTS=$(FUZZ_REQUESTS) XCLIP_TEST_FUZZ_SEED=$(FUZZ_SEED) $(PY) -m pytest \
		tests/service/hostile/test_http_framing.py tests/service/hostile/test_fuzz.py --timeout 7200 --log-cli-level WARNING -o log_cli=true

check: $(VENV)/.installed ## Format, lint, types, import rules, deployment files
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pytest -q -p no:cacheprovider tests/deploy

format: $(VENV)/.installed ## Format the code and fix what ruff can fix
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

demo: $(VENV)/.installed ## Train the embedded demo on moving shapes and export it (DEMO_PROCESSES=)
	$(PY) -m model.data.shapes build/shapes --clips 12000 --val-clips 400 --unseen-clips 600 --place-clips 32000 --turn-clips 6000 --largest 160
	for part in demo_clip demo_order demo_motion demo; do $(DEMO_TRAIN) --config configs/$$part.yaml; done
	rm -rf model/demo && cp -r build/demo/checkpoint model/demo
	$(PY) -m export model/demo --output service/demo_bundle --labels build/shapes/labels.csv --overwrite

bench: $(VENV)/.installed system-packages ## Run the benchmarks of the CPU (more than an hour); docs/benchmarks/cpu.md and JSON
	$(PY) -m benchmarks

gpu-check: $(if $(GPU_PYTHON),,$(GPU_VENV)/.installed) ## Check and measure everything on an NVIDIA GPU (GPU_CHECK_ARGS=, GPU_PYTHON=)
	$(or $(GPU_PYTHON),$(GPU_VENV)/bin/python) -m benchmarks.gpu_check $(GPU_CHECK_ARGS)

##@ Deploy
env: ## Make .env for docker compose, with passwords drawn here (an .env that is there keeps what it has)
	@deploy/make-env.sh

pin: env ## Write the digests that others' images have now into .env (needs docker and a network)
	@deploy/pin-images.sh

##@ Supply chain
lock: $(VENV)/.installed ## Pin the images' packages with every hash (deploy/requirements-*.lock)
	deploy/lock.sh $(VENV)/bin/pip-compile cpu gpu

audit: $(VENV)/.installed ## Look the images' packages up among known vulnerabilities (needs a network)
	for kind in cpu gpu; do $(VENV)/bin/pip-audit --disable-pip --require-hashes --requirement deploy/requirements-$$kind.lock; done

sbom: $(VENV)/.installed ## Write what is in the images as CycloneDX (build/sbom-*.json)
	mkdir -p build
	for kind in cpu gpu; do $(VENV)/bin/cyclonedx-py requirements deploy/requirements-$$kind.lock --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom-$$kind.json; done

clean: ## Remove environments and caches
	rm -rf $(VENV) $(SERVE_VENV) $(EXPORT_VENV) $(GPU_VENV) $(OPENAPI_VENV) $(TRITON_VENV) $(RAY_VENV) $(S3_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up -------------------------------------------------------------------------------------
# Stamps, so that a second call has nothing to do; a changed dependency file installs again.

$(VENV)/.installed: EXTRAS := all
$(SERVE_VENV)/.installed: EXTRAS := cpu
$(EXPORT_VENV)/.installed: EXTRAS := cpu,export
$(GPU_VENV)/.installed: EXTRAS := gpu,tensorrt,export,train,bench
$(RAY_VENV)/.installed: EXTRAS := cpu,parquet,ray,test-ray
$(VENV)/.installed $(SERVE_VENV)/.installed $(EXPORT_VENV)/.installed $(GPU_VENV)/.installed $(RAY_VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found: install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Setting up $(@D) ($(EXTRAS)): downloads once, then nothing to do"
	@test -x $(@D)/bin/pip || deploy/make-venv.sh "$(PYTHON)" $(@D)
	@$(@D)/bin/pip install $(PIP_FLAGS) --editable '.[$(EXTRAS)]'
	@touch $@

# Programs of others that a test asks; what they need is not what the tests need.
$(OPENAPI_VENV)/.installed: tests/openapi-client.txt
$(TRITON_VENV)/.installed: tests/tritonclient.txt
$(S3_VENV)/.installed: tests/s3-server.txt
$(OPENAPI_VENV)/.installed $(TRITON_VENV)/.installed $(S3_VENV)/.installed:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found: install one, or name it: PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(@D)/bin/pip || deploy/make-venv.sh "$(PYTHON)" $(@D)
	@$(@D)/bin/pip install --quiet --requirement $<
	@touch $@

system-packages:
	@deploy/system-packages.sh redis-server:redis-server ffmpeg:ffmpeg chromium:chromium strace:strace prometheus:prometheus faketime:faketime \
		curl:curl openssl:openssl /usr/sbin/nginx:nginx

.PHONY: env pin demo serve install test test-busy test-long test-ray fuzz check format bench gpu-check lock audit sbom clean help system-packages
