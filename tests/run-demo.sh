#!/bin/bash
# run-demo.sh PAYLOAD [IMAGE]: shows a container image running in a microVM; directly on this
# machine where its KVM runs stock guest kernels, else in the lab. IMAGE is the archive of the
# Debian test image; by default it is built when it is needed.
set -euo pipefail
payload=$(realpath "$1")
image=${2:-}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

built_image() {
    echo "$(tests/progress.sh "test images from Debian packages" "1 minute" tests/lab/images.sh |
        tail -n 1)/debian.tar"
}

report=$("$payload/bin/cuddy" check --json || true)
found=$(sed -n 's/^  "case": "\(.*\)",$/\1/p' <<<"$report")
if [ "$found" = direct ]; then
    echo "cuddy: this machine's KVM runs stock guest kernels" >&2
    command -v docker-registry >/dev/null ||
        tests/debian-packages.sh cuddy docker-registry iproute2 e2fsprogs
    PATH=$payload/bin:$payload/tests:$PATH "$payload/tests/demo.sh" "${image:-$(built_image)}"
else
    sed -n 's/^  "summary": "\(.*\)",$/cuddy: \1/p' <<<"$report" >&2
    echo "cuddy: the lab is a KVM host inside QEMU, 10 to 30 times slower" >&2
    tests/progress.sh "the lab's image" "1 minute" tests/lab/build.sh >/dev/null
    image=$(built_image)
    target/x86_64-unknown-linux-gnu/release/lab run --payload "$payload" --share "${image%/*}" \
        --timeout 300 -- /opt/cuddy/tests/demo.sh /share/debian.tar
fi
