# Every target makes .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
TESTING := .venv/testing

.PHONY: demo test test-slow lint docs bench app

demo: $(READY)  ## find the wrong labels of the embedded digits
	$(BIN)/python curator/clean.py --overwrite

test: $(TESTING)  ## everything that takes seconds
	$(BIN)/python -m pytest -m "not slow" --dist worksteal -n $$($(BIN)/python -c "from curator.system import cores; print(min(4, cores()))")

test-slow: $(TESTING)  ## what takes minutes
	$(BIN)/python -m pytest -m slow

lint: $(TESTING) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(TESTING)  ## the pages, as static files in build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q

bench: $(TESTING)  ## fill bench/RESULTS.md, cell by cell
	$(BIN)/python -m bench.baselines
	$(BIN)/python -m bench.ablation
	$(BIN)/python -m bench.step
	$(BIN)/python -m bench.data
	$(BIN)/python -m bench.train_on_result
	$(BIN)/python -m bench.review
	$(BIN)/python -m bench.review_page
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[bench]'
	$(BIN)/python -m bench.everyday
	$(BIN)/python -m bench.arena
	$(BIN)/python -m bench.loop
	$(BIN)/python -m bench.cleaners

app: $(READY)  ## look at the demo's findings
	test -e runs/digits-promix/curation.json || $(MAKE) demo
	$(BIN)/python app.py runs/digits-promix

# What the demo imports is compiled as it goes; to compile all packages takes half a minute, which only many processes
# save again: a second and a half each where Python writes no bytecode (PYTHONDONTWRITEBYTECODE, as in many containers).
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip install -q --python $(BIN)/python -e .
	touch $(READY)

$(TESTING): $(READY)
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[test,dev,docs]'
	-$(BIN)/python -m compileall -qq -j 0 .venv/lib
	touch $(TESTING)
