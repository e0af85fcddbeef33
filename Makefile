# `make` prints what there is. Recipes look for what they need and install what is missing; how, is in tools/*.sh.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO   ?= go
# Without a readable history (a tarball, a checkout of somebody else's) there is no revision to stamp.
ifeq ($(shell git rev-parse -q --verify HEAD 2>/dev/null),)
export GOFLAGS := $(GOFLAGS) -buildvcs=false
endif
LINT := $(GO) tool -modfile=tools/lint/go.mod golangci-lint

# Where PostgreSQL's binaries are, put into PATH for what starts a private cluster.
with_postgres = pg="$$(tools/ensure-postgres.sh)"; export PATH="$$pg:$$PATH"
with_node     = node="$$(tools/ensure-node.sh)"; export PATH="$$node:$$PATH"
# The TypeScript client, installed and built: the examples depend on its folder.
with_client   = $(with_node); tools/npm-ci.sh clients/ts; npm --prefix clients/ts run --silent build
# Runs the command that follows with DATABASE_URL naming an empty database of a server that lives as long as the command.
scratch       = $(with_postgres); $(GO) run ./tools/scratchdb

.PHONY: help
help: ## print this help
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Use it

.PHONY: build run demo web-chat
build: ## build bin/obscura
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/obscura ./cmd/obscura

run: build ## run a relay on 127.0.0.1:3000, its data in ./data (OBSCURA_DATA_DIR, OBSCURA_LISTEN, OBSCURA_DATABASE_URL change that)
	@if [ -z "$${OBSCURA_DATABASE_URL:-$${DATABASE_URL:-}}" ]; then $(with_postgres); fi; \
	export OBSCURA_DATA_DIR="$${OBSCURA_DATA_DIR:-./data}"; \
	exec bin/obscura serve

demo: build ## let two Signal clients talk through a relay of their own: examples/signal-chat
	@$(with_client); $(with_postgres); tools/npm-ci.sh examples/signal-chat; cd examples/signal-chat && exec ../../tools/with-relay.sh npm start

web-chat: ## serve examples/web-chat on localhost:5173, for a relay that allows it (OBSCURA_CORS_ORIGINS=http://localhost:5173 make run)
	@$(with_client); tools/npm-ci.sh examples/web-chat; cd examples/web-chat && exec npm run dev -- --strictPort

##@ Change it

.PHONY: generate generate-api generate-db generate-proto generate-ts
generate: ## delete gen/ and clients/ts/src/gen and write them again from openapi.yaml, obscura.proto, schema/ and queries/
	@for tool in oapi-codegen sqlc protoc-gen-go; do $(GO) tool -n $$tool >/dev/null; done
	@mkdir -p gen && find gen -mindepth 1 -maxdepth 1 ! -name api ! -name client ! -name db ! -name obscurapb -exec rm -rf {} +
	@$(MAKE) generate-api generate-db generate-proto generate-ts

generate-api:
	@rm -rf gen/api && mkdir -p gen/api && $(GO) tool oapi-codegen -config tools/oapi-server.yaml openapi.yaml
	@rm -rf gen/client && mkdir -p gen/client && $(GO) tool oapi-codegen -config tools/oapi-client.yaml openapi.yaml

generate-db:
	@rm -rf gen/db && $(GO) tool sqlc generate

generate-proto:
	@rm -rf gen/obscurapb && mkdir -p gen/obscurapb && tools/buf.sh generate

.PHONY: page
# Swagger UI at the version of tools/page/package.json; no install script is run.
swagger_ui = $(with_node); tools/npm-ci.sh tools/page; $(GO) run ./tools/page
page: ## take what the API page keeps of Swagger UI from npm into internal/page
	@$(swagger_ui) tools/page/node_modules/swagger-ui-dist
generate-ts:
	@$(with_node); tools/npm-ci.sh clients/ts; npm --prefix clients/ts run --silent generate

.PHONY: fmt tools
fmt: ## format the Go code
	@$(LINT) fmt

tools: ## build or install every tool ahead of time (the other targets do it when they need one)
	@tools/ensure-cc.sh
	@tools/ensure-postgres.sh >/dev/null
	@tools/ensure-pgbouncer.sh >/dev/null
	@tools/ensure-node.sh >/dev/null
	@for tool in oapi-codegen sqlc goose protoc-gen-go; do $(GO) tool -n $$tool >/dev/null; done
	@tools/buf.sh --version >/dev/null
	@tools/redocly.sh --version >/dev/null
	@$(LINT) version
	@$(GO) tool -modfile=tools/oasdiff/go.mod oasdiff --version >/dev/null
	@tools/ensure-chromium.sh >/dev/null

##@ Check it

.PHONY: test test-go test-signal
test: test-go test-ts test-signal ## every test: the relay's, with the race detector, the TypeScript client's, and the one with real Signal clients

# One package at a time, since most start servers of their own. argon2id itself is left out of the race detector, which makes
# it ten times as slow and every log-in with it; our callers of it are not.
test-go: ## the relay's tests, with the race detector
	@tools/ensure-cc.sh
	@$(with_postgres); PGBOUNCER="$$(tools/ensure-pgbouncer.sh)"; export PGBOUNCER; CGO_ENABLED=1 $(GO) test -race -p 1 -gcflags='golang.org/x/crypto/...=-race=false' -timeout 20m ./...

