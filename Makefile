# Timmy: what people and CI type.
#
#   make run      everything needed, then the node
#   make test     everything needed, then all tests
#   make check    format, lints, licences, docs
#   make bench    the figures of spec/benchmarks.md (PARTS="memory quality": some of them), and a thousand kills
#   make fuzz     what parses bytes from outside, for a minute each (FUZZ_SECONDS); needs a nightly compiler
#   make install  the release binary into ~/.cargo/bin
#
# Compiled dependencies are shared between clones in ~/.cache/timmy/target when that folder is there, else they lie in ./target.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := run
.PHONY: run test check bench fuzz install tools compiler node-tools python-tools matrix-tools proxy deny clean

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/timmy
TOOLS := $(CACHE)/tools
ifneq ($(wildcard $(CACHE)/target),)
export CARGO_TARGET_DIR ?= $(CACHE)/target
endif

DENY_VERSION := 0.20.2
PEER_VERSION := 0.8.12
FUZZ_VERSION := 0.13.2
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := event chunk change sync_message sync_session import_line envelope

# apt-get, where there is one; elsewhere a word on what is missing. $(1): packages, $(2): why
define install_packages
	if command -v apt-get >/dev/null; then \
	  echo "installing $(1): $(2)"; \
	  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  $$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(1); \
	else \
	  echo "missing: $(1) ($(2)). There is no apt-get here: install them with your system's package manager, then run make again." >&2; exit 1; \
	fi
endef

# A C compiler builds LMDB, SQLite, secp256k1, ring and zstd; protoc reads the message formats of LanceDB.
compiler:
	@command -v protoc >/dev/null || { $(call install_packages,protobuf-compiler,protoc builds LanceDB); }
	@command -v cc >/dev/null && command -v make >/dev/null || { $(call install_packages,build-essential,a C compiler for LMDB SQLite and the curves); }

run: compiler
	cargo run --release -p daemon --bin timmy -- run

install: compiler
	cargo install --locked --path daemon

# Independent Nostr clients for the tests: nostr-tools and NDK (Node), nostr-sdk's bindings (Python), a real reverse proxy (nginx).
tools: compiler node-tools python-tools matrix-tools proxy

node-tools:
	@command -v node >/dev/null && command -v npm >/dev/null || { $(call install_packages,nodejs npm,independent Nostr clients in the tests run on Node); }
	@if [ -f tests/external/package-lock.json ] && ! cmp -s tests/external/package-lock.json tests/external/node_modules/.installed; then \
	  npm ci --no-audit --no-fund --prefix tests/external && cp tests/external/package-lock.json tests/external/node_modules/.installed; fi

python-tools:
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { $(call install_packages,python3 python3-venv,independent Nostr clients in the tests run on Python); }
	@if [ -f tests/external/requirements.txt ] && ! cmp -s tests/external/requirements.txt .tools/venv/.installed; then \
	  python3 -m venv .tools/venv && .tools/venv/bin/pip install -q --disable-pip-version-check -r tests/external/requirements.txt \
	  && cp tests/external/requirements.txt .tools/venv/.installed; fi

# A real homeserver (Synapse, 242 MB) and the client stack of Element Web (216 MB, with a Node of its own) for the tests of the Matrix door.
matrix-tools: node-tools python-tools
	@if [ -f tests/matrix/package-lock.json ] && ! cmp -s tests/matrix/package-lock.json tests/matrix/node_modules/.installed; then \
	  echo "installing the client stack of Element Web: people in the Matrix tests"; \
	  npm ci --no-audit --no-fund --loglevel=error --prefix tests/matrix && cp tests/matrix/package-lock.json tests/matrix/node_modules/.installed; fi
	@if [ -f tests/matrix/requirements.txt ] && ! cmp -s tests/matrix/requirements.txt .tools/matrix/.installed; then \
	  echo "installing Synapse: the homeserver in the Matrix tests"; \
	  python3 -m venv .tools/matrix && .tools/matrix/bin/pip install -q --disable-pip-version-check -r tests/matrix/requirements.txt \
	  && cp tests/matrix/requirements.txt .tools/matrix/.installed; fi

