# natd's tasks. The first two do their own set-up (Debian packages, moto) and need root, since the
# lab is made of network namespaces.
#
# Every cargo command works on the whole workspace: cargo builds a dependency anew for every other
# set of features, and aws-sdk-ec2 takes 6 minutes a build.

.PHONY: demo test check fuzz bench install uninstall setup build clean

CARGO    ?= cargo
BINARIES := $(or $(CARGO_TARGET_DIR),target)
TOOLS    ?= /var/cache/natd-tools

DESTDIR    ?=
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR    ?= /etc/systemd/system
PLUGINDIR  ?= /usr/lib/natd/plugins
BINARY     ?= $(BINARIES)/release/natd
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
	$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items
	@test -x $(TOOLS)/bin/cargo-deny || $(CARGO) install cargo-deny --locked --quiet --root $(TOOLS)
	$(TOOLS)/bin/cargo-deny --workspace check bans licenses sources
	shellcheck $$(git ls-files '*.sh' .ci/run)

# Every reader of what others write, fed with nonsense for TIME seconds each: docs/fuzzing.md. ONLY= names targets.
TIME ?= 600
ONLY ?=
fuzz:
	TIME=$(TIME) fuzz/run.sh $(ONLY)

# Speed and memory, as ratios taken side by side, in some 20 minutes; `target/release/bench NAME` measures
# one section. On a machine with nothing else to do, `target/release/bench --write` makes
# docs/benchmarks.md and docs/plots of a run.
bench: setup
	$(CARGO) build --workspace --all-targets --release
	$(BINARIES)/release/bench

# natd as a service: binary, unit, plugins, and a commented configuration where there is none yet. The binary is
# the one that `cargo build --release --workspace` has made; BINARY= takes another.
install:
	@test -x "$(BINARY)" || { echo "error: $(BINARY) isn't there: cargo build --release --workspace makes it" >&2; exit 1; }
	install -D -m 0755 "$(BINARY)" "$(DESTDIR)$(PREFIX)/bin/natd"
	install -d -m 0755 "$(DESTDIR)$(UNITDIR)"
	sed '1d; s|@BINDIR@|$(PREFIX)/bin|' deploy/systemd/natd.service > "$(DESTDIR)$(UNITDIR)/natd.service"
	@chmod 0644 "$(DESTDIR)$(UNITDIR)/natd.service"
	install -D -m 0755 -t "$(DESTDIR)$(PLUGINDIR)" deploy/plugins/linux-router
	install -D -m 0644 -t "$(DESTDIR)$(PLUGINDIR)/natd_linux_router" deploy/plugins/natd_linux_router/*.py
	@if [ -e "$(DESTDIR)$(SYSCONFDIR)/natd/natd.toml" ]; then \
		echo "$(DESTDIR)$(SYSCONFDIR)/natd/natd.toml is there already and stays as it is"; \
	else \
		install -D -m 0600 deploy/natd.toml "$(DESTDIR)$(SYSCONFDIR)/natd/natd.toml"; \
		echo "write what this machine is to do into $(DESTDIR)$(SYSCONFDIR)/natd/natd.toml, then: systemctl enable --now natd"; \
	fi
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

# What install has put there. The configuration stays: it is yours. natd down, first, gives back
# what natd has changed.
uninstall:
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl disable --now natd.service || true; fi
	rm -f "$(DESTDIR)$(PREFIX)/bin/natd" "$(DESTDIR)$(UNITDIR)/natd.service" "$(DESTDIR)$(PLUGINDIR)/linux-router"
	rm -rf "$(DESTDIR)$(PLUGINDIR)/natd_linux_router"
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

setup:
	@tests/setup/install.sh

build:
	$(CARGO) build --workspace --all-targets

clean:
	$(CARGO) clean
