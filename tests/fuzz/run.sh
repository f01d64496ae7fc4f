#!/bin/bash
# run.sh [SECONDS]: builds the fuzzers and lets each run for so long (20), from its corpus, two
# at a time. TARGETS names those that run; all by default. With KEEP=1 new inputs are added to the
# corpus, and the corpus is minimised. Says at the end how many targets passed and failed; what
# failed leaves its input in target/fuzz/found, and says it in base64.
#
# libFuzzer itself, without cargo-fuzz: what that adds is a sanitizer, which needs more than stable
# Rust, and minutes to install.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
seconds=${1:-20}
programs=target/x86_64-unknown-linux-gnu/debug
found=target/fuzz/found
read -r -a targets <<<"${TARGETS:-$(cd tests/fuzz/fuzz_targets && echo *.rs | sed 's/\.rs//g')}"
for target in "${targets[@]}"; do
    [ -e "tests/fuzz/fuzz_targets/$target.rs" ] ||
        { echo "run.sh: no target '$target': see tests/fuzz/fuzz_targets" >&2; exit 2; }
done

# shellcheck source=../packages.sh
. tests/packages.sh
RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/rustc cargo build --quiet "${packages[@]}" -p fuzz \
    --features fuzz/run --bin 'fuzz-*' || exit 1
mkdir -p "$found"

# one TARGET: from a copy of its corpus, so that the tree stays as it is. Its files of its own are
# beside the copy, and go with it.
one() {
    local target=$1 corpus=tests/fuzz/corpus/$1 work inputs code
    work=$(mktemp -d)
    inputs=$work/inputs
    mkdir "$inputs"
    cp -r "$corpus/." "$inputs" 2>/dev/null
    # As the product, whose programs Rust starts: a peer that is gone is an error, and no signal.
    (
        trap '' PIPE
        TMPDIR=$work exec "$programs/fuzz-$target" "$inputs" -max_total_time="$seconds" \
            -timeout=60 -rss_limit_mb=2048 -max_len=4096 -reload=0 -verbosity=0 \
            -print_final_stats=1 -artifact_prefix="$found/$target-" >"$found/$target.log" 2>&1
    )
    code=$?
    if [ "$code" -eq 0 ] && [ "${KEEP:-0}" != 0 ]; then
        mkdir -p "$corpus"
        TMPDIR=$work "$programs/fuzz-$target" -merge=1 -max_len=4096 "$corpus" "$inputs" \
            >>"$found/$target.log" 2>&1
    fi
    rm -rf "$work"
    if [ "$code" -eq 0 ]; then
        local runs
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$found/$target.log")
        echo "fuzz $target ... ok: $runs inputs"
    else
        cat "$found/$target.log"
        local input
        input=$(sed -n 's/.*Test unit written to //p' "$found/$target.log" | tail -n 1)
        [ -z "$input" ] || echo "input $input in base64: $(base64 -w 0 "$input")"
        echo "fuzz $target ... FAILED, exit code $code"
    fi
    return "$code"
}

passed=0 failed=0 running=0
count() { if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; }
for target in "${targets[@]}"; do
    if [ "$running" -ge 2 ]; then count wait -n; running=$((running - 1)); fi
    one "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do count wait -n; running=$((running - 1)); done
echo "test result: $passed passed; $failed failed; fuzzing"
[ "$failed" -eq 0 ]
