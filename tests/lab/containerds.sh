#!/bin/bash
# containerds.sh DIR: puts into DIR what tests have of containerd beside the lab's own 1.7: one
# directory per version, named by its first two numbers (1.6, 2.1, …), with the programs containerd
# and ctr. They are those of other Debian releases, fetched once and cached, and those of the
# directory CUDDY_CONTAINERDS, if that is set, which is laid out the same. The lab's own image and
# seed do not depend on it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"
# shellcheck source=debian-files.sh
. "$here/debian-files.sh"

# One line for each version: releases of which the newest package is taken. 1.6 is Debian 12's;
# the newest 2.x is in one of the others.
wanted=("bookworm" "trixie-backports forky sid")
target=${1:?which directory to fill}

# add PROGRAMS INTO: copies containerd and ctr of a directory into INTO/VERSION. Their only library
# is the C library, upwards compatible: if they run on this machine, whose release is not newer than
# L1's, then in L1 as well.
add() {
    local programs=$1 into=$2 version
    if ! version=$("$programs/containerd" --version) || [ ! -x "$programs/ctr" ]; then
        say "$programs lacks a containerd and ctr that run on this machine"
        return 1
    fi
    version=$(awk '{ print $3 }' <<<"$version" | sed -n 's/^v\?\([0-9]\+\.[0-9]\+\)\..*$/\1/p')
    [ -n "$version" ] || { say "$programs/containerd does not tell its version"; return 1; }
    [ ! -e "$into/$version" ] || { say "$programs is containerd $version once more"; return 1; }
    mkdir -p "$into/$version"
    cp "$programs"/{containerd,ctr} "$into/$version/"
}

# further: adds what somebody has outside the tree.
further() {
    local programs
    [ -n "${CUDDY_CONTAINERDS:-}" ] || return 0
    for programs in "$CUDDY_CONTAINERDS"/*/; do
        add "${programs%/}" "$target"
    done
}

# build: fills "$work/out".
build() {
    local index=0 releases
    say "fetching other versions of containerd (55 MB)"
    for releases in "${wanted[@]}"; do
        index=$((index + 1))
        # shellcheck disable=SC2086 # several words
        fetch "$work/$index" containerd $releases
        add "$work/$index/tree/usr/bin" "$work/out"
    done
}

build_once containerds build
mkdir -p "$target"
cp -r "$output"/* "$target/"
further
