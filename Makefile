# Two commands on a fresh machine: `make demo` serves a tiny model on two ranks, `make test` runs every test.
# One target a job; `make help` lists them.

PYTHON ?= python3
VENV   := .venv
PY     := $(CURDIR)/$(VENV)/bin/python
CARGO  := PATH="$$PATH:$$HOME/.cargo/bin" cargo
TARGET := $(shell uname -m)-unknown-linux-gnu
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Nothing that is run here reports home or looks for models elsewhere.
export HF_HUB_OFFLINE = 1
export VLLM_NO_USAGE_STATS = 1
export DO_NOT_TRACK = 1
export RAY_USAGE_STATS_ENABLED = 0

.PHONY: help demo test test-rust test-aarch64 test-avx512 test-plugin test-nccl test-python test-hosts test-system test-system-vm test-soft-roce test-e2e lint bench \
        bench-peers bench-plugin fit fuzz build packages python setup setup-test header bindings clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-16s %s\n", $$1, $$2 }'

demo: setup build python ## serve a tiny model on two ranks of this machine and check every collective
	@target/release/halo-cluster launch --local --detach --python $(PY)
	@$(PY) -m halo.demo --status "$(CURDIR)/target/release/halo-cluster status --json"; \
	  status=$$?; target/release/halo-cluster stop; exit $$status

test: setup-test build python test-rust test-aarch64 test-avx512 test-python test-hosts test-system test-soft-roce test-e2e ## run every test

# The same selection of packages everywhere: by another one, features are resolved anew and dependencies compiled again.
TEST := $(CARGO) test --workspace

# Most of the time they wait, for a deadline or for another process: more at once than there are processors.
test-rust: ## unit, property and integration tests; those that need root or virtual machines are listed as ignored
	RUST_TEST_THREADS=4 $(TEST)

# The reductions' tests for the target $(1), whose programs are run by $(2), with the arguments $(3). Linked without a C
# compiler for that processor: the C library that comes with Rust has everything but an empty libdl.
define test-emulated
	PATH="$$PATH:$$HOME/.cargo/bin" rustup target add $(1)
	mkdir -p target/$(1) && printf '!<arch>\n' > target/$(1)/libdl.a
	$(CARGO) test -p halo-ccl --lib --target $(1) \
	  --config 'target.$(1).linker="rust-lld"' --config 'target.$(1).runner="$(2)"' \
	  --config 'target.$(1).rustflags=["-Clink-self-contained=yes", "-Lnative=target/$(1)"]' reduce:: $(3)
endef

test-aarch64: ## the reductions with NEON, on an emulated processor
	$(call test-emulated,aarch64-unknown-linux-musl,qemu-aarch64-static)

# Five to six minutes, of which three are the emulated processor's: AVX-512 is what the boards have that halo is for.
# The tests of plans have the word in their names, too; they are no matter of the processor.
test-avx512: ## the reductions with AVX-512, on an emulated processor
	$(CARGO) build --workspace --bin emulated
	$(call test-emulated,x86_64-unknown-linux-musl,$(CURDIR)/target/debug/emulated,-- --skip plan::)

test-plugin: ## every test of the net plugin, over TCP (part of test-rust) and in virtual machines (part of test-soft-roce)
	$(TEST) --test plugin-host -- --include-ignored --nocapture --test-threads 1

test-nccl: build ## two ranks of real NCCL on one NVIDIA GPU, through the plugin (not part of `make test`)
	@$(PYTHON) tests/nccl/two_ranks.py; status=$$?; \
	  [ $$status != 77 ] || { echo "test-nccl: not tried, nothing is proved"; exit 0; }; exit $$status

test-python: ## the Python package, with real torch
	$(PY) -m pytest -q python/tests

test-hosts: ## network namespaces as hosts, with sshd; a launcher whose disk is full (root)
	$(TEST) --test hosts --test cluster -- --ignored

test-system: ## halo-cluster sets up hosts and takes it back; the packages are installed (root)
	$(TEST) --test system --test installed -- --ignored --skip vm:: --test-threads 2

