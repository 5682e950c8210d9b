# make demo: upscale the bundled clip.  make test: everything CI checks.  Both need only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
OUT := out

.PHONY: demo test lint types unit wheel-gate rehearsal clean

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
# By themselves: OpenVINO's, in whose tests a process that had run hundreds of others died at times (SIGSEGV, never by
# themselves), and the GPU benchmark's, which has deadlines and ends processes. A process that dies ends the run: the
# rest of it would not be tested, or never end.
ALONE := tests/vidsr/backends/test_openvino.py tests/benchmarks/test_gpu.py
unit: $(VENV)/installed-dev $(VENV)/wheels/fetched
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0 $(ALONE:%=--ignore %)
	for tests in $(ALONE); do OMP_NUM_THREADS=1 $(BIN)/python -m pytest $$tests || exit 1; done

# Only vidsr may be in the wheel, weights included, and it must work without the checkout.
wheel-gate: $(VENV)/installed-dev
	rm -rf build dist .venv-wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip --quiet --disable-pip-version-check install --no-deps dist/*.whl
	$(BIN)/python tests/wheel_gate.py .venv-wheel/bin/python $(BIN)/python
	rm -rf .venv-wheel build

# What a borrowed GPU will be asked, on the CPU, with the Python, PyTorch and little else that such machines have: first
# without PyAV, then with it. REHEARSAL_INDEX: where to get PyTorch; a CPU build will do (pip's own is 3 GB).
PYTHON312 ?= python3.12
REHEARSAL := .venv-rehearsal/bin/python
REHEARSAL_INDEX ?=
rehearsal:
	test -x $(REHEARSAL) || $(PYTHON312) -m venv .venv-rehearsal
	$(REHEARSAL) -m pip --quiet install $(if $(REHEARSAL_INDEX),--index-url $(REHEARSAL_INDEX)) torch==2.11.0
	$(REHEARSAL) -m pip --quiet install numpy opencv-python-headless safetensors click pytest hypothesis
	$(REHEARSAL) -m pip --quiet uninstall --yes av
	$(REHEARSAL) -m benchmarks gpu --device cpu --minutes 6 -o $(OUT)/rehearsal
	$(REHEARSAL) -m pip --quiet install 'av>=18.1,<19' filelock
	$(REHEARSAL) -m benchmarks gpu --device cpu --minutes 6 -o $(OUT)/rehearsal-av

clean:
	rm -rf $(VENV) .venv-wheel .venv-rehearsal build dist $(OUT) *.egg-info
