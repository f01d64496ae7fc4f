#!/bin/bash
# run-tests.sh [lint|unit|fuzz|e2e]: runs the named level, or all, and prints the number of tests
# run per level at the end. Fails if any test fails, or if a level ran none.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
release=target/x86_64-unknown-linux-gnu/release
payload=target/payload
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
levels=()
status=0
# shellcheck source=packages.sh
. tests/packages.sh

step() { echo "=== $*" >&2; }

# level NAME COMMAND...: runs libtest binaries through COMMAND and adds up their results: those
# that COMMAND writes to `counts`, else those in its output.
level() {
    local name=$1 code passed failed
    shift
    step "$name"
    rm -f "$results/counts"
    "$@" 2>&1 | tee "$results/log"
    code=${PIPESTATUS[0]}
    [ -e "$results/counts" ] ||
        sed -n 's/^test result:.* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1 \2/p' \
            "$results/log" >"$results/counts"
    read -r passed failed < <(awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }' \
        "$results/counts")
    grep -E '^=== (REPEATED|FAILED)' "$results/log" >>"$results/noted"
    if [ "$code" -ne 0 ] || [ "$failed" -ne 0 ] || [ "$passed" -eq 0 ]; then status=1; fi
    levels+=("$name $passed $failed $code")
}

lint() {
    step "format and lints"
    cargo fmt --all --check && cargo clippy --quiet --workspace --all-targets -- -D warnings || status=1
}

unit() {
    tests/debian-packages.sh erofs erofs-utils &&
        tests/debian-packages.sh cni containernetworking-plugins iptables nftables || { status=1; return; }
    level "unit and component" cargo test --quiet --no-fail-fast "${packages[@]}"
}

# Each fuzzer for 20 seconds, from its corpus.
fuzz() {
    level "fuzzers" tests/fuzz/run.sh
}

# Puts the test programs that need a lab into the payload: PACKAGE-FILE.test.
gather_tests() {
    local name binary
    cargo test --quiet "${packages[@]}" -p e2e --test '*' --no-run || return 1
    cargo test --quiet "${packages[@]}" -p e2e --test '*' --no-run --message-format json |
        tests/test-programs.py e2e agent >"$results/programs" || return 1
    while read -r name binary; do
        strip -o "$payload/tests/$name.test" "$binary" || return 1
    done <"$results/programs"
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

e2e() {
    step "building the product for the lab"
    make --no-print-directory payload && gather_tests ||
        { status=1; return; }
    strip -o "$payload/tests/cuddy-agent" "$(dirname "$release")/debug/cuddy-agent"
    mkdir "$payload/images"
    cp "$(tests/lab/images.sh | tail -n 1)"/{busybox,pause}.tar "$payload/images/"
    tests/lab/containerds.sh "$payload/containerd" || { status=1; return; }
    cp -r "$(tests/conformance/apparmor.sh | tail -n 1)" "$payload/apparmor"
    images
    local seed
    seed=$(tests/lab/seed.sh | tail -n 1)
    level "end to end, in the lab" "$release/lab-suite" --payload "$payload" --seed "$seed" \
        --records target/repeats.json --counts "$results/counts" \
        --files "${TESTS:-}" --filter "${FILTER:-}"
    [ -n "${TESTS:-}${FILTER:-}" ] || level "make run without the lab" direct_run
}

# `make run` as on a machine whose own KVM runs stock guests: inside a lab host, where it does.
direct_run() {
    mkdir "$results/share"
    cp tests/run-demo.sh "$(tests/lab/images.sh | tail -n 1)/debian.tar" "$results/share/"
    local try
    for try in 1 2; do
        "$release/lab" run --payload "$payload" --memory 5120 --share "$results/share" \
            --timeout 600 --silence 280 -- /share/run-demo.sh /opt/cuddy /share/debian.tar 2>&1 |
            tee "$results/direct"
        if [ "${PIPESTATUS[0]}" -eq 0 ] && grep -q 'runs stock guest kernels' "$results/direct" &&
            grep -q 'exit code (42 was asked for) *42' "$results/direct"; then
            echo "1 0" >"$results/counts"
            return 0
        fi
        [ "$try" -eq 2 ] || echo "=== REPEATED: make run without the lab"
    done
    echo "0 1" >"$results/counts"
    return 1
}

# What the VMM links is asked for by every level.
vmm/packages || exit

case ${1:-all} in
    lint | unit | fuzz | e2e) "$1" ;;
    all) lint; unit; fuzz; e2e ;;
    *) echo "run-tests.sh: unknown level '$1': say lint, unit, fuzz or e2e" >&2; exit 2 ;;
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
[ ! -s "$results/noted" ] || { echo && cat "$results/noted"; }
printf '\n%d passed, %d failed\n' "$passed" "$failed"
exit "$status"
