# Writ. `make demo` and `make test` install what they miss (Debian or Ubuntu, root or sudo) and say so.

GO       ?= go
BIN      := $(CURDIR)/bin
FUZZTIME ?= 60s
# A test that misses something fails; without the corpus it is skipped.
REQUIRE_ALL ?= $(if $(WRIT_CORPUS),1)
export CGO_ENABLED = 1

.PHONY: all build install deps demo test check bench screenshots fuzz mutate test-hsm test-log docs clean vm-deps test-vm test-vm-full demo-vm vectors mutants fields scale rotation simulate soak

all: build

build: ## build the three binaries into bin/
	$(GO) build -trimpath -o $(BIN)/ ./cmd/writd
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/writ ./cmd/writ-gate

PREFIX ?= /usr

install: build ## install programs, manual pages, completions and systemd units below DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 0755 $(BIN)/writ $(BIN)/writ-gate $(BIN)/writd $(DESTDIR)$(PREFIX)/bin
	install -m 0644 packaging/systemd/*.service $(DESTDIR)$(PREFIX)/lib/systemd/system
	$(BIN)/writ man $(DESTDIR)$(PREFIX)/share/man/man1
	$(BIN)/writ-gate man $(DESTDIR)$(PREFIX)/share/man/man1
	$(BIN)/writd man $(DESTDIR)$(PREFIX)/share/man/man8
	for p in writ writ-gate writd; do \
		$(BIN)/$$p completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$p && \
		$(BIN)/$$p completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$p && \
		$(BIN)/$$p completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$p.fish || exit 1; done

deps: ## install the packages that tests and demo need
	@test/deps/install

demo: deps build ## the whole path, told for a newcomer
	@$(GO) run ./test/demo -bin $(BIN)

# A program with the race detector sleeps a second before it exits, unless told otherwise; the tests start hundreds of them.
test: deps ## every test, race detector on
	@test/deps/install npm chromium
	@test -n "$(WRIT_CORPUS)" || echo "WRIT_CORPUS does not say where the corpus of real machines is: tests that read it are skipped"
	REQUIRE_ALL=$(REQUIRE_ALL) WRIT_CORPUS="$(WRIT_CORPUS)" GORACE="atexit_sleep_ms=10 $$GORACE" $(GO) test -race -timeout 10m ./...

vm-deps: ## install what virtual machines need; kernels are unpacked into a cache
	@test/deps/install vm

test-vm: vm-deps ## real boots: eight machines, from firmware to decision
	$(GO) test -tags vm -count=1 -timeout 15m -parallel 2 ./test/vm/...

test-vm-full: vm-deps ## the whole matrix of machines
	$(GO) test -tags vm,vmfull -count=1 -timeout 40m -parallel 2 -v ./test/vm/...

demo-vm: vm-deps build ## the path on a virtual machine that boots, changes and is denied, told for a newcomer
	@$(GO) run ./test/vm/demo -bin $(BIN)

check: ## format, vet, module file, import table
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt would change these files"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags vm,vmfull ./test/vm/...
	$(GO) mod tidy -diff
	$(GO) test ./test/arch

bench: deps ## ratios against bare primitives, in the same run
	@test/bench/run

scale: build ## a log of SCALE entries (a million) pulled and verified in little memory; about twenty minutes
	SCALE=$${SCALE:-1000000} WRIT=$(BIN)/writ $(GO) test -count=1 -timeout 120m -v -run TestScale ./audit

rotation: deps ## ten thousand artifacts minted while every key of the issuer is replaced; some minutes
	ROTATION_COUNT=$${ROTATION_COUNT:-10000} $(GO) test -count=1 -timeout 30m -v -run TestP18_KeysRotateUnderLoad ./cmd/writd

simulate: ## SEEDS seeds (100,000) of an issuer to which everything happens; SEED=N tells what one does; about two hours on one core
	@$(GO) test -c -o $(BIN)/simulate ./issuer
	@d=$$(mktemp -d -p "$$(test -w /dev/shm && echo /dev/shm || echo "$${TMPDIR:-/tmp}")") && trap 'rm -rf "$$d"' EXIT && \
		cd issuer && GOGC=400 TMPDIR="$$d" SEEDS=$${SEEDS:-100000} SEED=$${SEED:-} $(BIN)/simulate -test.timeout 0 -test.run TestR10_SeededSimulation $${SEED:+-test.v}

soak: deps ## everything that an issuer is asked for, at a low rate for MINUTES (20): nothing may grow
	SOAK_MINUTES=$${MINUTES:-20} $(GO) test -count=1 -timeout 0 -v -run TestR16_Soak ./cmd/writd

screenshots: ## the pictures of docs/console.md and docs/bundle.md, from a real Chromium
	@test/deps/install chromium
	@mkdir -p docs/images
	SCREENSHOTS=$(CURDIR)/docs/images $(GO) test -count=1 -run TestScreenshots ./console

fuzz: ## every fuzz target for FUZZTIME, keeping its corpus
	@test/deps/fuzz $(FUZZTIME)

mutate: ## mutations of whole evidence, and of logs and quotes against other verifiers: none may pass with other facts
	@MUTATIONS=$${MUTATIONS:-1000000} WRIT_CORPUS="$(WRIT_CORPUS)" $(GO) test -count=1 -timeout 60m -v -run 'TestMutatedEvidence|TestDifferences' ./test/corpus

fields: ## one bit of every field of a bundle changed, by an issuer that signs what it can: each is refuted where it belongs
	@FIELDS=all $(GO) test -count=1 -timeout 10m -v -run TestT24_EveryFieldCounts ./audit

test-hsm: deps ## every PKCS#11 call going wrong with every return value, before and after it takes effect
	@FAULTS=all REQUIRE_ALL=1 $(GO) test -count=1 -timeout 10m -run 'TestFaults|TestH|TestR|TestTPM|TestTrial|TestValidation|TestDocs' ./hsm

test-log: deps ## every system call on the files of the log failing or being the last, and thousands of damaged files
	@FAULTS=all REQUIRE_ALL=1 $(GO) test -count=1 -timeout 30m -v -run 'TestR02|TestR20' ./tlog

vectors: deps ## make vectors anew, run them and the published ones, and see that each check is held by one
	@test/vectors/run-vectors

mutants: ## mutants of attest, statement, artifact and firmware-policy against their tests, for MUTANT_BUDGET each
	@test/mutants/run-all $${MUTANT_BUDGET:-10m}

docs: ## regenerate the generated parts of docs/
	$(GO) generate ./...

clean:
	rm -rf $(BIN)
