#!/bin/bash
# demo.sh ARCHIVE: on a host whose KVM runs stock guests, serves the image from a registry, runs a
# container of it with `cuddy run`, and shows what is where and how long it took. The registry and
# the daemon are its own, and go with it.
set -euo pipefail
archive=$(realpath "$1")
image=cuddy.test/$(basename "$archive" .tar):latest
work=$(mktemp -d /var/tmp/cuddy-demo.XXXXXX)
# What the daemon forgets at a restart of the node lies where that is forgotten, too.
state=$(mktemp -d /run/cuddy-demo.XXXXXX)
export CUDDY_ADDRESS=$state/cri.sock REGISTRY_STORE=$work/registry REGISTRY_PORT=5123
daemon=

leave() {
    cuddy rm --force demo-idle >/dev/null 2>&1 || true
    [ -z "$daemon" ] || kill "$daemon" || true
    [ ! -e "$REGISTRY_STORE/pid" ] || kill "$(cat "$REGISTRY_STORE/pid")" || true
    wait
    rm -rf "$work" "$state"
}
trap leave EXIT

row() { printf '  %-34s %s\n' "$1" "$2"; }
step() { printf 'cuddy: %s\n' "$*" >&2; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }

# pss_kib PID [guest]: proportional set size, of guest memory only or of all but guest memory. The
# file of a template, mounted alone, has no name but "/".
pss_kib() {
    awk -v guest="${2:-}" '
        $1 !~ /:$/ { memory = ($0 ~ /cuddy-guest| \/$/) }
        $1 == "Pss:" && memory == (guest == "guest") { sum += $2 }
        END { print sum " KiB" }' "/proc/$1/smaps"
}

step "serving the image from a registry on this host, and starting cuddyd"
lab-registry "$archive"
mkdir -p "$work/certs.d/_default" "$work/net.d"
printf 'server = "http://127.0.0.1:%s"\n' "$REGISTRY_PORT" >"$work/certs.d/_default/hosts.toml"
cat >"$work/cuddyd.toml" <<END
state = '$state/pods'
root = '$work/root'
socket = '$CUDDY_ADDRESS'
registry_config = '$work/certs.d'
cni_conf_dir = '$work/net.d'
END
cuddyd --config "$work/cuddyd.toml" >"$work/log" 2>&1 &
daemon=$!
timeout 60 sh -c 'until cuddy ps >/dev/null 2>&1; do kill -0 '$daemon' || exit 1; done' ||
    { cat "$work/log" >&2; exit 1; }

step "pulling $image"
begun=$(now_ms)
cuddy pull "$image" >&2
pulled=$(($(now_ms) - begun))

step "running it in a microVM"
requested=$(now_ms)
set +e
# shellcheck disable=SC2016 # for the container's shell
cuddy run --rm "$image" sh -c '
    cat /etc/os-release
    uname -a
    echo "process 1 here: $(cat /proc/1/comm), processes visible: $(ls -d /proc/[0-9]* | wc -l)"
    exit 42' | { IFS= read -r line; now_ms >"$work/first"; printf '%s\n' "$line"; cat; } >"$work/output"
code=${PIPESTATUS[0]}
set -e

step "starting a second one that sleeps, to measure it from outside"
asked=$(now_ms)
cuddy run -d --name demo-idle "$image" sleep 600 >/dev/null
pod=$(cuddy ps --json | sed -n 's/^ *"pod": *"\([0-9a-f]*\)".*/\1/p' | head -n 1)
sandbox=/run/cuddy/cuddy.cri/$pod
vmm=$(cat "$sandbox/vmm.pid")
shim=$(awk '$1 == "PPid:" { print $2 }' "/proc/$vmm/status")

echo
row "host kernel" "$(uname -r)"
row "guest kernel" "$(grep '^Linux ' "$work/output" | cut -d' ' -f3)"
echo "  the container's own output:"
sed 's/^/    | /' "$work/output"
row "exit code (42 was asked for)" "$code"
row "pull and conversion of the image" "$pulled ms"
row "request to agent ready" "$(($(date -r "$sandbox/ready-us" +%s%3N) - asked)) ms"
row "request to first output" "$(($(cat "$work/first") - requested)) ms"
row "cuddyd, PSS" "$(pss_kib "$daemon")"
row "shim, PSS" "$(pss_kib "$shim")"
row "VMM without guest memory, PSS" "$(pss_kib "$vmm")"
row "guest memory, PSS" "$(pss_kib "$vmm" guest)"
echo

step "removing it"
cuddy rm --force demo-idle >/dev/null
[ "$code" -eq 42 ] || { echo "cuddy: the container ended with $code instead of 42" >&2; exit 1; }
