# Every target makes .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test test-slow lint bench app

demo: $(READY)  ## find the wrong labels of the embedded digits
	$(BIN)/python curator/clean.py --overwrite

test: $(READY)  ## everything that takes seconds
	$(BIN)/python -m pytest -m "not slow" --dist worksteal -n $$($(BIN)/python -c "from curator.system import cores; print(min(4, cores()))")

test-slow: $(READY)  ## what takes minutes
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## fill bench/RESULTS.md, cell by cell
	$(BIN)/python bench/baselines.py
	$(BIN)/python bench/ablation.py
	$(BIN)/python bench/step.py
	$(BIN)/python bench/train_on_result.py
	$(BIN)/python bench/review.py
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[bench]'
	$(BIN)/python bench/everyday.py
	$(BIN)/python bench/arena.py
	$(BIN)/python bench/loop.py
	$(BIN)/python bench/cleaners.py

app: $(READY)  ## look at the demo's findings
	test -e runs/digits-promix/curation.json || $(MAKE) demo
	$(BIN)/python app.py runs/digits-promix

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -e '.[test,dev]'
	touch $(READY)
