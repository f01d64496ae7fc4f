#!/bin/bash
# run-demo.sh PAYLOAD [IMAGE]: shows a container image running in a microVM; directly on this
# machine where its KVM runs stock guest kernels, else in the lab. IMAGE is the archive of the
# Debian test image; by default it is built when it is needed.
set -euo pipefail
payload=$(realpath "$1")
image=${2:-}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# leave FOLDER CONTAINERD: ends what run_directly started. Nothing in it changes the exit code.
leave() {
    kill "$2" || true
    wait "$2" || true
    umount --recursive --quiet "$1/state" || true
    rm -rf "$1"
}

# A containerd of our own, beside any that this machine has, in a folder that goes with it.
run_directly() {
    command -v containerd >/dev/null || tests/debian-packages.sh cuddy containerd
    local work
    work=$(mktemp -d /run/cuddy-demo.XXXXXX)
    export PATH="$payload/bin:$PATH" CONTAINERD_ADDRESS="$work/containerd.sock"
    printf 'version = 2\nroot = "%s/root"\nstate = "%s/state"\n[grpc]\naddress = "%s"\n' \
        "$work" "$work" "$CONTAINERD_ADDRESS" >"$work/config.toml"
    containerd --config "$work/config.toml" >"$work/log" 2>&1 &
    local containerd=$!
    # shellcheck disable=SC2064 # the values of now
    trap "leave $work $containerd" EXIT
    timeout 30 sh -c 'until ctr version >/dev/null 2>&1; do kill -0 '$containerd' || exit 1; done' ||
        { cat "$work/log" >&2; exit 1; }
    echo "cuddy: importing the Debian image" >&2
    ctr images import "${image:-$(tests/lab/images.sh | tail -n 1)/debian.tar}" >&2
    "$payload/tests/demo.sh"
}

report=$("$payload/bin/cuddy" check --json || true)
found=$(sed -n 's/^  "case": "\(.*\)",$/\1/p' <<<"$report")
if [ "$found" = direct ]; then
    echo "cuddy: this machine's KVM runs stock guest kernels" >&2
    run_directly
else
    sed -n 's/^  "summary": "\(.*\)",$/cuddy: \1/p' <<<"$report" >&2
    echo "cuddy: the lab is a KVM host inside QEMU, 10 to 30 times slower" >&2
    tests/progress.sh "the lab's image" "1 minute" tests/lab/build.sh >/dev/null
    images=$(tests/progress.sh "test images from Debian packages" "1 minute" tests/lab/images.sh |
        tail -n 1)
    # Without the seed of the tests: importing one image takes less time than making that.
    target/x86_64-unknown-linux-gnu/release/lab run --payload "$payload" --share "$images" \
        --timeout 300 -- sh -c 'lab-images /share/debian.tar && /opt/cuddy/tests/demo.sh'
fi
