# Writ. `make demo` and `make test` install what they miss (Debian or Ubuntu, root or sudo) and say so.

GO       ?= go
BIN      := $(CURDIR)/bin
FUZZTIME ?= 60s
export CGO_ENABLED = 1

.PHONY: all build deps demo test check bench fuzz mutate test-hsm docs clean

all: build

build: ## build the three binaries into bin/
	$(GO) build -trimpath -o $(BIN)/ ./cmd/writd
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/writ ./cmd/writ-gate

deps: ## install the packages that tests and demo need
	@test/deps/install

demo: deps build ## the whole path, told for a newcomer
	@$(GO) run ./test/demo -bin $(BIN)

test: deps ## every test, race detector on, nothing skipped
	@test/deps/install npm
	REQUIRE_ALL=1 WRIT_CORPUS="$(WRIT_CORPUS)" $(GO) test -race -timeout 10m ./...

check: ## format, vet, module file, import table
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt would change these files"; exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) test ./test/arch

bench: deps ## ratios against bare primitives, in the same run
	@test/bench/run

fuzz: ## every fuzz target for FUZZTIME, keeping its corpus
	@test/deps/fuzz $(FUZZTIME)

mutate: ## mutations of whole evidence, and of logs and quotes against other verifiers: none may pass with other facts
	@MUTATIONS=$${MUTATIONS:-1000000} WRIT_CORPUS="$(WRIT_CORPUS)" $(GO) test -count=1 -timeout 60m -v -run 'TestMutatedEvidence|TestDifferences' ./test/corpus

test-hsm: deps ## every PKCS#11 call going wrong with every return value, before and after it takes effect
	@FAULTS=all REQUIRE_ALL=1 $(GO) test -count=1 -timeout 10m -run 'TestFaults|TestH|TestR' ./hsm

docs: ## regenerate the generated parts of docs/
	$(GO) generate ./...

clean:
	rm -rf $(BIN)