proxy:
	@[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || { $(call install_packages,nginx-light,a real reverse proxy for the tests); }

test: tools
	cargo test --workspace --locked

deny:
	@[ -x $(TOOLS)/bin/cargo-deny ] || cargo install --locked --root $(TOOLS) cargo-deny --version $(DENY_VERSION)

# Advisories need the database of RustSec, which is fetched from the network: checked where it can be had, said where it cannot.
check: compiler deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --locked --quiet
	$(TOOLS)/bin/cargo-deny --all-features check bans licenses sources
	@$(TOOLS)/bin/cargo-deny --all-features check advisories 2>$(TOOLS)/advisories.log && echo "advisories ok" \
	  || { if grep -qiE 'failed to (fetch|clone)|unable to (fetch|clone)|error sending request|network|could not connect|failed to acquire|dns' $(TOOLS)/advisories.log; \
	       then echo "advisories: the RustSec database cannot be had here; not checked"; else cat $(TOOLS)/advisories.log; exit 1; fi; }

# The peer is built from crates.io once (about 15 minutes; it needs protoc) and kept in the cache. Its own lock file names a
# version of `time` that today's compiler refuses, hence no --locked.
$(CACHE)/bench/bin/nostr-rs-relay:
	@command -v protoc >/dev/null || { $(call install_packages,protobuf-compiler,protoc builds nostr-rs-relay for the comparison); }
	cargo install --root $(CACHE)/bench nostr-rs-relay --version $(PEER_VERSION)

# The questions that recall is measured with: made of Debian's archive (25 MB, kept in the cache). Where it cannot be had the figures
# say that they are missing.
$(CACHE)/retrieval/set.jsonl: tests/retrieval/make_set.py tests/retrieval/porter.py
	@command -v python3 >/dev/null || { $(call install_packages,python3,the retrieval set is made by a Python script); }
	python3 -B tests/retrieval/make_set.py $(CACHE)/retrieval || echo "no retrieval set: bench goes on without it" >&2

# Vector engines that recall is measured beside. Where they cannot be had the figures say that they are missing.
$(CACHE)/peers/.installed: tests/peers/requirements.txt
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { $(call install_packages,python3 python3-venv,the vector engines that recall is compared with run on Python); }
	@{ python3 -m venv $(CACHE)/peers && $(CACHE)/peers/bin/pip install -q --disable-pip-version-check -r tests/peers/requirements.txt \
	  && cp tests/peers/requirements.txt $@; } || echo "no vector engines to compare with: bench goes on without them" >&2

# Node and load programs come of one build: another selection of packages would give LanceDB other features, and a second build.
bench: compiler $(CACHE)/retrieval/set.jsonl $(CACHE)/peers/.installed $(CACHE)/bench/bin/nostr-rs-relay
	cargo build --release --locked --workspace --bin timmy --bin bench --example net_figures
	target=$${CARGO_TARGET_DIR:-target}/release; NOSTR_RS_RELAY=$(CACHE)/bench/bin/nostr-rs-relay TIMMY_BIN=$$target/timmy \
	  RETRIEVAL_SET=$(CACHE)/retrieval/set.jsonl PEERS_PYTHON=$(CACHE)/peers/bin/python $$target/bench $(PARTS)
	$(if $(filter federation,$(or $(PARTS),federation)),$${CARGO_TARGET_DIR:-target}/release/examples/net_figures)
	$(if $(PARTS),,TIMMY_KILLS=1000 cargo test --locked --workspace --test crash)

# libFuzzer instruments the code, which only a nightly compiler can. What it finds lies in tests/fuzz/artifacts.
fuzz: compiler
	@rustup run nightly rustc --version >/dev/null 2>&1 || { echo "fuzzing needs a nightly compiler: rustup toolchain install nightly" >&2; exit 1; }
	@[ -x $(TOOLS)/bin/cargo-fuzz ] || cargo install --locked --root $(TOOLS) cargo-fuzz --version $(FUZZ_VERSION)
	cd tests/fuzz && export CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-$$PWD/target}-fuzz PATH="$(TOOLS)/bin:$$PATH"; \
	  for target in $(FUZZ_TARGETS); do \
	    mkdir -p corpus/$$target; \
	    cargo +nightly fuzz run --fuzz-dir . $$target corpus/$$target seeds/$$target -- \
	      -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -rss_limit_mb=1024 -timeout=20; \
	  done

clean:
	cargo clean
	rm -rf .tools tests/external/node_modules tests/matrix/node_modules
