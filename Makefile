# Two commands set everything up: `make demo` and `make test`. Both build the environment in .venv when it is missing.
VENV ?= .venv
PYTHON ?= python3
PIP_ARGS ?=
DEMO ?= tmp/demo
# Test processes side by side; each computes with one thread.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test lint env clean

env: $(READY)

$(READY): $(wildcard requirements*.txt)
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements-dev.txt
	$(PY) -c "import cv2" 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
		--force-reinstall --no-deps "opencv-python-headless>=4.10,<6"  # over the one with windows, which needs libGL
	touch $@

demo: $(READY)
	@PATH="$(abspath $(VENV))/bin:$$PATH" DEMO="$(DEMO)" sh demo/run.sh

test: $(READY)
	$(PY) -m ruff check .
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

clean:
	rm -rf $(VENV) $(DEMO)
