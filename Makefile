# diffnotes: one command to read the book (make lab), one to test everything (make test). All are safe to repeat.
#
#   make lab TORCH=cpu      on Linux without an NVIDIA card: PyTorch's CPU build, more than 1.3 GB less to download
#   make lab PYTHON=python3.12      choose the Python that makes the virtual environment

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
TORCH ?=
TORCH_PIN = $(shell grep -m1 '^torch==' constraints.txt)

export DIFFNOTES_BUDGET ?= $(if $(filter test quick notebooks browser unit,$(MAKECMDGOALS)),ci,full)

.PHONY: help lab test quick lint format unit notebooks browser book docs slides weights bench prose clean
.DEFAULT_GOAL := help

help:
	@echo 'make lab    set up and open the book in JupyterLab'
	@echo 'make test   set up and run everything CI runs: lint, unit tests, all notebooks, browser tests'
	@echo 'make quick  lint, the tests of what changed since main, and the notebooks touched'
	@echo 'make book   run all notebooks at the full budget (real MNIST needed) and store their outputs'
	@echo 'make weights  train the weights that come with the package, from scratch (hours on two cores)'
	@echo 'make bench  compare with other implementations and write docs/benchmarks.md (about an hour on two cores)'
	@echo 'make docs   build the HTML edition of the book in docs/_build/html'
	@echo 'make slides   build decks of slides from chapters 1, 7 and 8 in docs/_build/slides'
	@echo 'make lint | unit | notebooks | browser   the parts of make test;   make clean   remove what they made'

lab: $(VENV)/.reader
	$(BIN)/python -m diffnotes.book.lab notebooks/00_start_here.ipynb

test: $(VENV)/.tester
	$(MAKE) lint
	edition=$$(mktemp -d) && export DIFFNOTES_EDITION=$$edition && \
		$(MAKE) unit && $(MAKE) notebooks && $(MAKE) browser; status=$$?; rm -rf "$$edition"; exit $$status

lint: $(VENV)/.tester
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# tests/quick.py says what it chose and why, and what it leaves to make test
quick: $(VENV)/.tester
	runs=$$(mktemp -d) && OMP_NUM_THREADS=1 DIFFNOTES_RUNS=$$runs $(BIN)/python tests/quick.py; status=$$?; rm -rf "$$runs"; exit $$status

format: $(VENV)/.tester
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# two tests at a time, with one thread each
unit: $(VENV)/.tester
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore=tests/browser -n 2 --durations=8

# every notebook from top to bottom; cells with the tag nbval-check-output must give their stored output again. The kernels are
# forked from one that has torch behind it (tests/warm); make browser runs the notebooks in kernels that start as a reader's do
notebooks: $(VENV)/.tester
	runs=$$(mktemp -d) && OMP_NUM_THREADS=1 DIFFNOTES_RUNS=$$runs PYTHONPATH="$(CURDIR)/tests/warm$${PYTHONPATH:+:$$PYTHONPATH}" \
		$(BIN)/python -m pytest -p warm_kernels -p no:cacheprovider -n 2 --dist loadfile \
		--nbval-lax --nbval-cell-timeout=600 --durations=8 notebooks; status=$$?; rm -rf "$$runs"; exit $$status

# two at a time; what is measured in milliseconds afterwards, alone
browser: $(VENV)/.tester
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser --ignore=tests/browser/test_every_explorer.py -n 2 --dist loadgroup --durations=8
	$(BIN)/python -m pytest tests/browser/test_every_explorer.py

