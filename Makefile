# Two commands: `make` runs the suite and shows the leaderboard, `make test` runs the tests. `make help` lists the rest.
SUITE ?= mini
TARGET ?= all
CORES ?= all
PYTHON ?= python3
PORT ?= 5000
SNAKEMAKE_ARGS ?=
AGAINST ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What a user writes is no part of a command: the shell takes it from the environment, whatever quotes are in it.
export SUITE TARGET MODEL BY LINK AGAINST
CONFIG = "config/$$SUITE.yaml"
# The logger is in the checkout: a line per finished job, bars in a terminal, the whole log in .snakemake/log.
RUN = PYTHONPATH="$(CURDIR)" $(BIN)/snakemake $(1) --logger pmqbench --configfile $(CONFIG) --cores $(CORES) $(SNAKEMAKE_ARGS)
REPRODUCED = "reproduced/$$SUITE"
# The report's folder; fails with the list of targets if the suite has no such one.
FOLDER = $(BIN)/python -m pmqbench.workflow $(CONFIG) "$$TARGET"

export MLFLOW_DISABLE_TELEMETRY := true
# Snakemake keeps a cache in the user's home, and does not start where it cannot.
CACHE = "$${XDG_CACHE_HOME:-$$HOME/.cache}"
ifneq ($(shell mkdir -p $(CACHE) 2> /dev/null && test -w $(CACHE) && echo writable),writable)
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif

.DEFAULT_GOAL := run
.PHONY: run show estimate unlock doctor reproduce test test-faults test-cluster test-fuzz test-gpu lint report leaderboard submit readme export ui clean help install

run: install  ## Run SUITE (default mini) and show its leaderboard; TARGET=full, ablations, seeds or methods for more
	@test -f $(CONFIG) || { echo "There is no config/$$SUITE.yaml. Suites: $(patsubst config/%.yaml,%,$(wildcard config/*.yaml))"; exit 2; }
	@$(FOLDER) > /dev/null
	@$(call RUN,"$$TARGET")
	@report=$$($(FOLDER)) && $(MAKE) --no-print-directory REPORT=$$report $$report/report.html
	@$(BIN)/python -m pmqbench.reporting.terminal $$($(FOLDER))

show: install  ## Show SUITE's leaderboard again, with all its rows
	@$(BIN)/python -m pmqbench.reporting.terminal --all $$($(FOLDER))

unlock: install  ## Release the lock that a killed run left on the results; what was finished is kept
	$(BIN)/snakemake --unlock --cores 1 --configfile $(CONFIG)

estimate: install  ## What SUITE costs before it is run: jobs, time, memory, disk, downloads; TARGET as for run, CORES of the machine
	@$(BIN)/python -m pmqbench.cli estimate $(CONFIG) --target "$$TARGET" $(if $(filter-out all,$(CORES)),--cores $(CORES))

doctor: install  ## Explain the state of results/ and the way out of it; DOCTOR=--remove deletes what is damaged or orphaned
	@$(BIN)/python -m pmqbench.cli doctor --config $(CONFIG) $(DOCTOR)

reproduce: install  ## Run SUITE twice in folders of their own below reproduced/ and compare all files; or once, AGAINST=results
	@$(call RUN,"$$TARGET") --directory $(REPRODUCED)/first
	@$(if $(AGAINST),,$(call RUN,"$$TARGET") --directory $(REPRODUCED)/second)
	@$(BIN)/python -m pmqbench.cli diff $(if $(AGAINST),"$$AGAINST",$(REPRODUCED)/second/results) $(REPRODUCED)/first/results

report: install  ## Write SUITE's report.html again, Snakemake's page of how it all came about
	report=$$($(FOLDER)) && $(call RUN,"$$TARGET") --report $$report/report.html

# The page follows every file that it shows.
$(REPORT)/report.html: $(wildcard $(REPORT)/*.csv $(REPORT)/*.md $(REPORT)/plots/* docs/captions/*)
	@$(call RUN,"$$TARGET") --report $@

leaderboard: install  ## Join all suites' leaderboards and what others sent in into results/leaderboard.*
	@$(call RUN,leaderboard)
	@echo "Open results/leaderboard.html."

submit: install  ## Write a row of SUITE as a file to send in: MODEL=wudi/gptq/4 BY="Ada Lovelace" (docs/submitting.md)
	@$(BIN)/python -m pmqbench.cli submit $(CONFIG) "$$MODEL" --by "$$BY" --link "$$LINK" --target "$$TARGET" $(if $(WITHOUT_CODE),--without-code)

readme: install  ## Refresh the README's block and picture from SUITE's report
	report=$$($(FOLDER)) && $(BIN)/python -m pmqbench.reporting.readme README.md $$report

export: install  ## Write SUITE's quantized models as folders that stock transformers loads
	$(call RUN,export)

ui: install  ## Open the MLflow pages on 127.0.0.1; PORT=5001 for another port than 5000
	@$(BIN)/python -m pmqbench.reporting.tracking_page results --port $(PORT)

# On the CPU, whatever there is: numbers are compared with a CPU's, and two processes would wait for each other's GPU.
test: install  ## Run the whole test suite
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -q -n 2 --dist loadscope

test-faults: install  ## Kill, starve and damage runs in every way: half an hour
	$(BIN)/python -m pytest -q -m faults

test-cluster: install  ## Run the mini suite through a real Slurm on this machine (needs Debian's slurm-wlm and munge, and root)
	$(BIN)/python -m pytest -q -m cluster

test-fuzz: install  ## The property tests of tests/fuzz with 1,000 new inputs each, counted: a quarter of an hour
	$(BIN)/python -m pytest -q tests/fuzz --hypothesis-profile=fuzz --hypothesis-show-statistics

test-gpu: install  ## What can only be tested on a CUDA device
	$(BIN)/python -m pytest -q -m gpu tests/gpu

lint: install  ## ruff, snakefmt and snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

clean:  ## Delete all results (and nothing else)
	find results -mindepth 1 -not -path results/README.md -delete
	rm -rf .snakemake

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pmqbench.workflow.install requirements.lock $(VENV)/install.log
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	touch $@

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14