# Not part of `make test`: a whole round under software emulation is nine to thirteen minutes of two processors.
test-system-vm: ## the same on a virtual machine with real systemd, NetworkManager, firewalld, apt and grub (root)
	$(TEST) --test system -- --ignored --nocapture vm::

test-soft-roce: ## real verbs, for halo and for the net plugin, in virtual machines with Soft-RoCE
	$(TEST) --test soft-roce --test plugin-host -- --ignored --nocapture --test-threads 1

test-e2e: ## vLLM, Ray and `verify` on two hosts and on one (root)
	$(TEST) --test e2e -- --ignored --nocapture --test-threads 1

lint: setup ## formatting, clippy, dependency rules, ruff
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources
	$(PY) -m ruff check --config python/pyproject.toml python cluster benches tests
	$(PY) -m ruff format --check --config python/pyproject.toml python cluster benches tests

bench: build ## the reduction and one post under criterion; collectives on this machine, over shm and tcp
	$(CARGO) bench -p halo-benches
	target/release/halo-perf all-reduce --transport shm --max 64M --factor 8
	target/release/halo-perf all-reduce --transport tcp --max 64M --factor 8

bench-peers: setup-test ## halo beside OpenMPI, MPICH, Gloo and perftest, with every target (ARGS: see benches/README.md)
	@PYTHON=$(PYTHON) benches/peers/install
	$(CARGO) build --release -p halo-benches -p halo-plugin-host -p halo-ffi
	target/release/bench-peers $(ARGS)

fit: setup-test ## the model of docs/scaling.md fitted to times over shm, tcp and Soft-RoCE (ARGS: as bench-peers)
	$(CARGO) build --release -p halo-benches -p halo-plugin-host -p halo-ffi
	target/release/bench-peers $(or $(ARGS),shm tcp one-machine two-machines) --fit \
	  --without openmpi --without mpich --without gloo --without floor --without exchange --without exchange-sum --without exchange-flag-sum --without ib-write-lat --without ib-write-bw

bench-plugin: setup-test ## the net plugin beside iperf3 and perftest, with its targets (ARGS: --rounds N)
	$(CARGO) build --release -p halo-benches -p halo-plugin-host -p halo-ffi
	target/release/bench-peers plugin $(ARGS)

fuzz: ## everything that arrives from a peer, SECONDS (60) for each target; installs cargo-fuzz
	scripts/fuzz $(or $(SECONDS),60)

build: ## the programs, libhalo.so and the net plugin, optimised
	$(CARGO) build --release -p halo-perf -p halo-cluster -p halo-ffi
	@# The net plugin is the same library under the names that RCCL and NCCL look for: links, so that they are what cargo
	@# built last, by whatever command.
	@for name in librccl-net-halo libnccl-net-halo librccl-net libnccl-net; do \
	  ln -sf libhalo.so target/release/$$name.so; done

packages: ## the DEB and the RPM, with a halo-cluster that needs no library of the system
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --release -p halo-cluster --target $(TARGET)
	$(CARGO) build --release -p halo-perf -p halo-ffi
	$(CARGO) run --quiet --release -p halo-packages -- --halo-cluster target/$(TARGET)/release/halo-cluster \
	  --halo-perf target/release/halo-perf --libhalo target/release/libhalo.so

python: build ## the Python package, into .venv
	cd python && PATH="$$PATH:$$HOME/.cargo/bin" VIRTUAL_ENV=$(CURDIR)/$(VENV) $(PY) -m maturin develop --release --quiet

setup: ## what `make demo` needs
	@scripts/install-packages demo
	@$(PYTHON) python/env/setup.py --venv $(VENV)

setup-test: ## what `make test` needs
	@scripts/install-packages test
	@$(PYTHON) python/env/setup.py --venv $(VENV)

header: ## write ffi/include/halo.h anew
	UPDATE_HEADER=1 $(TEST) --quiet --test header

bindings: ## write crates/verbs/src/sys.rs anew (libibverbs-dev and libclang are needed)
	cd crates/verbs/bindings && CARGO_TARGET_DIR=$(CURDIR)/target/bindings PATH="$$PATH:$$HOME/.cargo/bin" cargo run --quiet
	rm -f crates/verbs/bindings/Cargo.lock

clean: ## everything that was built or fetched
	rm -rf target .venv .cache
