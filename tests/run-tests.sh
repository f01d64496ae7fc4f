#!/bin/bash
# run-tests.sh [lint|unit|e2e]: runs the named level, or all, and prints the number of tests
# run per level at the end. Fails if any test fails, or if a level ran none.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
release=target/x86_64-unknown-linux-gnu/release
payload=target/payload
log=$(mktemp)
trap 'rm -f "$log"' EXIT
levels=()
repeated=0
status=0

step() { echo "=== $*" >&2; }

# level NAME COMMAND...: runs libtest binaries through COMMAND and adds up their results.
level() {
    local name=$1 code passed failed
    shift
    step "$name"
    "$@" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    # A program that was repeated counts by its last try.
    read -r passed failed < <(awk '
        /^--- / { passed += p; failed += f; p = f = 0 }
        /^test result:/ { p += $4; f += $6 }
        /^=== REPEATED/ { p = f = 0 }
        END { print passed + p, failed + f }' "$log")
    repeated=$((repeated + $(grep -c '^=== REPEATED' "$log")))
    if [ "$code" -ne 0 ] || [ "$failed" -ne 0 ] || [ "$passed" -eq 0 ]; then status=1; fi
    levels+=("$name $passed $failed $code")
}

lint() {
    step "format and lints"
    cargo fmt --all --check && cargo clippy --quiet --workspace --all-targets -- -D warnings || status=1
}

unit() {
    local crates=(vmm-api virtio vmm agent-api sandbox shim cli lab harness perf)
    level "unit and component" cargo test --quiet --no-fail-fast "${crates[@]/#/-p}"
    level "unit, agent" cargo test --quiet -p agent --bins
    level "house rules" cargo test --quiet -p repo
}

# gather_tests PACKAGE: puts a package's integration test programs into the payload, named
# PACKAGE-FILE.test.
gather_tests() {
    cargo test --quiet -p "$1" --tests --no-run || return 1
    cargo test -p "$1" --tests --no-run 2>&1 |
        sed -n 's|.*tests/.*(\(.*/deps/\([a-z_]*\)-[0-9a-f]*\))$|\2 \1|p' |
        while read -r name binary; do
            strip -o "$payload/tests/$1-$name.test" "$binary" || exit 1
        done
}

# Checks of what was built, each one a line of output and an exit code.
images() {
    step "kernel and root file system"
    local check passed=0 failed=0
    for check in guest-kernel/check rootfs/check; do
        if $check; then passed=$((passed + 1)); else failed=$((failed + 1)) status=1; fi
    done
    levels+=("kernel and root file system $passed $failed 0")
}

# in_lab PROGRAM: runs one test program in a lab of its own, where nothing else has left a
# trace. A guest or the lab breaks under QEMU's nested virtualisation once in a while, see
# tests/lab/README.md: a program that fails is repeated, once and for everybody to see. Huge
# pages for guest memory are denied here, in case they matter; `make bench` and `make run` have them.
in_lab() {
    local try code
    local deny='echo deny >/sys/kernel/mm/transparent_hugepage/shmem_enabled && exec "$@"'
    for try in 1 2; do
        echo "--- $1"
        # shellcheck disable=SC2086 # no filter is no argument
        "$release/lab" run --payload "$payload" --memory 5120 --seed "$seed" --timeout 480 \
            -e CUDDY_AGENT=/opt/cuddy/tests/cuddy-agent -- sh -c "$deny" sh \
            "/opt/cuddy/tests/$1.test" --test-threads=1 ${FILTER:-}
        code=$?
        [ "$code" -ne 0 ] && [ "$try" -eq 1 ] || return "$code"
        echo "=== REPEATED: $1 ended with exit code $code"
    done
}

# All test programs in the payload, or those of the files in TESTS.
in_labs() {
    local program code=0
    for program in "$payload"/tests/*.test; do
        program=$(basename "$program" .test)
        [ -z "${TESTS:-}" ] || [[ " $TESTS " == *" ${program#*-} "* ]] || continue
        in_lab "$program" || code=$?
    done
    return "$code"
}

e2e() {
    step "building the product for the lab"
    make --no-print-directory payload && gather_tests e2e && gather_tests agent ||
        { status=1; return; }
    strip -o "$payload/tests/cuddy-agent" "$(dirname "$release")/debug/cuddy-agent"
    mkdir "$payload/images" "$payload/containerd"
    cp "$(tests/lab/images.sh | tail -n 1)"/{busybox,pause}.tar "$payload/images/"
    cp -r "$(tests/lab/containerds.sh | tail -n 1)"/* "$payload/containerd/"
    images
    local seed
    seed=$(tests/lab/seed.sh | tail -n 1)
    level "end to end, in the lab" in_labs
}

case ${1:-all} in
    lint | unit | e2e) "$1" ;;
    all) lint; unit; e2e ;;
    *) echo "run-tests.sh: unknown level '$1': say lint, unit or e2e" >&2; exit 2 ;;
esac

passed=0 failed=0
printf '\n%-28s %8s %8s\n' level passed failed
for line in "${levels[@]}"; do
    read -r -a field <<<"$line"
    count=${#field[@]}
    p=${field[count - 3]} f=${field[count - 2]} code=${field[count - 1]}
    name=${field[*]:0:count-3}
    printf '%-28s %8s %8s%s\n' "$name" "$p" "$f" "$([ "$code" -eq 0 ] || echo "  (exit $code)")"
    passed=$((passed + p)) failed=$((failed + f))
done
[ "$repeated" -eq 0 ] || printf '\n%d test programs were repeated: look for REPEATED above\n' "$repeated"
printf '\n%d passed, %d failed\n' "$passed" "$failed"
exit "$status"
