#!/bin/bash
# Unpacks what loads AppArmor profiles into a kernel from Debian trixie's package, or finds it in
# the cache, and prints the directory: apparmor_parser, which needs the C library only, the parts
# of profiles that others include, and the list of features that Debian's setting pins. With it containerd confines every container, as on a
# Debian host; the lab's own image is without.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=$here/../lab
# shellcheck source=tests/lab/common.sh
. "$lab/common.sh"

output="$(cache_root)/conformance/apparmor-$(input_hash "$here/apparmor.sh" "$lab/common.sh")"

build() {
    [ ! -d "$output" ] || return 0
    "$lab/packages.sh"
    mkdir -p "$(dirname "$output")"
    work=$(mktemp -d "$output.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    mkdir -p "$work/out"/{sbin,etc/apparmor.d,usr/share}
    debootstrap_into "$work/debian" extract base-files,apparmor
    cp "$work/debian/usr/sbin/apparmor_parser" "$work/out/sbin/"
    cp -r "$work/debian/etc/apparmor" "$work/out/etc/"
    cp -r "$work/debian/etc/apparmor.d"/{abi,abstractions,tunables} "$work/out/etc/apparmor.d/"
    cp -r "$work/debian/usr/share/apparmor-features" "$work/out/usr/share/"
    mv -T "$work/out" "$output"
}

mkdir -p "$(cache_root)"
exec 9>"$(cache_root)/conformance.lock"
flock 9
build >&2
echo "$output"
