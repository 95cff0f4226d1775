# Two commands do everything on a machine that has Python, make and a package index: `make demo`, `make test`.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet
DATA   ?= $(ONESENSE_DATA)
WORK   ?= build/demo-dictionaries
TOOLS  := .venv-tools
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/onesense/__init__.py)

.PHONY: setup demo look test check bench demo-dictionaries demo-sample screenshots clean \
  docs reference notebooks dist release-check sbom licences

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock requirements-demo.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install torch==2.13.0
	$(PIP) install -r requirements.lock
	$(PIP) install --no-deps --require-hashes -r requirements-demo.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

# The features of a real model in words, a steered text beside an unsteered one, and a model with less gender bias.
demo: setup
	$(BIN)/onesense extract demo --run-folder onesense-runs/demo --max-tokens 50000
	$(BIN)/onesense interpret --run-folder onesense-runs/demo
	$(BIN)/onesense steer demo --run-folder onesense-runs/demo --edit $(DEMO_EDIT) --prompt "$(DEMO_PROMPT)" \
	  --temperature 0.7 --max-new-tokens 30
	$(BIN)/onesense debias demo --run-folder onesense-runs/demo-debias
	@echo "Look at it in the browser: make look"

# The same in the browser, on http://127.0.0.1:8377.
look: setup
	$(BIN)/onesense serve onesense-runs --open

# Feature 3748 at block 15 fires on gardens, kitchens and parks (docs/demo-dictionaries.md).
DEMO_EDIT   := 3748:direction_add:0.5:norm
DEMO_PROMPT := We spent the whole day in the

# One thread in each of two workers: torch's threads would wait for one another.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks

# What builds documentation and packages, apart from what onesense runs with.
$(TOOLS)/.ready: requirements-docs.lock requirements-release.lock
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip --disable-pip-version-check --quiet install -r requirements-docs.lock -r requirements-release.lock
	touch $@

# The site of the documentation, in build/site. A warning is an error, and so is anything loaded from elsewhere.
docs: $(TOOLS)/.ready
	NO_MKDOCS_2_WARNING=1 $(TOOLS)/bin/python -m mkdocs build --strict --quiet
	$(TOOLS)/bin/python -m recipes.site_loads build/site

# Pages of docs that are made from the code.
reference: setup
	$(BIN)/python -m typer onesense.cli.main utils docs --name onesense --output docs/cli.md
	$(BIN)/python -m recipes.model_card_page

# Runs the notebooks with full sizes and keeps their outputs: about 8 minutes on two cores.
notebooks: setup
	$(BIN)/python -m recipes.notebooks

dist: $(TOOLS)/.ready
	rm -rf dist
	$(TOOLS)/bin/python -m build --no-isolation --outdir dist > /dev/null
	$(TOOLS)/bin/twine check --strict dist/*.whl dist/*.tar.gz
	$(TOOLS)/bin/python -m recipes.distributions dist

# Installs both packages with each Python 3.11 to 3.13 that this machine has.
release-check: dist
	$(TOOLS)/bin/python -m recipes.release_check dist

# What is installed, as CycloneDX, beside the packages.
sbom: setup $(TOOLS)/.ready
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
	  --output-file dist/onesense-$(VERSION).cdx.json $(BIN)/python

licences: setup $(TOOLS)/.ready
	$(TOOLS)/bin/pip-licenses --python $(BIN)/python --with-system --from mixed --format json | \
	  $(TOOLS)/bin/python -m recipes.licences

# How the packaged dictionaries were made; DATA names a folder in the layout of ONESENSE_DATA.
demo-dictionaries: setup
	$(BIN)/python -m recipes.corpus --data $(DATA) --output $(WORK)/text.jsonl
	$(BIN)/onesense sae train demo --text $(WORK)/text.jsonl --run-folder $(WORK)/run --storage-dtype float16 \
	  --max-tokens 2300000 --visits 4000000 \
	  --hook-point blocks.9.hook_resid_post --hook-point blocks.15.hook_resid_post \
	  --hook-point blocks.21.hook_resid_post
	cp -r $(WORK)/run/dictionaries/. src/onesense/demo/dictionaries/

# The pictures of the web page; RUNS names a folder of runs of every kind.
screenshots: setup
	$(BIN)/python -m recipes.screenshots --runs $(RUNS) --output docs/images

demo-sample: setup
	$(BIN)/python -m recipes.sample_text --output src/onesense/demo/sample.jsonl

clean:
	rm -rf $(VENV) $(TOOLS) build dist