.PHONY: soak
DURATION ?= 10m
soak: ## break things at random for DURATION (10m) and print the ledger of every round; SEED repeats the choices of an earlier one
	@$(with_postgres); $(GO) test ./internal/faults -run TestRandomFaults -v -timeout 0 -soak $(DURATION) $(if $(SEED),-seed $(SEED))

test-signal: build ## examples/signal-chat as a test: real Signal clients against a relay started for them, every answer checked
	@$(GO) build -o bin/front ./tools/front
	@$(with_client); $(with_postgres); tools/npm-ci.sh examples/signal-chat; cd examples/signal-chat && exec ../../tools/with-relay.sh ../../tools/checked.sh npm test

.PHONY: test-npm
test-npm: ## that npm installs everything that the lock files name, however it is configured
	@$(with_node); tools/test-npm.sh

.PHONY: client-ts test-ts test-web check-client-ts
client-ts: ## install and build clients/ts
	@$(with_client)

test-ts: build ## clients/ts against a relay started for it, every answer checked, with broken connections and a relay that is killed
	@$(GO) build -o bin/front ./tools/front
	@$(with_client); $(with_postgres); cd clients/ts && exec ../../tools/with-relay.sh ../../tools/checked.sh npm test

# The page is of another origin than the relay, which has to allow it.
test-web: build ## examples/web-chat in Chromium: two tabs against a relay started for them; SCREENSHOTS=folder keeps pictures
	@$(GO) build -o bin/front ./tools/front
	@$(with_client); $(with_postgres); tools/npm-ci.sh examples/web-chat; CHROMIUM="$$(tools/ensure-chromium.sh)"; export CHROMIUM; \
	WEB_ORIGIN="http://127.0.0.1:$$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')"; \
	export WEB_ORIGIN OBSCURA_CORS_ORIGINS="$$WEB_ORIGIN" SCREENSHOTS="$(abspath $(SCREENSHOTS))"; \
	cd examples/web-chat && exec ../../tools/with-relay.sh ../../tools/checked.sh npm test

check-client-ts: build ## clients/ts as others get it: packed, installed into an empty project, compiled against and run
	@$(with_client); $(with_postgres); cd clients/ts && exec ../../tools/with-relay.sh npm run test:consumer

.PHONY: check-page test-page
check-page: ## fail unless what the API page keeps of Swagger UI is what npm gives
	@$(swagger_ui) -check tools/page/node_modules/swagger-ui-dist

test-page: build ## the API page in a real browser, against a relay started for it, every answer checked (SCREENSHOT=FILE keeps a picture)
	@$(GO) build -o bin/front ./tools/front
	@$(with_node); $(with_postgres); CHROMIUM="$$(tools/ensure-chromium.sh)"; export CHROMIUM SCREENSHOT="$(abspath $(SCREENSHOT))"; \
	tools/npm-ci.sh tools/page; cd tools/page && exec ../../tools/with-relay.sh ../../tools/checked.sh npm test

.PHONY: conform test-conform
conform: build ## hold the relay against the contract from outside: obscura conform
	@$(with_node); $(with_postgres); exec tools/with-relay.sh bash -euo pipefail -c 'bin/obscura conform "$$RELAY_URL"'

test-conform: ## that obscura conform finds a hundred broken promises, each by its own checks and by no others
	@$(with_postgres); $(GO) test ./internal/conform -run TestEachFault -whole -timeout 40m

.PHONY: lint lint-format lint-vet lint-go lint-proto lint-openapi
lint: lint-format lint-vet lint-go lint-proto lint-openapi ## formatting, go vet, golangci-lint, and the two files of the contract

lint-format:
	@unformatted="$$(find . \( -name node_modules -o -name .tools -o -name .git \) -prune -o -name '*.go' -print0 | xargs -0r gofmt -l)"; \
	if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi

lint-vet:
	@$(GO) vet ./...

lint-go:
	@$(LINT) run

lint-proto:
	@tools/buf.sh lint

lint-openapi:
	@tools/lint-openapi.sh

.PHONY: contract test-contract
contract: ## what would break a client of the last release or, without one, of main (BASE=a-commit: of that one); tools/contract says more
	@$(GO) run ./tools/contract -base "$(BASE)"

test-contract: ## that make contract finds breaks, lets those pass that are meant, and notices a reason for nothing
	@tools/contract/test.sh

.PHONY: check-generated vet-sql migrations
check-generated: generate ## generate, and fail unless everything is then exactly as committed
	@stale="$$(git status --porcelain --untracked-files=all -- gen clients/ts/src/gen)"; \
	if [ -n "$$stale" ]; then echo "generated code differs from what is committed, run make generate and commit:"; echo "$$stale"; git --no-pager diff --stat -- gen clients/ts/src/gen; exit 1; fi

vet-sql: ## prepare every query against a migrated scratch database
	@$(scratch) bash -euo pipefail -c '$(GO) tool goose -dir schema postgres "$$DATABASE_URL" up && $(GO) tool sqlc vet'

migrations: ## the stock goose command line: up, status, down to nothing, up again
	@$(scratch) bash -euo pipefail -c 'for step in up status "down-to 0" up; do $(GO) tool goose -dir schema postgres "$$DATABASE_URL" $$step; done'

.PHONY: check-client-go
check-client-go: build ## the program of clients/go/README.md, in a module outside the repository, against a relay started for it
	@$(with_node); $(with_postgres); tools/with-relay.sh tools/check-client-go.sh

.PHONY: check-docs
check-docs: ## links between the documents, and the commands they show, run against a relay started as the README says
	@$(with_postgres); $(GO) run ./tools/checkdocs
