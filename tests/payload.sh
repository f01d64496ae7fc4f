#!/bin/bash
# payload.sh DIR: gathers the built product as it is installed on a host into DIR; the lab
# shows it as /opt/cuddy. Prints nothing when all is well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
payload=$1
release=target/x86_64-unknown-linux-gnu/release

last_line() { "$@" | tail -n 1; }

rm -rf "$payload"
mkdir -p "$payload"/{bin,share/cuddy,tests}
cp "$release"/{containerd-shim-cuddy-v2,cuddy-vmm,cuddy,cuddyd,cuddy-streams,cuddy-pause} \
    "$payload/bin/"
cp "$(last_line guest-kernel/build)" "$payload/share/cuddy/vmlinux"
cp "$(last_line rootfs/build)" "$payload/share/cuddy/rootfs.erofs"
cp tests/demo.sh tests/lab/guest/lab-registry "$payload/tests/"
