# Two targets do all the set-up: `make demo` and `make test`. CONTRIBUTING.md tells the others.

GO      ?= go
INSTALL ?= 1
TAGS    ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
export CGO_ENABLED = 0

.PHONY: all otel build pkcs11 deb deb-test fresh-test demo test unit compat pkcs11-test fuzz-cover fuzz-bugs race bench flood soak fuzz generate lint deps clean go-version

all: build

# The Go version that go.mod asks for, told before the compiler says it less clearly.
go-version:
	@sh scripts/go-version "$(GO)"

build: go-version
	$(GO) build -trimpath -tags "$(TAGS)" -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/imprint ./cmd/imprint-device

# The key helper for PKCS #11 tokens: a module of its own, since it needs a C compiler and the server does not.
pkcs11: go-version
	cd helpers/imprint-pkcs11 && CGO_ENABLED=1 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o ../../bin/ .

# Debian packages in build/deb; deb-test uses them in a fresh Debian with a systemd (as root, with debootstrap, systemd-container and the network).
deb: build
	sh scripts/deb "$(GO)" "$(VERSION)"

deb-test: deb
	sh scripts/deb-test build/deb

# README's two commands on a fresh Debian (as root, with debootstrap and the network), in 20 to 40 minutes.
fresh-test: go-version
	sh scripts/fresh-test "$(GO)"

demo: build
	bin/imprint demo

# Everything that must hold: formatting, vet, generated files fresh, unit tests, and real clients against the real binary.
test: deps build lint unit fuzz-cover otel compat pkcs11-test

deps: go-version
	@INSTALL=$(INSTALL) GO="$(GO)" sh scripts/deps

lint:
	@test -z "$$(gofmt -l cmd device helpers internal test)" || { echo "not formatted:"; gofmt -l cmd device helpers internal test; exit 1; }
	$(GO) vet ./...
	cd test/compat && $(GO) vet ./...
	cd helpers/imprint-pkcs11 && CGO_ENABLED=1 $(GO) vet ./...
	@sh scripts/staticcheck "$(GO)"
	$(GO) run ./internal/tools/awsgen -check

# A package that hangs ends at last: Go's own ten minutes are too few for some of them on a slow machine that does other things, too.
LIMIT = -timeout 2h

# The store's own tests run on both engines; those of the rules that race, and of the sign-in pages with other identity providers behind
# them, run on PostgreSQL once more.
unit:
	$(GO) test $(LIMIT) ./...
	IMPRINT_TEST_DATABASE=postgres $(GO) test $(LIMIT) ./internal/registry ./internal/provision ./internal/bulk ./internal/iam ./internal/web/hosted

# What differs in a build with OpenTelemetry.
otel:
	$(GO) vet -tags otel ./internal/telemetry ./internal/server ./cmd/imprint
	$(GO) test $(LIMIT) -tags otel -count=1 -run Spans ./internal/telemetry ./internal/server

compat: build
	cd test/compat && $(GO) test -count=1 $(LIMIT) ./...

# The real helper and the real server with SoftHSM as the token.
pkcs11-test:
	cd helpers/imprint-pkcs11 && CGO_ENABLED=1 $(GO) test -count=1 $(LIMIT) ./...

# The race detector needs cgo, hence a C compiler.
race:
	CGO_ENABLED=1 $(GO) test -race $(LIMIT) ./...

# Prints the table and writes build/bench.json; the physical floor is measured in the same run.
bench: build
	@mkdir -p build
	cd test/compat && $(GO) run ./bench -out ../../build/bench.json -bin ../../bin

# What each flood does to the latency of provisioning, in five minutes; best on a machine that nothing else uses.
flood: build
	@mkdir -p build
	cd test/compat && $(GO) run ./bench -only floods -seconds 5 -rounds 3 -out ../../build/flood.json -bin ../../bin

soak: build fuzz-bugs
	IMPRINT_SOAK=10m $(GO) test -count=1 -v $(LIMIT) -run Soak ./internal/userpool ./internal/store
	cd test/compat && IMPRINT_SOAK=10m $(GO) test -count=1 -v -timeout 6h -run Soak . ./power ./oracle
	@sh scripts/fuzz "$(GO)" 10m

FUZZTIME ?= 20s
fuzz:
	@sh scripts/fuzz "$(GO)" "$(FUZZTIME)"

# The seeds alone must reach 80 % of each parser; a bug planted in it must be found.
fuzz-cover:
	$(GO) run ./internal/tools/fuzzcheck -cover

fuzz-bugs:
	$(GO) run ./internal/tools/fuzzcheck -bugs

generate:
	$(GO) run ./internal/tools/awsgen

clean:
	rm -rf bin build
