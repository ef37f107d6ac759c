# `make demo` and `make test` set everything up on a fresh machine; PYTHON must be a Python 3.11 (the CPU build of torch).
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP = -m pip --disable-pip-version-check install --quiet
MAIN = .venv/.ready
V4 = .venvs/v4/.ready
COLAB = .venvs/colab/.ready
CORE_VERSIONS = 3.10 3.12 3.13
CORE = $(foreach version,$(CORE_VERSIONS),$(if $(shell tools/find_python $(version)),.venvs/core-$(version)/.ready))
# What is looked at is under test, not how fast this machine is.
export TFDIAG_BUDGET = 5
export TFDIAG_PATIENCE = 600
# Each test file, and each notebook, runs in one of so many processes; so many environments are set up at once.
JOBS ?= 2
PYTEST = -m pytest -q -n $(JOBS) --dist loadfile
# Tests that need no torch; what the environments without it run.
CORE_TESTS = -m "not hf and not kernel and not browser and not gpu"

# Notebooks make models beside themselves: each runs in a folder of its own. $(call run_notebooks,ENVIRONMENT,OPTIONS)
define run_notebooks
	rm -rf .notebooks
	@for one in notebooks/*.ipynb; do folder=.notebooks/$$(basename $$one .ipynb); mkdir -p $$folder; \
		cp $$one $$folder; ln -s $(CURDIR)/notebooks/tiny.py $(CURDIR)/notebooks/gpu.json $$folder; done
	cd .notebooks && ../$(1)/bin/python $(PYTEST) -p no:cacheprovider --nbval-current-env $(2) .
endef

# One part after the other, also under -j: the last lines of `make test` are those of the main environment.
ifndef SETTING_UP
.NOTPARALLEL:
endif
.PHONY: demo test environments lint test-core test-v4 test-colab test-main bench notebooks clean

demo: $(MAIN)
ifdef HEADLESS
	.venv/bin/python tools/demo.py
else
	cd notebooks && ../.venv/bin/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) tour.ipynb
endif

test: environments lint test-core test-v4 test-colab test-main

environments:
	$(MAKE) -j $(JOBS) SETTING_UP=1 $(MAIN) $(V4) $(COLAB) $(CORE)

lint: $(MAIN)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict -p tfdiag_ipython

test-core: $(CORE)
	@for version in $(CORE_VERSIONS); do \
		test -e .venvs/core-$$version/.ready || echo "== Python $$version is not on this machine: skipped"; done
	@for ready in $(CORE); do echo "== $$ready"; $${ready%.ready}bin/python $(PYTEST) $(CORE_TESTS) || exit 1; done

test-v4: $(V4)
	@echo "== transformers 4.57, IPython 8"
	.venvs/v4/bin/python $(PYTEST) -m "not browser"
	$(call run_notebooks,.venvs/v4,--nbval-lax)

test-colab: $(COLAB)
	@echo "== Colab's IPython 7.34, ipykernel 6.17, ipywidgets 7.7.1"
	.venvs/colab/bin/python $(PYTEST) -m "not browser"
	$(call run_notebooks,.venvs/colab,--nbval-lax)

test-main: $(MAIN)
	@echo "== transformers 5.23, IPython 9"
	$(call run_notebooks,.venv,--nbval --nbval-sanitize-with ../notebooks/sanitize.cfg)
	.venv/bin/python $(PYTEST)

bench: $(MAIN)
	.venv/bin/python benchmarks/run.py

notebooks: $(MAIN)
	.venv/bin/python tools/run_notebooks.py

$(MAIN): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) -c constraints.txt torch
	.venv/bin/python $(PIP) -c constraints.txt -e ".[test]"
	touch $@

$(V4): pyproject.toml constraints/v4.txt
	$(PYTHON) -m venv .venvs/v4
	.venvs/v4/bin/python $(PIP) -c constraints/v4.txt torch
	.venvs/v4/bin/python $(PIP) -c constraints/v4.txt -e ".[hf]" accelerate ipykernel nbclient nbval numexpr pytest pytest-xdist sentencepiece
	touch $@

$(COLAB): pyproject.toml constraints/colab.txt
	$(PYTHON) -m venv .venvs/colab
	.venvs/colab/bin/python $(PIP) -c constraints/colab.txt torch
	.venvs/colab/bin/python $(PIP) -c constraints/colab.txt -e ".[hf]" accelerate ipykernel nbclient nbval pytest pytest-xdist sentencepiece
	touch $@

.venvs/core-%/.ready: pyproject.toml constraints/core.txt
	$$(tools/find_python $*) -m venv .venvs/core-$*
	.venvs/core-$*/bin/python $(PIP) -c constraints/core.txt -e . pytest pytest-xdist
	touch $@

clean:
	rm -rf .venv .venvs .notebooks build dist .mypy_cache .ruff_cache
