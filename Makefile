# Everything here needs Go; what else a target can use, it says.

GO           ?= go
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS      := -s -w -X main.version=$(VERSION)
BIN          := $(CURDIR)/bin

LINT_VERSION := v2.15.0
VULN_VERSION := v1.1.4

# The race detector needs cgo and a C compiler.
RACE := $(shell [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC | cut -d' ' -f1)" >/dev/null 2>&1 && echo -race)

# What `make test` hands to go test, such as: make test TEST_ARGS='-run TestClaim ./api/...'
TEST_ARGS ?= ./...

.DEFAULT_GOAL := help

.PHONY: help
help: ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## run dibs with an embedded Kafka and Postgres, ready to be tried
	$(GO) build -o $(BIN)/dibs ./cmd/dibs
	$(BIN)/dibs dev $(RUN_ARGS)

.PHONY: build
build: ## build the static binary bin/dibs
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/dibs ./cmd/dibs

.PHONY: test
test: ## run all tests with one Kafka and one Postgres, the best there are (see dibstest)
	@[ -n "$(RACE)" ] || echo "make test: no cgo or C compiler here, so WITHOUT the race detector" >&2
	$(GO) run ./dibstest/cmd/with-servers -- $(GO) test $(RACE) -timeout 20m $(TEST_ARGS)

.PHONY: test-short
test-short: ## run the quick tests, on the embedded Kafka and Postgres, without the race detector
	DIBS_TEST_KAFKA=embedded DIBS_TEST_POSTGRES=embedded $(GO) run ./dibstest/cmd/with-servers -- $(GO) test -short $(TEST_ARGS)

# The packages that a claim passes through. They have a baseline in testdata/allocs.baseline.
ALLOCS := ./api ./claims ./client ./kafka ./postgres ./processor ./registrations

.PHONY: allocs
allocs: ## compare what a claim costs in memory with the baseline; without the race detector, which allocates for itself
	$(GO) test -count=1 -run 'TestAllocations$$' $(ALLOCS)

.PHONY: allocs-update
allocs-update: ## make what a claim costs in memory now the baseline
	$(GO) test -count=1 -run 'TestAllocations$$' $(ALLOCS) -allocs.update

.PHONY: lint
lint: $(BIN)/golangci-lint-$(LINT_VERSION) ## check the code with go vet and golangci-lint
	$(GO) vet ./...
	$(BIN)/golangci-lint-$(LINT_VERSION) run ./...

# Built from source once per version; that takes a minute or two.
$(BIN)/golangci-lint-$(LINT_VERSION):
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(BIN)/golangci-lint $@

.PHONY: vuln
vuln: ## look for known vulnerabilities in what the code calls, where govulncheck's database answers
	@out=$$($(GO) run golang.org/x/vuln/cmd/govulncheck@$(VULN_VERSION) ./... 2>&1); code=$$?; echo "$$out"; \
	case "$$out" in \
	*'fetching vulnerabilities'*) echo 'make vuln: not checked: the database of govulncheck does not answer' ;; \
	*) exit $$code ;; \
	esac

.PHONY: bench
bench: ## measure claims per second beside a direct INSERT and others, on the servers of `make test` (BENCH_ARGS="--waiting 256 --peers")
	$(GO) build -o $(BIN)/dibs ./cmd/dibs
	$(GO) run ./dibstest/cmd/with-servers -- sh -c 'DIBS_KAFKA_BROKERS=$$DIBS_TEST_KAFKA DIBS_POSTGRES_DSN=$$DIBS_TEST_POSTGRES exec "$$@"' sh $(BIN)/dibs bench $(BENCH_ARGS)

.PHONY: simulate
simulate: ## run 3,000 seeds of the simulation, without the race detector (make test runs 150 with it)
	$(GO) test -count=1 -timeout 10m -run 'TestSimulation$$' ./processor -sim.seeds=3000

.PHONY: mutants
mutants: ## build the classic mistakes in, one at a time, and see the simulation find each (about 10 minutes)
	DIBS_MUTANTS=1 $(GO) test -timeout 60m -run TestMutants -v ./processor

.PHONY: campaign
campaign: ## run the long tests of the whole system: kills, pauses, restarts under a large import, a million names
	DIBS_TEST_CAMPAIGN=1 $(GO) run ./dibstest/cmd/with-servers -- $(GO) test -timeout 60m -run Campaign -v ./app ./names

.PHONY: generate
generate: ## make the generated code anew
	$(GO) generate ./...

.PHONY: up
up: ## start dibs, Kafka, Postgres and Prometheus with docker compose
	docker compose up --build --detach --wait

.PHONY: down
down: ## stop what `make up` started; the data stays
	docker compose down

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)
