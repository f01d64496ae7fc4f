# Sourced by build.sh and images.sh: cache directories named after the hash of their inputs,
# and the Debian mirror of this machine.

say() { echo "lab: $*" >&2; }

# Root of everything that is cached; safe to delete at any time.
cache_root() { echo "${XDG_CACHE_HOME:-$HOME/.cache}/cuddy"; }

# input_hash FILE...: sixteen hex digits over the contents of the files, in the order given.
input_hash() { cat "$@" | sha256sum | cut -c1-16; }

# The mirror of this machine's own Debian release; it also carries trixie. Taken from apt at
# run time, because no host name belongs into this tree.
debian_mirror() {
    list_mirrors() {
        apt-get indextargets --format '$(LABEL)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
            awk -F'|' '$1 == "Debian" && $2 == "main" { print $3; exit }'
    }
    mirror=$(list_mirrors)
    if [ -z "$mirror" ]; then
        say "reading package lists"
        apt-get update -qq >&2
        mirror=$(list_mirrors)
    fi
    [ -n "$mirror" ] || { say "apt knows no Debian mirror on this machine"; return 1; }
    echo "$mirror"
}

# debootstrap_into DIR VARIANT PACKAGES [OPTION...]: unpacks Debian trixie with the
# comma-separated packages into DIR, without documentation and without recommended packages.
debootstrap_into() {
    target=$1 variant=$2 include=$3
    shift 3
    mirror=$(debian_mirror)
    log=$target.log
    if ! mmdebstrap --mode=root --format=directory --variant="$variant" --include="$include" \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"' \
        --aptopt='Acquire::Retries "5"' --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$@" trixie "$target" "$mirror" >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        say "mmdebstrap failed"
        return 1
    fi
}

# with_lock NAME COMMAND...: one builder of NAME at a time on this machine.
with_lock() {
    lock="$(cache_root)/$1.lock"
    shift
    mkdir -p "$(cache_root)"
    flock "$lock" "$@"
}
