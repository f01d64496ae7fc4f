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

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# One line for each version: releases of which the newest package is taken. 1.6 is Debian 12's;
# the newest 2.x is in one of the others.
wanted=("bookworm" "trixie-backports forky sid")
target=${1:?which directory to fill}
output="$(cache_root)/containerds/$(input_hash "$here"/{containerds,common}.sh)"

# private_apt STATE COMMAND...: apt with sources and lists of its own; the machine's stay as
# they are. Dates are not checked, as the archive may be a copy of some earlier day.
private_apt() {
    local state=$1
    shift
    apt-get -qq -o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache" \
        -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false \
        -o Acquire::Check-Date=false -o Acquire::Retries=5 -o APT::Sandbox::User=root "$@"
}

# fetch STATE RELEASE...: unpacks the newest containerd of these releases into STATE/tree. A
# release that the archive does not have (any more) is passed over, as long as one is left.
fetch() {
    local state=$1 release
    shift
    mkdir -p "$state"/{lists,cache/archives}/partial
    for release in "$@"; do
        echo "deb [signed-by=$keyring] $mirror $release main" >>"$state/sources.list"
    done
    private_apt "$state" update >"$state/log" 2>&1 || true
    (cd "$state" && private_apt "$state" download containerd >>log 2>&1) || {
        tail -n 20 "$state/log" >&2
        say "no containerd in Debian $*"
        return 1
    }
    dpkg-deb -x "$state"/containerd_*.deb "$state/tree"
}

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

build() {
    [ ! -d "$output" ] || return 0
    local index=0 releases
    mkdir -p "$(dirname "$output")"
    work=$(mktemp -d "$output.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    mkdir "$work/out"
    mirror=$(debian_mirror)
    say "fetching other versions of containerd (55 MB)"
    for releases in "${wanted[@]}"; do
        index=$((index + 1))
        # shellcheck disable=SC2086 # several words
        fetch "$work/$index" $releases
        add "$work/$index/tree/usr/bin" "$work/out"
    done
    mv -T "$work/out" "$output"
    say "containerd $(cd "$output" && echo *) ready: $output ($(du -sh "$output" | cut -f1))"
}

mkdir -p "$(cache_root)"
exec 9>"$(cache_root)/containerds.lock"
flock 9
build
mkdir -p "$target"
cp -r "$output"/* "$target/"
further
