# Short names for commands that work without it; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help up compile test test-clients test-runtimes test-llama-server chaos check fmt bench bench-runtimes bench-survival bench-fairness bench-quick sim sim-figures docs lock demo-models clean run-setup dev-setup
bin := .venv/bin

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: run-setup  ## install into .venv and run a cortex and a neuron with the demo model (Ctrl-C ends them)
	@PYTHONPATH=$$(scripts/compile --path) exec $(bin)/helexa up $(ARGS)

compile:  ## what every request passes through, compiled: half the CPU (needs a C compiler); `make up` uses it
	@scripts/compile

test:  ## lint, types, layers and the whole test suite with branch coverage
	@scripts/test $(ARGS)

test-clients:  ## a dozen SDKs and tools, unmodified, against real models; writes docs/clients.md
	@scripts/test-clients $(ARGS)

test-runtimes:  ## conformance against real vLLM, transformers, ...; installs 5 GB, takes half an hour
	@scripts/test-runtimes $(ARGS)

test-llama-server:  ## llama.cpp by a llama-server of one's own; builds one first (cmake, a C++ compiler)
	@scripts/test-llama-server $(ARGS)

chaos: dev-setup  ## a minute of killed nodes, cut links, rude clients; then nothing may be left (SEED=n repeats)
	HELEXA_TEST_CHAOS_S=60 HELEXA_TEST_CHAOS_SEED=$(SEED) $(bin)/pytest -s tests/e2e/test_chaos.py

check: dev-setup  ## lint, format, types, layers, dependencies
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/deptry .

fmt: dev-setup  ## repair what can be repaired by itself
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

bench: dev-setup  ## measure against peers; writes docs/benchmarks/
	$(bin)/python -m benchmarks $(ARGS)

bench-runtimes: dev-setup  ## load, unload and memory of each runtime, what a neuron adds; writes docs/benchmarks/
	scripts/bench-runtimes $(ARGS)

bench-survival: dev-setup  ## streams while nodes are killed (ARGS="--streams 30" is short); writes docs/benchmarks/
	$(bin)/python -m benchmarks.survival --out docs/benchmarks $(ARGS)

bench-fairness: dev-setup  ## nine accounts beside a greedy one at a real model; writes docs/benchmarks/fairness.*
	$(bin)/python -m benchmarks.fairness $(ARGS)

bench-quick: dev-setup  ## the same, short: for a look, not for the record
	$(bin)/python -m benchmarks --quick $(ARGS)

sim: dev-setup  ## a simulated mesh in every trouble we know (SEED=n shows a failure again)
	$(bin)/python -m helexa.testing.simulation --seed $(or $(SEED),1) $(ARGS)

sim-figures: dev-setup  ## measure the simulated mesh; writes docs/benchmarks/mesh.* (ten minutes)
	$(bin)/python -m helexa.testing.simulation --seed $(or $(SEED),1) --figures docs/benchmarks

docs: dev-setup  ## write the generated pages, then check every link, heading and table
	$(bin)/helexa config reference > docs/settings.md
	$(bin)/helexa config example > helexa.example.toml
	$(bin)/pytest tests/meta

lock: dev-setup  ## rewrite requirements/*.txt from pyproject.toml (ARGS=--upgrade for newer versions)
	scripts/lock $(ARGS)

demo-models:  ## train the demo models again, in an environment of their own (about an hour)
	python3 -m venv .venv-demo
	.venv-demo/bin/pip install --quiet -r scripts/demo_models/requirements.txt
	.venv-demo/bin/python scripts/demo_models $(ARGS)

clean:  ## remove what can be made again
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

run-setup:
	@scripts/setup run

dev-setup:
	@scripts/setup dev
