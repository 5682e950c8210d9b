# make demo: upscale the bundled clip.  make test: everything CI checks.  Both need only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
OUT := out

.PHONY: demo test lint types unit wheel-gate clean

# The pinned torch is asked for by itself first: a range would let pip take another build.
$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install -c constraints.txt -e '.[dev,train,engines,bench]' setuptools wheel
	touch $@

# Torch-TensorRT cannot be installed without CUDA, nor spandrel without a torchvision that fits, but our calls of them
# can be held against their source.
TORCH_TENSORRT := 2.11.0 2.12.1 2.13.0 2.14.0
SPANDREL := 0.4.2
$(VENV)/wheels/fetched: $(VENV)/installed
	for version in $(TORCH_TENSORRT); do \
	    $(PIP) download --no-deps --only-binary :all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
	        --dest $(VENV)/wheels torch-tensorrt==$$version || exit 1; \
	done
	$(PIP) download --no-deps --only-binary :all: --dest $(VENV)/wheels spandrel==$(SPANDREL)
	touch $@

demo: $(VENV)/installed
	@mkdir -p $(OUT)
	@$(BIN)/python demo/run.py demo/episode.mkv $(OUT)

test: lint types unit wheel-gate

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

# A process for each core, and so one thread in each: on pictures as small as these, threads only wait for each other.
unit: $(VENV)/installed-dev $(VENV)/wheels/fetched
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# Only vidsr may be in the wheel, weights included, and it must work without the checkout.
wheel-gate: $(VENV)/installed-dev
	rm -rf build dist .venv-wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip --quiet --disable-pip-version-check install --no-deps dist/*.whl
	$(BIN)/python tests/wheel_gate.py .venv-wheel/bin/python $(BIN)/python
	rm -rf .venv-wheel build

clean:
	rm -rf $(VENV) .venv-wheel build dist $(OUT) *.egg-info
