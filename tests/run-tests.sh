#!/bin/bash
# run-tests.sh [lint|unit|e2e]: runs the named level, or all, and prints the number of tests
# run per level at the end. Fails if any test fails, or if a level ran none.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
release=target/x86_64-unknown-linux-gnu/release
payload=target/payload
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
levels=()
repeated=0
status=0

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
    repeated=$((repeated + $(grep -c '^=== REPEATED' "$results/log")))
    if [ "$code" -ne 0 ] || [ "$failed" -ne 0 ] || [ "$passed" -eq 0 ]; then status=1; fi
    levels+=("$name $passed $failed $code")
}

lint() {
    step "format and lints"
    cargo fmt --all --check && cargo clippy --quiet --workspace --all-targets -- -D warnings || status=1
}

unit() {
    local crates=(vmm-api virtio vmm agent-api netlink syscalls network sandbox shim cli lab harness perf)
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

# in_lab PROGRAM TEST...: runs the named tests of a program in a lab of its own, where nothing
# else has left a trace, and adds their results to `counts`. What QEMU's nested virtualisation
# may break (see tests/lab/README.md) is repeated up to twice, for everybody to see: only those
# tests that did not pass. Huge pages for guest memory are denied here; `make bench` and `make
# run` have them.
in_lab() {
    local program=$1 try code passed left
    local deny='echo deny >/sys/kernel/mm/transparent_hugepage/shmem_enabled && exec "$@"'
    shift
    for try in 1 2 3; do
        echo "--- $program: $# tests"
        "$release/lab" run --payload "$payload" --memory 5120 --seed "$seed" \
            --timeout 900 --silence 280 -e CUDDY_AGENT=/opt/cuddy/tests/cuddy-agent \
            -- sh -c "$deny" sh "/opt/cuddy/tests/$program.test" --test-threads=1 --exact "$@" |
            tee "$results/$program.output"
        code=${PIPESTATUS[0]}
        # A program that ended well ran all its tests, however their lines look.
        if [ "$code" -eq 0 ]; then
            passed=("$@") left=()
        else
            mapfile -t passed < <(sed -n 's/^test \([^ ]*\) \.\.\. ok$/\1/p' "$results/$program.output")
            mapfile -t left < <(comm -23 <(printf '%s\n' "$@" | sort) \
                <(printf '%s\n' "${passed[@]}" | sort))
        fi
        echo "${#passed[@]} 0" >>"$results/counts"
        [ "${#left[@]}" -gt 0 ] || return 0
        set -- "${left[@]}"
        if [ "$try" -lt 3 ] && [ "$SECONDS" -lt "$deadline" ]; then
            echo "=== REPEATED: exit code $code from $program, to be repeated: $*"
        else
            break
        fi
    done
    echo "0 $#" >>"$results/counts"
    echo "=== FAILED: $program, exit code $code: $*"
    return 1
}

# tests_of FILE: the names of a program's tests, without those that are ignored. Programs run on
# this machine far enough to tell.
tests_of() {
    # shellcheck disable=SC2086 # no filter is no argument
    comm -23 <("$1" --list --format terse ${FILTER:-} | sed -n 's/: test$//p' | sort) \
        <("$1" --list --format terse --ignored ${FILTER:-} | sed -n 's/: test$//p' | sort)
}

# one_of_labs PROGRAM TEST...: as in_lab, but says all at its end, so that nothing is mixed with
# what another lab says.
one_of_labs() {
    local code=0 began=$SECONDS
    echo "--- $1 begins"
    in_lab "$@" >"$results/$1.log" 2>&1 || code=1
    { flock 9; cat "$results/$1.log"; echo "--- $1 took $((SECONDS - began)) s"; } 9>"$results/lock"
    return "$code"
}

# All test programs in the payload, or those of the files in TESTS, two labs at a time, since a
# lab waits for half of its time. After 50 minutes nothing is begun any more, so that what hangs
# is reported before whoever started this gives up.
in_labs() {
    local program code=0 tests ended deadline=$((SECONDS + 3000))
    local -A running=()
    for program in "$payload"/tests/*.test; do
        mapfile -t tests < <(tests_of "$program")
        program=$(basename "$program" .test)
        [ -z "${TESTS:-}" ] || [[ " $TESTS " == *" ${program#*-} "* ]] || continue
        [ "${#tests[@]}" -gt 0 ] || continue
        if [ "${#running[@]}" -ge 2 ]; then
            wait -n -p ended "${!running[@]}" || code=1
            unset "running[$ended]"
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "=== FAILED: $program: no time left"
            echo "0 ${#tests[@]}" >>"$results/counts"
            code=1
            continue
        fi
        one_of_labs "$program" "${tests[@]}" &
        running[$!]=$program
    done
    for ended in "${!running[@]}"; do
        wait "$ended" || code=1
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
[ "$repeated" -eq 0 ] || printf '\n%d times tests were repeated: look for REPEATED above\n' "$repeated"
printf '\n%d passed, %d failed\n' "$passed" "$failed"
exit "$status"
