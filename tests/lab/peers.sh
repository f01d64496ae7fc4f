#!/bin/bash
# peers.sh DIR: puts into DIR what the benchmarks run beside the product and the lab's image lacks:
# gVisor's runsc, Docker's daemon and its client. They are Debian trixie's, fetched once and cached.
# They would make the lab's image larger by 160 MB, and no test needs them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"
# shellcheck source=debian-files.sh
. "$here/debian-files.sh"

target=${1:?which directory to fill}

# build: fills "$work/out".
build() {
    say "fetching gVisor and Docker (37 MB)"
    fetch "$work/state" "runsc docker.io docker-cli" trixie
    cp "$work"/state/tree/usr/{bin/runsc,bin/docker,sbin/dockerd,sbin/docker-proxy} "$work/out/"
    # Its other platform, systrap, had no answer within a minute on a loaded machine.
    # shellcheck disable=SC2016 # for the script that is made
    printf '#!/bin/sh\nexec "${0%%/*}/runsc" --platform=ptrace "$@"\n' >"$work/out/runsc-ptrace"
    chmod 0755 "$work/out/runsc-ptrace"
}

build_once peers build
mkdir -p "$target"
cp "$output"/* "$target/"
