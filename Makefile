# `make run` and `make test` do all of their set-up themselves: into .build and target, nowhere else. What the examples
# save is in examples/instance.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
RUN_VENV := .build/run
TEST_VENV := .build/test
DOCS_VENV := .build/docs

# Installs a Debian package, if that is possible here.
debian = { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "== Installing $(1)" && apt-get update -qq \
	&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; }

.DEFAULT_GOAL := help
.PHONY: help run test check dist docs reference pictures format fuzz mutants audit bench test-rust test-python system-packages torture clean

help:
	@echo "make run     build the wheel and start the examples with the embedded hub"
	@echo "make test    install what the tests need and run all tests, Rust and Python"
	@echo "make check   formatting, lints, types and documentation"
	@echo "make format  format everything"
	@echo "make fuzz    feed the parsers with random input, FUZZ_SECONDS (30) for each target"
	@echo "make mutants change the code in one place at a time: does a test notice? A sample of MUTANTS_CRATE (petasos-protocol)"
	@echo "make audit   look for known vulnerabilities of dependencies; fails where it cannot look"
	@echo "make version VERSION=1.2.3  writes a version into all files that have a copy of it"
	@echo "make api     accept changes of the Python interface into tests/api.txt"
	@echo "make msrv    compile with the oldest Rust that is supported"
	@echo "make semver  compare the interfaces of the crates with those of the last release"
	@echo "make publish-check  pack all crates and compile them from their packages"
	@echo "make simulator      presence and streams in virtual time, SEEDS (20000) of them"
	@echo "make soak    tell the stories of lost connections in real browsers twenty times"
	@echo "make bench   compare petasos with the least that a server can do, in two minutes"
	@echo "make docs    build the site of the documentation into .build/site; all its links are checked"
	@echo "make reference write the pages of docs/reference again, from the code; the tests say when they are stale"
	@echo "make pictures make the pictures in docs/images again, from real pages in Chromium"
	@echo "make dist    build wheels, binaries and packages into dist/: an hour the first time; DIST=\"wheel deb\" for parts of it"
	@echo "make deploy-tools   install what checks the Helm chart and the compose files; make check and make test do it themselves"
	@echo "make torture kill, pause and cut off hubs and logs at random, and check every delivery: FOR=10m SEED= LOGS=durable,redis"
	@echo "make clean   remove what was built"

# Half of the time that a release takes to compile: optimized less, and without the logs that several nodes share.
QUICK := MATURIN_PEP517_ARGS="--profile quick --locked --no-default-features"

run: $(RUN_VENV)/bin/pip
	@echo "== Building and installing the wheel: some minutes the first time; all of it is in .build/install.log"
	@$(QUICK) $(RUN_VENV)/bin/pip install --verbose . 2>&1 | tee .build/install.log \
		| grep --line-buffered -E "^ +Compiling|^ +Finished|error|Error|Successfully"
	@$(RUN_VENV)/bin/pip install --quiet -r examples/requirements.txt
	$(RUN_VENV)/bin/python examples/index.py

# Both suites run to their end. The last lines say what passed, what failed, and what was skipped and why.
RUN_TESTS := TEST_VENV=$(TEST_VENV) $(PYTHON) tools/run_tests.py

test: $(TEST_VENV)/.tools $(DOCS_VENV)/.tools system-packages
	@$(RUN_TESTS) rust python

test-rust: system-packages
	@$(RUN_TESTS) rust

test-python: $(TEST_VENV)/.tools $(DOCS_VENV)/.tools system-packages
	@$(RUN_TESTS) python

# Real browsers, real servers for the logs beside memory, proxies.
BROWSERS := chromium firefox-esr
SERVERS := redis-server nats-server postgresql nginx-light haproxy apache2-bin caddy iproute2 openssl prometheus
# What .deb and .rpm are made and tried with.
PACKAGERS := rpm systemd man-db
# An image is built with the first, the units of systemd are tried in the second.
CONTAINERS := buildah systemd-container

