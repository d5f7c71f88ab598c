# Everything a developer or CI runs. `make help` lists it.
# Needs Go, git and make; tests with Kafka or ZooKeeper also need mvn and Java 17.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A version is the tag, or the commit, and says so when the tree has changes.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X github.com/afterimage-dr/afterimage/internal/cli.version=$(VERSION)

# One package at a time on two cores would leave a core idle; more than two have
# too many API servers side by side.
TEST_PACKAGES ?= ./...
TEST_PARALLEL ?= 2
TEST_TIMEOUT ?= 45m
TEST_FLAGS ?=

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/afterimage
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/afterimage .

.PHONY: demo
demo: build ## Two throwaway clusters, a live standby, a kill in the middle, a comparison
	@KUBEBUILDER_ASSETS=$$(bench/tools/kube/kube-assets.sh | tail -n 1); export KUBEBUILDER_ASSETS; \
	bin/afterimage demo

.PHONY: demo-zookeeper
demo-zookeeper: build ## Two throwaway ZooKeeper servers, a tree copied once, by plan and live, and compared
	@bin/afterimage demo zookeeper

# Options of the benchmark, for example BENCH_FLAGS='-only cold -rounds 1'.
BENCH_FLAGS ?=

.PHONY: bench
bench: build ## Compare speed and memory with bare clients on the same machine
	@KUBEBUILDER_ASSETS=$$(bench/tools/kube/kube-assets.sh | tail -n 1); export KUBEBUILDER_ASSETS; \
	go run ./bench $(BENCH_FLAGS)

.PHONY: kube-assets
kube-assets: ## Find or build kube-apiserver, kube-controller-manager and etcd; print their folder
	@bench/tools/kube/kube-assets.sh

.PHONY: test
test: ## Run every test, on real API servers, Kafka and ZooKeeper
	@KUBEBUILDER_ASSETS=$$(bench/tools/kube/kube-assets.sh | tail -n 1); export KUBEBUILDER_ASSETS; \
	if go test -timeout $(TEST_TIMEOUT) -p $(TEST_PARALLEL) $(TEST_FLAGS) $(TEST_PACKAGES); then \
	  echo "make test: passed"; \
	else \
	  echo "make test: FAILED"; exit 1; \
	fi

.PHONY: test-short
test-short: ## Run the tests that need no servers
	go test -short -timeout 10m $(TEST_FLAGS) $(TEST_PACKAGES)

.PHONY: generate
generate: ## Generate deep copies and CRDs from the Go types
	bench/tools/generate.sh

.PHONY: lint
lint: ## Run golangci-lint (built once into the cache)
	@bench/tools/lint/lint.sh

.PHONY: verify
verify: ## Check formatting, vet, generated files, lint and module files
	@bench/tools/verify.sh
