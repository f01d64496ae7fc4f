# Entry points. Every target only calls the thing that does the work; see README.md.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help kernel rootfs binaries images lab payload run test unit e2e lint bench fuzz \
	bench-compare lab-run lab-shell clean

export CARGO_TERM_COLOR ?= auto
release := target/x86_64-unknown-linux-gnu/release
payload := target/payload
# One choice of packages for all builds: with another, cargo builds what they share once more.
products := -p agent -p shim -p vmm -p cli -p cri -p companion -p lab
lab_run = $(release)/lab run --payload $(payload) --seed "$$(tests/lab/seed.sh | tail -n 1)" \
	$(if $(SHARE),--share '$(SHARE)')

help: ## Show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

kernel: ## Build the guest kernel (cached)
	@guest-kernel/build

rootfs: binaries ## Build the guest root filesystem (cached)
	@rootfs/build

binaries: ## Build the agent and the host binaries
	@vmm/packages
	@tests/progress.sh "building agent, shim, VMM, daemon and command line" "7 minutes" \
		cargo build --quiet --release $(products)

images: ## Build the OCI test images from Debian packages (cached)
	@tests/progress.sh "test images from Debian packages" "1 minute" tests/lab/images.sh

lab: binaries ## Build the lab's image, and containerd's state with the test images (cached)
	@tests/progress.sh "the lab's image" "1 minute" tests/lab/build.sh
	@tests/progress.sh "the lab's test images, imported" "4 minutes" tests/lab/seed.sh

payload: kernel rootfs binaries lab ## Gather the product for the lab
	@tests/payload.sh $(payload)

run: kernel rootfs binaries ## Run a container image in a microVM and show it
	@tests/payload.sh $(payload)
	@tests/run-demo.sh $(payload)

test: ## Everything that can be proved on this machine
	@tests/run-tests.sh

unit: ## Unit, component and house-rule tests only
	@tests/run-tests.sh unit

e2e: ## Tests in the lab only; TESTS='run exec' picks files, FILTER=name picks tests
	@tests/run-tests.sh e2e

fuzz: SECONDS ?= 300
fuzz: ## Fuzzers, each for SECONDS=300; TARGETS='fs blk' picks, KEEP=1 keeps what they learn
	@tests/fuzz/run.sh $(SECONDS)

lint: ## Formatting and lints
	@tests/run-tests.sh lint

bench: payload ## Numbers beside peers, as a table and as JSON
	@tests/progress.sh "building the benchmarks" "2 minutes" cargo build --quiet --release $(products) -p perf
	@cp $(release)/perf $(payload)/bin/
	@tests/run-bench.sh $(payload)

bench-compare: NOW ?= target/bench
bench-compare: ## Counts in NOW=target/bench beside those in BASE=; fails at 3 % more of one of ours
	@test -n "$(BASE)" || { echo "cuddy: bench-compare needs BASE=file-or-directory" >&2; exit 2; }
	@cargo build --quiet --release $(products) -p perf
	@$(release)/perf compare "$(BASE)" "$(NOW)"

# make itself exits with 2 whatever the command's code was, and says `Error CODE`.
lab-run: payload ## Run CMD='…' in a lab host, with SHARE=dir at /share
	@$(lab_run) -- sh -c 'lab-containerd; $(subst ','\'',$(value CMD))'

lab-shell: payload ## Open a shell in a lab host, with SHARE=dir at /share
	@$(lab_run) --tty -- bash

clean: ## Remove what was built here; the cache in ~/.cache/cuddy stays
	@cargo clean --quiet
