# Two commands: `make run` and `make test`. Both set up what they need, in this directory alone.

PYTHON ?= python3
UV := .bootstrap/bin/uv
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE := copy

CLAIM ?=
REPORT ?= .proof/report
PROOFS := PYTHONPATH=proofs:tests/integration .venv/bin/python -m lab --report $(REPORT) --claim "$(CLAIM)"

.PHONY: run test test-all proof proof-server proof-vm coverage bench bench-swarm docs golden lock clean

run: .venv/.ready
	@.venv/bin/python -m runner.console.demo

test: .venv/.ready
	.venv/bin/python -m pytest -n 4 --dist worksteal -m "not slow" $(PYTEST_ARGS)

test-all: .venv/.ready
	.venv/bin/python -m pytest -n 4 --dist worksteal $(PYTEST_ARGS)

proof: .venv/.ready
	@$(PROOFS) boot

proof-server: .venv/.ready
	@$(PROOFS) server

# Two machines in QEMU, emulated: some twenty minutes, so no part of CI. See docs/evidence/proof-vm.md.
proof-vm: .venv/.ready
	@$(PROOFS) vm

coverage: .venv/.ready
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -n 4 --dist worksteal -m "not slow" $(PYTEST_ARGS)
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report

# Small changes of the code, each of which a test must notice: see docs/evidence/mutants.md.
MODULE ?=
SAMPLE ?= 60
SEED ?= 1

.PHONY: mutants
mutants: .venv/.ready
	.venv/bin/python -m mutation.run --sample $(SAMPLE) --seed $(SEED) $(MODULE:%=--module %) --write

bench: .venv/.ready
	.venv/bin/python bench/run.py --write

bench-swarm: .venv/.ready
	PYTHONPATH=tests/integration .venv/bin/python bench/swarm_rollback.py --write

docs: .venv/.ready
	.venv/bin/python docs/generate.py

golden: .venv/.ready
	PYTHONPATH=tests/integration .venv/bin/python -m nix.generate

lock: $(UV)
	$(UV) lock --python $(PYTHON)

.venv/.ready: pyproject.toml uv.lock $(UV)
	@echo "setting up .venv (once)"
	@$(UV) sync --quiet --frozen --python $(PYTHON) --all-extras
	@touch $@

$(UV):
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .bootstrap "uv==0.13.*"

clean:
	rm -rf .venv .bootstrap .demo .proof
