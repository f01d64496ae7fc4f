#!/bin/bash
# layers.sh: makes the image that pulls are measured with, or finds it in the cache, and prints the
# path of its archive: 300 MB of the lab's own /usr in 8 layers of different sizes, compressed as
# registries have it. Compressing it in the lab would take minutes of every run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

image=$("$here/build.sh" | tail -n 1)
output="$(cache_root)/layers/$({
    echo "$image"
    cat "$here"/{layers.sh,oci.py}
} | input_hash -)/layers.tar"

# Millions of bytes of each layer: a distribution, its packages, an application, its files.
sizes=(96 64 48 36 26 16 10 4)

# parts TREE DIR: makes DIR/1, DIR/2, … of hard links to the files of TREE/usr in the order of their
# names; each has all files of the one before and those of its own layer.
parts() {
    local tree=$1 dir=$2 number before=
    find "$tree/usr" -type f -printf '%s %P\n' | LC_ALL=C sort -k 2 |
        awk -v sizes="${sizes[*]}" -v dir="$dir" '
            BEGIN { count = split(sizes, size, " "); layer = 1 }
            layer <= count { print substr($0, index($0, " ") + 1) > (dir "/" layer ".files"); sum += $1 }
            sum > size[layer] * 1e6 { sum = 0; layer++ }'
    for number in "${!sizes[@]}"; do
        number=$((number + 1))
        if [ -z "$before" ]; then mkdir "$dir/$number"; else cp -al "$before" "$dir/$number"; fi
        (cd "$tree/usr" && xargs -d '\n' -a "$dir/$number.files" \
            cp -al --parents --target-directory "$dir/$number" --)
        before=$dir/$number
    done
}

build() {
    [ ! -e "$output" ] || return 0
    "$here/packages.sh"
    local work
    work=$(mktemp -d "$(cache_root)/layers.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    mkdir "$work/parts" "$work/out"
    say "making the image for pulls out of the lab's own files (about 1 minute)"
    fsck.erofs --extract="$work/root" "$image/root.erofs" >/dev/null
    parts "$work/root" "$work/parts"
    python3 "$here/oci.py" --output "$work/out/layers.tar" --name cuddy.test/layers:latest \
        --config '{"Cmd": ["true"]}' --gzip "$work"/parts/[1-8]
    mkdir -p "$(dirname "$(dirname "$output")")"
    mv -T "$work/out" "$(dirname "$output")"
    say "image for pulls ready: $output ($(du -h "$output" | cut -f1))"
}

mkdir -p "$(cache_root)"
exec 9>"$(cache_root)/layers.lock"
flock 9
build
echo "$output"
