# make sample · make test: the two commands of the README. The others are for those who change things.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
METADATA := settings.ini setup.py pyproject.toml

.PHONY: sample test export check notebooks pytest lint weights figures readme results tables clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || (rm -rf $(VENV); exit 1)

$(VENV)/.installed: $(METADATA) | $(BIN)/python
	@echo "Installing slowddim and what it needs into $(VENV) (once; torch is large) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: $(METADATA) | $(BIN)/python
	@echo "Installing slowddim and the development extra into $(VENV) (once; torch is large) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed

sample: $(VENV)/.installed ## 64 images in 20 network calls -> samples.png
	@$(BIN)/slowddim sample --n 64 --steps 20 --out samples.png
	@echo "Look at $(CURDIR)/samples.png"
	@echo "Try next:  $(BIN)/slowddim sample --n 16 --out forming.gif     a film of them forming"
	@echo "           $(BIN)/slowddim sample --steps 5 --out rough.png    only five network calls"
	@echo "           $(BIN)/slowddim sample --help                       everything else"

test: check notebooks pytest ## everything that must hold

check: $(VENV)/.installed-dev ## notebooks, modules and README agree
	@$(BIN)/python tools/check_export.py

notebooks: $(VENV)/.installed-dev ## run every notebook
	@OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/nbdev-test --n-workers 2 --timing

pytest: $(VENV)/.installed-dev
	@MPLBACKEND=agg $(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check slowddim tests tools nbs

export: $(VENV)/.installed-dev ## notebooks -> modules, README
	@$(BIN)/nbdev-export
	@$(BIN)/python tools/make_readme.py

weights: $(VENV)/.installed-dev ## train the shipped model again (over an hour on two cores; resumes)
	@$(BIN)/slowddim train --data fashion_mnist --epochs 5 --bs 64 --lr 1e-3 --seed 0 --out slowddim/weights_data/fashion_mnist --log results/train_fashion_mnist.json

figures: $(VENV)/.installed-dev ## the pictures of the front page
	@$(BIN)/python tools/figures.py

results: weights figures tables ## every number and picture behind the pages
	@$(BIN)/python tools/train_classifier.py
	@$(BIN)/python benchmarks/sample_10k.py
	@$(BIN)/python benchmarks/step_cost.py

tables: $(VENV)/.installed-dev ## the studies (three hours on two cores; rows that are there are kept)
	@$(BIN)/slowddim table solvers --n 2048 --spacings trailing quadratic linspace
	@$(BIN)/slowddim table solvers --n 2048 --steps 20 --solvers ddim heun dpmpp_2m
	@$(BIN)/slowddim table solvers --n 10000 --solvers ddim heun dpmpp_2m
	@$(BIN)/slowddim table solvers --n 10000 --steps 20 50 --solvers ddim
	@$(BIN)/slowddim table consistency
	@$(BIN)/slowddim table reconstruction

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