book: $(VENV)/.reader
	$(BIN)/python -m diffnotes.book.press.build $(filter-out notebooks/92_%,$(wildcard notebooks/*.ipynb))
	$(BIN)/python -m diffnotes.book.press.index
	$(BIN)/python -m diffnotes.book.press.build notebooks/92_equation_index.ipynb

# from the notebooks as they are stored; DIFFNOTES_REPOSITORY=https://github.com/NAME/diffnotes adds the launch buttons
docs:
	$(BIN)/sphinx-build -q -E -W --keep-going -j 2 -d docs/_build/doctrees docs docs/_build/html
	@echo 'The HTML edition: docs/_build/html/index.html'

# from the stored pictures too; which cells are slides, and what they say, is in the notebooks' metadata (docs/slides.py)
slides:
	$(BIN)/python docs/slides.py docs/_build/slides

weights: $(VENV)/.reader
	$(BIN)/python -m diffnotes.training.train_classifier
	$(BIN)/python -m diffnotes train --out runs/weights-small --data mnist --labels --channels 24 --label-dropout 0.5 \
		--batch-size 64 --ema-decay 0.9995 --warmup 200 --updates $(or $(UPDATES),8000)
	$(BIN)/python -m diffnotes.training.pretrained runs/weights-small mnist-small
	$(BIN)/python -m diffnotes.training.train_grey --updates $(or $(UPDATES),6000)
	$(BIN)/python -m diffnotes.training.train_dit --updates $(or $(UPDATES),2000)
	$(BIN)/python -m diffnotes.training.train_captioned --updates $(or $(UPDATES),1200)
	$(BIN)/python -m diffnotes.training.train_words sums --updates $(or $(UPDATES),3379)
	$(BIN)/python -m diffnotes.training.train_words prose --updates $(or $(UPDATES),834)
	$(BIN)/python -m diffnotes.training.train_series --updates $(or $(UPDATES),5000)
	$(BIN)/python -m diffnotes.training.train_codes $(if $(UPDATES),--updates $(UPDATES))
	$(BIN)/python -m diffnotes.training.train_latents latent $(if $(UPDATES),--updates $(UPDATES))
	$(BIN)/python -m diffnotes.training.train_latents cascade $(if $(UPDATES),--updates $(UPDATES))
	$(BIN)/python -m diffnotes.training.train_latents unclip $(if $(UPDATES),--updates $(UPDATES))
	$(BIN)/python -m diffnotes train --out runs/weights --data mnist --labels --channels 48 --label-dropout 0.3 \
		--logit-normal 0.3 1 --min-snr 0 --batch-size 512 --ema-decay 0.9995 --warmup 200 --updates $(or $(UPDATES),5208)
	$(BIN)/python -m diffnotes train --out runs/weights-on --start-from runs/weights --data mnist --label-dropout 0.7 --seed 1 \
		--logit-normal 0.3 1 --min-snr 0 --batch-size 128 --learning-rate 1e-3 --ema-decay 0.999 --updates $(or $(UPDATES),3646)
	$(BIN)/python -m diffnotes.training.pretrained runs/weights runs/weights-on mnist
	$(BIN)/python -m diffnotes measure mnist --labels

# the text that chapter 20 reads: frozen, for its SHA-256 stands in training/text.py
prose: $(VENV)/.reader
	$(BIN)/python -m diffnotes.book.press.prose

# on all cores; python -m benchmarks SECTION measures one section of the page, --render none
bench: $(VENV)/.bencher
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) docs/_build docs/notebooks .artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis

# -- setting up ----------------------------------------------------------------------------------------------------------

$(VENV)/.reader: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(if $(filter cpu,$(TORCH)),$(BIN)/python -m pip install -q --index-url https://download.pytorch.org/whl/cpu '$(TORCH_PIN)')
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.tester: $(VENV)/.reader
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.writer: $(VENV)/.reader
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

# npm's own record of what it has fetched: where it could not, there is none, and it is asked again the next time
RUNTIME := docs/live/node_modules/.package-lock.json
$(RUNTIME): docs/live/package-lock.json
	@command -v npm >/dev/null && npm ci --prefix docs/live --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@ || \
		echo 'npm was not found, or could not fetch: pages are built without the network that runs in them, and no slides (docs/live.py).'

docs slides unit browser: $(VENV)/.writer $(RUNTIME)  # the tests look at the HTML edition too

# --no-deps: see the extra in pyproject.toml
$(VENV)/.bencher: $(VENV)/.tester
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['bench'], sep='\n')" \
		> $(VENV)/bench.txt
	$(BIN)/python -m pip install -q --no-deps -c constraints.txt -r $(VENV)/bench.txt
	@touch $@

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo 'diffnotes needs Python 3.11 or newer, and none was found on the PATH.'; \
		echo 'Install one (python.org, or your package manager), or name it: make lab PYTHON=/path/to/python3'; exit 1; fi
	@echo 'Setting up $(VENV) with $(PYTHON); the first time this downloads PyTorch and takes some minutes.'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'The virtual environment could not be made. On Debian and Ubuntu: sudo apt install python3-venv'; exit 1; }