system-packages:
	@{ command -v chromium && command -v firefox-esr; } >/dev/null || $(call debian,$(BROWSERS)) \
		|| echo "browsers are missing, so tests are skipped: apt-get install $(BROWSERS), as root"
	@{ command -v rpmbuild && command -v systemd-sysusers && command -v man; } >/dev/null || $(call debian,$(PACKAGERS)) \
		|| echo "tools of packages are missing, so tests are skipped: apt-get install $(PACKAGERS), as root"
	@{ command -v buildah && command -v systemd-nspawn; } >/dev/null || $(call debian,$(CONTAINERS)) \
		|| echo "buildah and systemd-nspawn are missing, so tests are skipped: apt-get install $(CONTAINERS), as root"
	@{ command -v redis-server && command -v nats-server && command -v nginx && command -v haproxy \
		&& command -v apache2 && command -v caddy && command -v ip && command -v openssl && command -v promtool \
		&& ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 || $(call debian,$(SERVERS)) \
		|| echo "servers are missing, so tests are skipped: apt-get install $(SERVERS), as root"

check: $(TEST_VENV)/.tools
	@echo "== Files that import each other in a circle"
	$(TEST_VENV)/bin/python tools/circles.py
	@echo "== Rust: format, dependencies, lints, documentation"
	cargo fmt --all --check
	$(TEST_VENV)/bin/python tools/dependencies.py
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	@echo "== Python: format, lints, types"
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/mypy
	@echo "== The client for pages: types, sizes, and whether the committed files are what it builds"
	$(TEST_VENV)/bin/python tests/client_package.py
	@echo "== Workflows"
	@if [ -x .build/tools/bin/actionlint ]; then .build/tools/bin/actionlint; fi
	$(TEST_VENV)/bin/zizmor --offline --quiet .github
	@echo "== Dependencies: licences, and known vulnerabilities"
	$(TEST_VENV)/bin/python tools/audit.py
	@echo "== Deployment: the Dockerfile, and what the Helm chart renders"
	@if [ -x $(TEST_VENV)/bin/hadolint ]; then $(TEST_VENV)/bin/hadolint deploy/Dockerfile; fi
	@if [ -x .build/tools/bin/helm ]; then $(TEST_VENV)/bin/python tools/chart.py; fi

# helm renders the chart, kubeconform validates what comes out, h2spec asks the hub all that RFC 9113 says: they are compiled once,
# from Go's module registry. The schema of
# compose files is a file of such a module.
CHART_TOOLS := .build/tools/bin/helm .build/tools/bin/kubeconform
H2SPEC := .build/tools/bin/h2spec
COMPOSE_SCHEMA := .build/tools/compose-spec.json
.build/tools/bin/helm: MODULE := helm.sh/helm/v3/cmd/helm@v3.22.0
.build/tools/bin/kubeconform: MODULE := github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0

.PHONY: deploy-tools
check test test-python: deploy-tools
deploy-tools:
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory $(CHART_TOOLS) $(H2SPEC) $(COMPOSE_SCHEMA); \
		else echo "Go is missing, so the Helm chart, the compose files and HTTP/2 are not checked: install Go 1.26"; fi

$(CHART_TOOLS):
	@echo "== Installing $(@F): a minute or two"
	GOBIN=$(CURDIR)/$(@D) GOFLAGS=-trimpath CGO_ENABLED=0 go install -ldflags="-s -w" $(MODULE)

# It has no module file of its own, so its versions stand in ours.
$(H2SPEC): tests/h2spec/go.mod tests/h2spec/go.sum
	@echo "== Installing $(@F): a minute or two"
	cd tests/h2spec && GOFLAGS="-trimpath -buildvcs=false" CGO_ENABLED=0 go build -ldflags="-s -w" \
		-o $(CURDIR)/$@ github.com/summerwind/h2spec/cmd/h2spec

$(COMPOSE_SCHEMA):
	@mkdir -p $(@D)
	cp "$$(go mod download -json github.com/compose-spec/compose-go/v2@v2.16.2 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/schema/compose-spec.json" $@

format: $(TEST_VENV)/.tools
	cargo fmt --all
	$(TEST_VENV)/bin/ruff format .
	$(TEST_VENV)/bin/ruff check --fix .

# The corpus in the repository is where each target begins. What it finds beyond that is in .build/fuzz, and stays there.
FUZZ_SECONDS ?= 30
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))

fuzz: $(TEST_VENV)/.tools
	@for target in $(FUZZ_TARGETS); do mkdir -p .build/fuzz/$$target; \
		echo "== $$target" && $(TEST_VENV)/bin/cargo-fuzz fuzz run -s none $$target .build/fuzz/$$target fuzz/corpus/$$target \
			-- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 -print_final_stats=1 || exit 1; done

# Both are compiled once, into .build, when they are first needed.
MUTANTS_CRATE ?= petasos-protocol
MUTANTS_SHARD ?= 0/8

# Shards are spread over all files. A change is noticed within a few hundred simulations, or in none.
mutants: .build/tools/bin/cargo-mutants
	PETASOS_SIMULATOR_SEEDS=300 .build/tools/bin/cargo-mutants mutants --package $(MUTANTS_CRATE) \
		--shard $(MUTANTS_SHARD) --sharding round-robin --jobs 1 --output .build

audit: $(TEST_VENV)/.tools
	$(TEST_VENV)/bin/python tools/audit.py --strict

# The release. RELEASING.md says when each of these is needed.
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
SEEDS ?= 20000
LAST_RELEASE = $(shell git describe --tags --abbrev=0 --match 'v[0-9]*' --exclude '*-*' 2>/dev/null)

.PHONY: version api msrv semver publish-check simulator soak actionlint
version:
	$(PYTHON) tools/version.py $(VERSION)

api: $(TEST_VENV)/.tools
	$(TEST_VENV)/bin/python tools/api.py --write

msrv:
	rustup toolchain install $(MSRV) --profile minimal
	cargo +$(MSRV) check --locked --workspace --all-targets --target-dir target/msrv

