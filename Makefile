# Two commands: `make run` and `make test`. Both set up what they need, in this directory alone.

PYTHON ?= python3
UV := .bootstrap/bin/uv
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE := copy

SUITES ?= bookworm trixie sid
ACCOUNTS ?= root user
CLAIM ?=
REPORT ?= .proof/report
MACHINES ?= boot server vm
PROOFS := PYTHONPATH=proofs:tests/integration .venv/bin/python -m lab --report $(REPORT) --claim "$(CLAIM)"

.PHONY: run test test-all test-oldest test-newest proof proof-server proof-vm search proof-sabotage coverage mutants bench bench-swarm docs golden fresh lock clean

run: .venv/.ready
	@.venv/bin/python -m runner.cli.demo

test: .venv/.ready
	.venv/bin/python -m pytest -n 4 --dist worksteal -m "not slow" $(PYTEST_ARGS)

test-all: .venv/.ready
	.venv/bin/python -m pytest -n 4 --dist worksteal $(PYTEST_ARGS)

# Unit and property tests with the oldest direct dependencies that pyproject.toml allows, and with the
# newest ones (a week old, as `exclude-newer` there says), each in an environment of its own. It has no
# linters, so the tests of `make mutants`, which asks mypy, are left out.
test-oldest: RESOLUTION := lowest-direct
test-newest: RESOLUTION := highest
test-oldest test-newest: $(UV)
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-$@
	@$(UV) pip install --quiet --python .venv-$@ --resolution $(RESOLUTION) \
		--requirements pyproject.toml --all-extras --group test
	@$(UV) pip install --quiet --python .venv-$@ --no-deps --editable .
	@$(UV) pip list --python .venv-$@ --format freeze --exclude-editable | tr '\n' ' '; echo
	HYPOTHESIS_PROFILE=dev .venv-$@/bin/python -m pytest -n 4 --dist worksteal -m "not slow" \
		--ignore=tests/unit/test_mutation.py tests/unit tests/property $(PYTEST_ARGS)

proof: .venv/.ready
	@$(PROOFS) boot

proof-server: .venv/.ready
	@$(PROOFS) server

# Two machines in QEMU, emulated: some twenty minutes, so no part of CI. See docs/evidence/proof-vm.md.
proof-vm: .venv/.ready
	@$(PROOFS) vm

# Every platform of tests/property/universes.py; writes docs/evidence/search.md. Some ten minutes.
search: .venv/.ready
	PYTHONPATH=.:tests/support:tests/property .venv/bin/python tests/property/universes.py

# Each claim has to fail where a machine is sabotaged: half an hour and more. See proofs/lab/sabotage.py.
proof-sabotage: .venv/.ready
	@$(PROOFS) --sabotage $(MACHINES)

coverage: .venv/.ready
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -n 4 --dist worksteal -m "not slow" $(PYTEST_ARGS)
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report

# Small changes of the code, each of which a test must notice: see docs/evidence/mutants.md.
MODULE ?=
SAMPLE ?= 60
SEED ?= 1

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

# `run` and `test` on minimal Debian, where only what the README asks for is installed.
fresh:
	@set -e; for suite in $(SUITES); do for account in $(ACCOUNTS); do .ci/fresh $$suite $$account; done; done

lock: $(UV)
	$(UV) lock --python $(PYTHON)

.venv/.ready: pyproject.toml uv.lock $(UV)
	@echo "setting up .venv (once)"
	@$(UV) sync --quiet --frozen --python $(PYTHON) --all-extras
	@touch $@

$(UV):
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .bootstrap "uv==0.13.*"

clean:
	rm -rf .venv .venv-test-oldest .venv-test-newest .bootstrap .demo .proof .fresh
