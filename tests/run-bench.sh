#!/bin/bash
# run-bench.sh PAYLOAD: runs the benchmarks in the lab and keeps tables, JSON and pictures in
# target/bench. All but the density of pods run with deterministic instruction counting.
# PODS is the number of pods for that (50 take about 15 minutes; 0 leaves it out).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
payload=$(realpath "$1")
out=target/bench
seed=$(tests/lab/seed.sh | tail -n 1)
counted=(--icount --smp 1 --memory 3072)
clock='10^9 instructions (QEMU icount)'
result=0
mkdir -p "$out"
rm -f "$out"/{bench,devices,timeline,density}.*

# measure LIMIT FILE LAB-OPTION... -- COMMAND...: QEMU's deterministic mode hangs once in a while,
# so a run has a limit and another try. FILE tells that there is a result.
measure() {
    local limit=$1 file=$2 options=() try status
    shift 2
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    for try in 1 2 3; do
        status=0
        target/x86_64-unknown-linux-gnu/release/lab run "${options[@]}" --payload "$payload" \
            --seed "$seed" --share "$out" --timeout "$limit" "$@" || status=$?
        [ "$status" -ge 124 ] || break
        echo "cuddy: no result within the limit (try $try)" >&2
    done
    [ "$status" -eq 0 ] && [ -s "$out/$file" ] || result=1
}

echo "cuddy: measuring in the lab, one instruction per nanosecond (about 2 minutes)" >&2
measure 400 bench.json "${counted[@]}" -- sh -c 'lab-containerd &&
    exec perf --runs 3 --json /share/bench.json --clock "$0"' "$clock"
[ ! -s "$out/bench.json" ] || cat "$out/bench.json"

echo "cuddy: disk, share and network of a guest (about 10 minutes)" >&2
measure 1200 devices.json "${counted[@]}" -- perf devices --json /share/devices.json --clock "$clock"

echo "cuddy: where the time of a pod's start goes (about 3 minutes)" >&2
measure 600 timeline.svg "${counted[@]}" -- perf timeline --pods 3 --out /share --clock "$clock"

if [ "${PODS:-50}" -gt 0 ]; then
    echo "cuddy: ${PODS:-50} pods on a host of 4 GiB (about 15 minutes)" >&2
    measure 2400 density.json --smp 2 --memory 4096 -- perf density --pods "${PODS:-50}" --out /share
fi
exit "$result"
