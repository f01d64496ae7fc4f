#!/bin/bash
# run-bench.sh PAYLOAD: runs the benchmarks in the lab with deterministic instruction counting
# and keeps the JSON beside the table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
payload=$(realpath "$1")
out=target/bench
mkdir -p "$out"
echo "cuddy: measuring in the lab, one instruction per nanosecond (about 10 minutes)" >&2
status=0
target/x86_64-unknown-linux-gnu/release/lab run --icount --smp 1 --payload "$payload" \
    --seed "$(tests/lab/seed.sh | tail -n 1)" --share "$out" --timeout 3000 -- sh -c '
        lab-containerd &&
        perf --runs 3 --json /share/bench.json --clock "10^9 instructions (QEMU icount)"' || status=$?
[ ! -s "$out/bench.json" ] || cat "$out/bench.json"
exit "$status"