semver:
	@if [ -z "$(LAST_RELEASE)" ]; then echo "not checked: there is no release yet to compare with"; \
		else $(MAKE) --no-print-directory .build/tools/bin/cargo-semver-checks \
		&& .build/tools/bin/cargo-semver-checks semver-checks --workspace --baseline-rev $(LAST_RELEASE); fi

publish-check:
	cargo publish --workspace --locked --dry-run $(if $(shell git status --porcelain),--allow-dirty)

simulator:
	PETASOS_SIMULATOR_SEEDS=$(SEEDS) cargo test --locked -p petasos-hub --lib simulator

soak: $(TEST_VENV)/.tools system-packages
	BROWSER_TURNS=20 BROWSER_PAGES=20 BROWSER_AWAY=1,5,20 $(RUN_TESTS) python

.build/tools/bin/actionlint:
	@echo "== Installing actionlint: a minute"
	GOBIN=$(CURDIR)/$(@D) GOFLAGS=-trimpath CGO_ENABLED=0 go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

actionlint:
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory .build/tools/bin/actionlint; \
		else echo "Go is missing, so actionlint does not check the workflows: install Go 1.26"; fi
check: actionlint

.build/tools/bin/cargo-%:
	@echo "== Installing cargo-$*: some minutes"
	cargo install --locked --quiet --root .build/tools cargo-$*

docs: $(DOCS_VENV)/.tools
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet
	@echo "Open .build/site/index.html. The links to other sites are in .build/external-links.txt: nothing has fetched them"

reference: $(TEST_VENV)/.tools
	cargo build --locked --quiet -p petasos
	PETASOS=$${CARGO_TARGET_DIR:-target}/debug/petasos $(TEST_VENV)/bin/python tools/reference

# The package is the one that the last `make test-python` has built.
pictures: $(TEST_VENV)/.tools system-packages
	$(TEST_VENV)/bin/pip install --quiet --group pictures
	$(TEST_VENV)/bin/python tests/pictures.py

# Parts: sdist wheel threads binary deb rpm sbom. TARGETS: Rust triples; without them, all that can be built here.
DIST ?=
TARGETS ?=

# What a part needs is installed for that part only: to compile these two takes minutes.
asked = $(if $(DIST),$(filter $(1),$(DIST)),all)
DIST_TOOLS := $(if $(call asked,binary deb rpm),.build/tools/bin/cargo-auditable) \
	$(if $(call asked,sbom),.build/tools/bin/cargo-cyclonedx)

dist: .build/dist/.tools $(DIST_TOOLS)
	@$(if $(call asked,rpm),command -v rpmbuild >/dev/null || $(call debian,rpm) || { echo 'rpmbuild is missing: as root run apt-get install rpm'; exit 1; })
	.build/dist/bin/python tools/dist.py $(DIST) $(addprefix --target=,$(TARGETS))

.build/dist/.tools: .build/dist/bin/pip pyproject.toml
	@echo "== Installing the tools of dist"
	.build/dist/bin/pip install --quiet --group dist
	@touch $@

bench:
	cargo build --locked --release -p petasos -p petasos-bench
	target/release/petasos-bench compare bench/short.toml

# Each log in processes of its own, side by side; tests/torture says how. The evidence of a failure is in .build/torture.
FOR ?= 10m
LOGS ?= memory,durable,host,redis,nats,postgres
ROUND ?= 0

torture: $(TEST_VENV)/.tools system-packages
	cargo build --locked --profile quick -p petasos
	PETASOS=target/quick/petasos PYTHONPATH=tests $(TEST_VENV)/bin/python -m torture \
		--for $(FOR) --logs $(LOGS) --round $(ROUND) $(if $(SEED),--seed $(SEED))

$(RUN_VENV)/bin/pip $(TEST_VENV)/bin/pip $(DOCS_VENV)/bin/pip:
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || $(call debian,python3-venv) \
		|| { echo "virtual environments are missing: apt-get install python3-venv, as root"; exit 1; }
	$(PYTHON) -m venv $(dir $(@D))
	$@ install --quiet --upgrade "pip>=25.1"

$(TEST_VENV)/.tools: $(TEST_VENV)/bin/pip pyproject.toml
	@echo "== Installing the tools of check and test"
	$(TEST_VENV)/bin/pip install --quiet --group test --group dev "flask>=3.0"
	@# It is compiled, which needs a C compiler and Python's headers.
	@$(TEST_VENV)/bin/pip install --quiet "uwsgi>=2.0.26" >/dev/null 2>&1 \
		|| echo "uWSGI cannot be built here, so its tests are skipped"
	@touch $@

$(DOCS_VENV)/.tools: $(DOCS_VENV)/bin/pip pyproject.toml
	@echo "== Installing the tools of docs"
	$(DOCS_VENV)/bin/pip install --quiet --group docs
	@touch $@

clean:
	rm -rf .build dist target examples/instance fuzz/target fuzz/artifacts
