# make sample · make test: the two commands of the README. The others are for those who change things.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
METADATA := settings.ini setup.py pyproject.toml
FAST ?= --precision compiled# the network of the long tables; where there is no C++ compiler: make results FAST=

.PHONY: sample test trust export check nbdev_test notebooks nbdev2_test pytest lint wheel-test weights solvers digits models outputs figures docs docs-serve readme results bench bench-quick results-quick tables tables-models clean

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

test: check nbdev_test pytest ## everything that must hold

trust: $(VENV)/.installed-dev ## everything that users, disks and other programs do: results/reliability.json (a quarter of an hour)
	@$(BIN)/python tools/trust.py

check: $(VENV)/.installed-dev ## notebooks, modules and README agree
	@$(BIN)/python tools/check_export.py

nbdev_test: $(VENV)/.installed-dev ## run every notebook: nbdev 3 calls the command nbdev-test, nbdev 2 called it nbdev_test
	@OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/nbdev-test --n-workers 2 --timing

notebooks: nbdev_test

nbdev2_test: ## the same under nbdev 2, in an environment of its own (.venv-nbdev2)
	@test -x .venv-nbdev2/bin/python || $(PYTHON) -m venv .venv-nbdev2
	@$(PYTHON) tools/requirements.py nbdev2 > .venv-nbdev2/requirements.txt
	@.venv-nbdev2/bin/python -m pip install --quiet --disable-pip-version-check -r .venv-nbdev2/requirements.txt -e .
	@OMP_NUM_THREADS=1 MPLBACKEND=agg .venv-nbdev2/bin/nbdev_test --n_workers 2 --timing

pytest: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check slowddim tests tools nbs

wheel-test: $(VENV)/.installed-dev ## build the wheel and use it outside the repository; make wheel-test FRESH=--fresh installs all it needs anew
	@$(BIN)/python tools/wheel_test.py $(FRESH)

export: $(VENV)/.installed-dev ## notebooks -> modules, README
	@$(BIN)/nbdev-export
	@$(BIN)/python tools/make_readme.py

readme: $(VENV)/.installed-dev ## README.md alone
	@$(BIN)/python tools/make_readme.py

checkpoints/mnist_first/card.json: | $(VENV)/.installed-dev
	@$(BIN)/slowddim train --preset mnist --out checkpoints/mnist_first --log results/train_mnist_first.json

checkpoints/mnist_second/card.json: checkpoints/mnist_first/card.json
	@$(BIN)/slowddim train --preset mnist --init checkpoints/mnist_first --epochs 9 --lr 5e-4 --seed 1 --out checkpoints/mnist_second --log results/train_mnist_second.json

digits: checkpoints/mnist_second/card.json ## train the model of the digits again, in three goes (five hours on one core; resumes)
	@$(BIN)/slowddim train --preset mnist --init checkpoints/mnist_second --epochs 7 --lr 5e-4 --seed 2 --out models/mnist --log results/train_mnist.json

models: digits ## train the models of the repository again (hours on one core; resumes)
	@for name in mnist mnist_plain fashion_mnist_second; do $(BIN)/python tools/train_classifier.py --data $$name || exit 1; done
	@for name in fashion_mnist_continuous cifar10_airplane; do \
	  $(BIN)/slowddim train --preset $$name --out models/$$name --log results/train_$$name.json || exit 1; done
	@$(BIN)/slowddim train --preset cifar10_64 --bs 32 --total-steps 40 --out checkpoints/cifar10_64 --log results/train_cifar10_64_short.json

checkpoints/fashion_mnist_first/card.json: | $(VENV)/.installed-dev
	@$(BIN)/slowddim train --data fashion_mnist --unconditional --epochs 5 --bs 64 --lr 1e-3 --seed 0 --out checkpoints/fashion_mnist_first --log results/train_fashion_mnist_first.json

weights: checkpoints/fashion_mnist_first/card.json ## train the shipped model again, in two goes (over two and a half hours on two cores; resumes)
	@$(BIN)/slowddim train --data fashion_mnist --unconditional --init checkpoints/fashion_mnist_first --prediction v --weighting v --lognormal -0.5 1.4 --epochs 11 --bs 32 --lr 6e-4 --seed 1 --out slowddim/weights_data/fashion_mnist --log results/train_fashion_mnist.json

solvers: $(VENV)/.installed-dev ## fit the solvers of few evaluations to the shipped model again (some minutes)
	@for steps in 4 5 6 8 10; do $(BIN)/slowddim fit-solver --steps $$steps --out slowddim/weights_data/solvers/fashion_mnist_$$steps.json || exit 1; done
	@$(BIN)/python tools/score_solvers.py

outputs: $(VENV)/.installed-dev ## run every notebook again and keep its outputs, made small
	@OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python tools/outputs.py

figures: $(VENV)/.installed-dev ## the pictures of the front page
	@$(BIN)/python tools/figures.py

results: weights models figures tables tables-models ## every number and picture behind the pages
	@$(BIN)/python tools/train_classifier.py
	@$(BIN)/python benchmarks/sample_10k.py
	@$(BIN)/python benchmarks/score_10k.py
	@$(BIN)/python benchmarks/step_cost.py

# `slowddim table --commands` prints the commands that every study keeps in its record; $(FAST) may replace the arithmetic of the long ones
run_tables = commands=$$($(BIN)/slowddim table --commands $(1) | sed 's/--precision compiled/$(FAST)/') && \
  test -n "$$commands" && PATH="$(abspath $(BIN)):$$PATH" sh -exc "$$commands"

tables: checkpoints/fashion_mnist_first/card.json ## the studies (many hours on two cores; rows that are there are kept)
	@$(call run_tables,committed | grep -v ' models/')
	@$(BIN)/python tools/score_solvers.py

tables-models: models ## the studies of the models that are trained first: digits, airplanes, labels
	@$(call run_tables,committed | grep ' models/')

# k-diffusion without its requirements: its samplers need none but torchdiffeq and torchsde, the rest holds NumPy back
$(VENV)/.installed-bench: $(METADATA) | $(VENV)/.installed
	@echo "Installing the libraries of the comparison into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' || echo "... some are absent"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'k-diffusion>=0.1.1' || echo "... k-diffusion is absent"
	@touch $@

bench: $(VENV)/.installed-bench ## speed and memory beside other libraries (about twenty quiet minutes on two cores; resumes)
	@$(BIN)/python benchmarks/bench.py
	@$(BIN)/python benchmarks/own_images.py

bench-quick: $(VENV)/.installed-bench ## the same with tiny sizes into results/quick: does the script run?
	@$(BIN)/python benchmarks/bench.py --quick

results-quick: $(VENV)/.installed-dev ## small versions of the studies in results/quick (minutes)
	@$(call run_tables,quick)

docs: $(VENV)/.installed-dev ## the site in _docs: with quarto where it is installed, else a preview of it with pandoc
	@$(BIN)/python tools/docs.py

docs-serve: docs ## the same, on http://127.0.0.1:8000
	@$(BIN)/python tools/serve.py _docs

clean:
	rm -rf _docs _proc build dist *.egg-info .pytest_cache .ruff_cache
