# Every target sets up .venv by itself, and again when the files that describe it have changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROCESSES := 6
GPU_OUT := gpu-results
READY := $(VENV)/.ready

PORTABLE := metrics metrics_classes metrics_conditional metrics_features features losses penalties \
  models layers stats engine parity ada augmentations biggan biggan_golden golden_layers regularisers \
  stylegan2 stylegan2_golden g_penalties budget budget_pairs

# What is written in files alone and needs no trained run; `process` marks the exceptions.
FAST_NAMES := stats losses penalties layers models engine metrics metrics_classes pictures
FAST := tests/config tests/journal tests/registry tests/test_house.py $(FAST_NAMES:%=tests/*/test_%.py)

.PHONY: run test test-long test-fast test-portable faults slurm-faults lint docs dist bench gpu calibration clean

run: $(READY)  ## train, measure and compare the four variants of the demonstration
	$(BIN)/gan-bench run experiments/dcgan_vs_mlp.yaml

# More processes than cores: many tests wait for processes and servers of their own. Whole files, in
# the order of tests/conftest.py: what a file trains for its tests, it trains once.
test: $(READY)  ## all but long tests; set GAN_BENCH_DATA to the folder of MNIST for those that need it
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder -m "not long"

test-long: $(READY)  ## sweeps of faults, and proofs that compute long; quick forms of the benchmarks
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal -m long

test-fast: $(READY)  ## tests that start no process and no server: under a minute on two cores
	$(BIN)/python -m pytest -n 2 -m "not process and not gpu and not long" $(FAST)

# Each line: the kernels of OpenBLAS, of ATen, of oneDNN. All of them run on any processor with AVX512;
# on an older one OpenBLAS takes what there is.
test-portable: $(READY)  ## tests of numbers with the kernels of three other processors
	@failed=0; for kernels in "Haswell default SSE41" "Zen avx2 AVX2" "SkylakeX avx512 AVX512_CORE"; do \
	  set -- $$kernels; echo "=== OpenBLAS $$1, ATen $$2, oneDNN $$3"; \
	  OPENBLAS_CORETYPE=$$1 ATEN_CPU_CAPABILITY=$$2 ONEDNN_MAX_CPU_ISA=$$3 \
	    $(BIN)/python -m pytest -n 4 --dist loadfile $(PORTABLE:%=tests/*/test_%.py) || failed=1; \
	done; exit $$failed

faults: $(READY)  ## 400 SIGKILLs, 200 disturbances of workers, 2,000 mutated files: nothing lost or doubled
	PYTHONPATH=tests $(BIN)/python -m helpers.faults --kills 200
	PYTHONPATH=tests $(BIN)/python -m helpers.kills --kills 200
	PYTHONPATH=tests $(BIN)/python -m helpers.worker_faults --disturbances 200
	$(BIN)/python -m pytest tests/cli/test_fuzz.py --hypothesis-profile faults

slurm-faults: $(READY)  ## a grid on a real SLURM, each disturbance three times: the same bits; 20 minutes
	PYTHONPATH=tests $(BIN)/python -m helpers.slurm_faults --rounds 3

lint: $(READY)  ## ruff, mypy --strict, who may import whom, and the Dockerfile
	$(BIN)/ruff check gan_bench tests benchmarks analysis docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	test ! -x $(BIN)/hadolint || $(BIN)/hadolint Dockerfile

docs: $(READY)  ## the documentation site, into site/; a broken link is an error
	$(BIN)/python docs/keys.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: $(READY)  ## sdist and wheel, into dist/; tests/test_packaging.py checks what is in them
	$(BIN)/python -c 'from setuptools import build_meta; print(build_meta.build_sdist("dist"))'
	$(BIN)/python -c 'from setuptools import build_meta; print(build_meta.build_wheel("dist"))'

bench: $(READY)  ## how fast it is, and which targets are missed: 40 minutes
	$(BIN)/python benchmarks/all.py

# On a machine with torch alone, which sets up no environment: see benchmarks/gpu_all.py.
gpu:  ## on a GPU: its tests, then how fast it trains, one table last; eight minutes, without .venv too
	$(firstword $(wildcard $(BIN)/python) $(PYTHON)) benchmarks/gpu_all.py --out $(GPU_OUT) $(GPU_OPTIONS)

calibration: $(READY)  ## how often verdicts are wrong and intervals miss: twelve minutes
	$(BIN)/python benchmarks/calibration.py

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "constraints.txt pins torch 2.15, which needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev,docs,ray]'
	touch $@

clean:  ## remove the environment; runs and data stay
	rm -rf $(VENV)
