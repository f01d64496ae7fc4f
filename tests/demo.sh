#!/bin/bash
# demo.sh: runs the Debian test image in a microVM on a host where containerd serves and has
# the image, and shows what is where and how long it took.
set -euo pipefail
id=demo
image=cuddy.test/debian:latest
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

row() { printf '  %-34s %s\n' "$1" "$2"; }
step() { printf 'cuddy: %s\n' "$*" >&2; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }

# pss_kib PID [guest]: proportional set size, of guest memory only or of all but guest memory.
pss_kib() {
    awk -v guest="${2:-}" '
        $1 !~ /:$/ { memory = ($0 ~ /cuddy-guest/) }
        $1 == "Pss:" && memory == (guest == "guest") { sum += $2 }
        END { print sum " KiB" }' "/proc/$1/smaps"
}

step "running $image in a microVM"
requested=$(now_ms)
set +e
# shellcheck disable=SC2016 # for the container's shell
ctr run --rm --runtime io.containerd.cuddy.v2 "$image" "$id" sh -c '
    cat /etc/os-release
    uname -a
    echo "process 1 here: $(cat /proc/1/comm), processes visible: $(ls -d /proc/[0-9]* | wc -l)"
    exit 42' | { IFS= read -r line; now_ms >"$work/first"; printf '%s\n' "$line"; cat; } >"$work/output"
code=${PIPESTATUS[0]}
set -e

step "starting a second one that sleeps, to measure it from outside"
asked=$(now_ms)
ctr run -d --runtime io.containerd.cuddy.v2 "$image" "$id-idle" sleep 600
state=/run/cuddy/default/$id-idle
vmm=$(cat "$state/vmm.pid")
shim=$(awk '$1 == "PPid:" { print $2 }' "/proc/$vmm/status")

echo
row "host kernel" "$(uname -r)"
row "guest kernel" "$(grep '^Linux ' "$work/output" | cut -d' ' -f3)"
echo "  the container's own output:"
sed 's/^/    | /' "$work/output"
row "exit code (42 was asked for)" "$code"
row "request to agent ready" "$(($(date -r "$state/ready-us" +%s%3N) - asked)) ms"
row "request to first output" "$(($(cat "$work/first") - requested)) ms"
row "shim, PSS" "$(pss_kib "$shim")"
row "VMM without guest memory, PSS" "$(pss_kib "$vmm")"
row "guest memory touched" "$(pss_kib "$vmm" guest)"
echo

step "removing it"
ctr task delete --force "$id-idle" >/dev/null
ctr containers rm "$id-idle"
[ "$code" -eq 42 ] || { echo "cuddy: the container ended with $code instead of 42" >&2; exit 1; }
