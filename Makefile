# natd's tasks. The first two do their own set-up (Debian packages, moto) and need root, since the
# lab is made of network namespaces.
#
# Every cargo command works on the whole workspace: cargo builds a dependency anew for every other
# set of features, and aws-sdk-ec2 takes 6 minutes a build.

.PHONY: demo test check bench setup build clean

CARGO    ?= cargo
BINARIES := $(or $(CARGO_TARGET_DIR),target)
TOOLS    ?= /var/cache/natd-tools
# Whose cloud the demo is in.
PROVIDER ?= aws

# Hosts without a public address reach the internet through a VM that natd turns into a NAT gateway.
demo: setup build
	$(BINARIES)/debug/demo $(PROVIDER)

# All tests: pure ones, ones in network namespaces, and the lab's, with packets.
test: setup build
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace --all-targets; \
	else \
		$(CARGO) test --workspace --all-targets; \
	fi

# Everything that a reviewer's eyes are too good for.
check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items
	@test -x $(TOOLS)/bin/cargo-deny || $(CARGO) install cargo-deny --locked --quiet --root $(TOOLS)
	$(TOOLS)/bin/cargo-deny --workspace check bans licenses sources
	shellcheck $$(git ls-files '*.sh' .ci/run)

# Speed and memory, as ratios taken side by side. On a machine with nothing else to do,
# `target/release/bench --write` makes docs/benchmarks.md of a run.
bench: setup
	$(CARGO) build --workspace --all-targets --release
	$(BINARIES)/release/bench

setup:
	@tests/setup/install.sh

build:
	$(CARGO) build --workspace --all-targets

clean:
	$(CARGO) clean
