#!/bin/bash
# Builds containerd's state with the test images imported and unpacked, or finds it in the
# cache, and prints its path, for `lab --seed`. Importing a Debian image takes 15 s under TCG;
# with the seed it is there when the lab is. Made by running the lab once (LAB names the
# program; by default the one in target/, release first).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

image=$("$here/build.sh")
images=$("$here/images.sh")
target=$here/../../target/x86_64-unknown-linux-gnu
output="$(cache_root)/seed/$({
    echo "$image $images"
    cat "$here"/seed.sh "$here"/guest/lab-seed
} | input_hash -).erofs"

build() {
    [ ! -e "$output" ] || return 0
    local work lab
    for lab in "${LAB:-}" "$target/release/lab" "$target/debug/lab"; do
        [ ! -x "$lab" ] || break
    done
    [ -x "$lab" ] || { say "no lab program: cargo build -p lab"; return 1; }
    mkdir -p "$(dirname "$output")"
    work=$(mktemp -d "$output.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    mkdir "$work/share" "$work/state"
    say "importing the test images in the lab (about 80 s)"
    "$lab" run --image "$image" --payload "$images" --share "$work/share" --timeout 900 -- lab-seed
    tar -x --numeric-owner --same-owner --xattrs --xattrs-include='*' \
        -f "$work/share/state.tar" -C "$work/state"
    # Each image was unpacked for both namespaces; equal files need to be there once.
    hardlink --quiet --respect-xattrs "$work/state/io.containerd.snapshotter.v1.overlayfs"
    mkfs.erofs --quiet -zlz4 "$work/seed.erofs" "$work/state" >/dev/null
    mv -T "$work/seed.erofs" "$output"
    say "seed ready: $output ($(du -sh "$output" | cut -f1))"
}

if [ ! -e "$output" ]; then
    export -f build
    export here output image images target
    # shellcheck disable=SC2016 # expanded by the inner shell
    with_lock seed bash -euo pipefail -c '. "$here/common.sh"; build'
fi
echo "$output"
