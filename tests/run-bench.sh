#!/bin/bash
# run-bench.sh PAYLOAD: runs the benchmarks in the lab and keeps tables, JSON and pictures in
# target/bench. Start, timeline, overhead, node and commands count instructions, which repeats
# whatever else the machine does; the others take the wall clock, so leave the machine alone
# meanwhile. PARTS names those to run, PODS the number of pods for the density.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
all='start timeline overhead node commands pull crowd lists disk share network density'
parts=
for name in ${PARTS:-$all}; do
    if [[ " $all " != *" $name "* ]]; then
        echo "cuddy: no part $name in PARTS; there are: $all" >&2
        exit 2
    fi
    parts+=" $name"
done
payload=$(realpath "$1")
out=target/bench
seed=$(tests/lab/seed.sh | tail -n 1)
counted=(--icount --smp 1 --memory 3072 --seed "$seed")
result=0
mkdir -p "$out"

# What the product is measured beside, and what is pulled.
mkdir -p "$payload/images"
cp "$(tests/lab/images.sh | tail -n 1)"/{busybox,pause}.tar "$payload/images/"
tests/lab/containerds.sh "$payload/containerd"
tests/lab/peers.sh "$payload/peers"
cp "$(tests/lab/layers.sh | tail -n 1)" "$payload/"

# part NAME LIMIT LAB-OPTION... -- ARGUMENT...: runs `perf NAME` within LIMIT seconds. Three tries for
# a lab that dies (125), which says nothing of what is measured, and for a part that counts if it
# passes its limit (124), as QEMU's deterministic mode hangs once in a while.
part() {
    local name=$1 limit=$2 options=() clock='wall clock' again=125 try status
    [[ "$parts " == *" $name "* ]] || return 0
    shift 2
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    if [[ " ${options[*]} " == *" --icount "* ]]; then
        clock='10^9 instructions (QEMU icount)'
        again=124
    fi
    echo "cuddy: measuring: $name" >&2
    rm -f "$out/$name".*
    for try in 1 2 3; do
        status=0
        target/x86_64-unknown-linux-gnu/release/lab run "${options[@]}" --payload "$payload" \
            --share "$out" --timeout "$limit" \
            -- perf "$name" --out /share --clock "$clock" "$@" || status=$?
        if [ "$status" -lt "$again" ] || [ "$status" -gt 125 ]; then break; fi
        echo "cuddy: $name: the lab ended with $status (try $try of 3)" >&2
    done
    if [ "$status" -ne 0 ]; then
        echo "cuddy: $name: exit code $status" >&2
        result=1
    fi
}

part start 400 "${counted[@]}" -- --runs 3
part timeline 600 "${counted[@]}" -- --pods 3
part overhead 400 "${counted[@]}" --
# One CPU starts nothing at once: see crowd.
part node 1500 "${counted[@]}" -- --pods 9 --together 0
part commands 600 "${counted[@]}" -- --runs 5
# Without the seed, whose images lie in memory: all of what is pulled is on the disk.
part pull 2400 --smp 2 --memory 4096 --disk 16384 --env TMPDIR=/disk \
    --env REGISTRY_STORE=/disk/registry -- --image /opt/cuddy/layers.tar --rounds 3
part crowd 3000 --smp 2 --memory 4096 --seed "$seed" -- --pods 5 --together 20 --crowd 50
part lists 3000 --smp 2 --memory 6144 --seed "$seed" -- --pods 250
# Counting instructions gave no result in three tries: the emulation hung.
for name in disk share network; do
    part "$name" 1500 --smp 2 --memory 3072 --seed "$seed" -- --rounds 3
done
part density 2400 --smp 2 --memory 4096 --seed "$seed" -- --pods "${PODS:-50}"
exit "$result"
