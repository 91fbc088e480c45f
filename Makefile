# `make help` lists what there is. Everything does its own set-up; see scripts/services.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test services stop env run migrate bench reading scaling retention torture outage fuzz contract ci fmt lint publisher-only features smoke python python-bench docs rules deny house snapshots reference

CARGO_TARGET_DIR ?= target
BIN := $(CARGO_TARGET_DIR)/release/cns-events
# Runs a command with the servers' URLs; they are the private ones unless AMQP_URL and DATABASE_URL are set.
WITH_SERVERS := scripts/services start && eval "$$(scripts/services env)" &&

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: ## the main job: a BOM's workflow through a broker, a worker and a database (BOM=file.csv for your own)
	@scripts/demo $(if $(BOM),--bom "$(BOM)")

test: ## all tests, against the real servers
	@$(WITH_SERVERS) { scripts/services install pgbouncer prometheus zsh fish || echo "without pgbouncer, prometheus, zsh and fish their tests show nothing"; } && cargo test
	@$(MAKE) --no-print-directory python

python: ## build, check and test the Python package (PYTEST="-k fork")
	@scripts/python build && scripts/python check && cargo build --bin cns-events && $(WITH_SERVERS) scripts/python test $(PYTEST)

# On servers of its own with a worker, like `bench`.
python-bench: export CNS_EVENTS_SERVICES_DIR = $(CURDIR)/.services/bench
python-bench: ## the cost of a Python call, beside an insert with a commit for each event (PYTHON_BENCH="--only paced --check")
	@unset AMQP_URL DATABASE_URL; scripts/python build && cargo build --release --bin cns-events && $(WITH_SERVERS) { trap 'kill $$worker; wait $$worker; scripts/services stop' EXIT; \
	$(BIN) migrate && { CNS_EVENTS__LOG__LEVEL=error $(BIN) worker & worker=$$!; } && scripts/python run python/benches/call.py $(PYTHON_BENCH); }

services: ## start the private servers
	@scripts/services start && scripts/services status

stop: ## stop the private servers; their data stays
	@scripts/services stop

env: ## AMQP_URL and DATABASE_URL of the private servers, as export lines (make -s env)
	@scripts/services start && scripts/services env

run: ## a worker on the private servers, until Ctrl-C
	@cargo build --release && $(WITH_SERVERS) $(BIN) migrate && exec $(BIN) worker

migrate: ## bring the schema of the private database up to date
	@cargo build --release && $(WITH_SERVERS) $(BIN) migrate

# Servers of the benchmark's own, whatever AMQP_URL and DATABASE_URL say, with nothing in them; stopped when it is done.
bench: export CNS_EVENTS_SERVICES_DIR = $(CURDIR)/.services/bench
bench: ## how fast, beside COPY, bare lapin and Python; about an hour (BENCH="--only drain --queue quorum", BENCH=--smoke)
	@unset AMQP_URL DATABASE_URL; scripts/services install python3-venv || echo "without python3-venv: BENCH=--no-python"; \
	cargo bench --bench bench --no-run && $(WITH_SERVERS) { trap 'scripts/services stop' EXIT; \
	cargo bench --bench bench -- $(or $(BENCH),--out docs/benchmarks); }

reading: ## latency of the read API with a million rows (READING="--rows 100000 --seconds 5")
	@cargo bench --bench read --no-run && $(WITH_SERVERS) cargo bench --bench read -- $(READING)

scaling: ## four workers beside one, 300 ms away from the database (SCALING="--workers 1,2,4,8")
	@cargo bench --bench scale --no-run && $(WITH_SERVERS) cargo bench --bench scale -- $(SCALING)

retention: ## a worker's speed while prune deletes a million rows (RETENTION="--rows 100000 --events 300000 --rounds 1")
	@cargo bench --bench prune --no-run && $(WITH_SERVERS) cargo bench --bench prune -- $(RETENTION)

torture: ## random faults under load, then every event is accounted for (FAULTS=200 SEED=7)
	@FAULTS=$(or $(FAULTS),200) SEED=$(SEED) cargo test --test torture

outage: ## one long outage under load (SECONDS=600 SERVER=database or broker)
	@OUTAGE_SECONDS=$(or $(SECONDS),600) SERVER=$(or $(SERVER),database) cargo test --test torture

# With a nightly toolchain also the address sanitizer; without one the stable compiler's own coverage.
FUZZ = $(if $(shell rustup toolchain list 2>/dev/null | grep nightly),cargo +nightly fuzz run,RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none)
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

fuzz: ## any bytes through every decoder, each for FUZZ_SECONDS=60 (FUZZ_TARGETS="frames token")
	@cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/corpus/$$target; \
		$(FUZZ) $$target fuzz/corpus/$$target \
			$$(ls -d fuzz/seeds/$$target $$([ $$target = decode ] && echo tests/corpus) 2>/dev/null) \
			-- -max_total_time=$(or $(FUZZ_SECONDS),60) -max_len=8192 || exit 1; \
	done

contract: ## write docs/contract (JSON Schema, AsyncAPI) from the types
	@CNS_EVENTS_WRITE_CONTRACT=1 cargo test --lib event::contract

reference: ## write docs/reference (configuration, metrics, cli, api, failures) from the code
	@CNS_EVENTS_WRITE_REFERENCE=1 cargo test --test it docs::reference

house: ## the rules of the house (circles, borders, sizes, words), without servers
	@cargo test --test house

snapshots: ## record the texts that people read again (tests/it/*/snapshots)
	@$(WITH_SERVERS) INSTA_UPDATE=always cargo test --test it -- as_recorded

ci: fmt lint house publisher-only docs test features smoke ## what the continuous integration runs

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --all-targets --all-features -- -D warnings
	cargo clippy -p cns-events-python -- -D warnings

publisher-only:
	cargo clippy --no-default-features --features publisher --lib --examples -- -D warnings

smoke: # whether the benchmark works; its figures say nothing
	@$(MAKE) --no-print-directory bench BENCH=--smoke

features: # what the default features do not have
	cargo test --all-features --lib trace::

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

rules: ## write the Prometheus operator's object from k8s/components/monitoring/rules.yaml
	@cd k8s/components/monitoring && { printf '%s\n' '# Written by `make rules` from rules.yaml.' 'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' 'metadata:' '  name: cns-events' 'spec:' && sed -e '/^#/d' -e 's/^\(.\)/  \1/' rules.yaml; } > prometheusrule.yaml

deny: ## licences, sources and known vulnerabilities of the dependencies (cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked
	cargo deny check
