# Sourced after common.sh by scripts that take programs out of Debian packages without installing
# them.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

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

# build_once NAME BUILD: makes what is cached below NAME, and is named after the hash of the script
# that sources this and of what it sources. BUILD fills "$work/out"; two never run at once. Sets
# `output`, where it is.
build_once() {
    local name=$1 build=$2
    output="$(cache_root)/$name/$(input_hash "$0" "$here"/{common,debian-files}.sh)"
    mkdir -p "$(dirname "$output")"
    exec 9>"$(cache_root)/$name.lock"
    flock 9
    [ ! -d "$output" ] || return 0
    work=$(mktemp -d "$output.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    mkdir "$work/out"
    mirror=$(debian_mirror)
    "$build"
    mv -T "$work/out" "$output"
    say "$(cd "$output" && echo *) ready: $output ($(du -sh "$output" | cut -f1))"
}

# fetch STATE PACKAGES RELEASE...: unpacks the packages, the newest of these releases, into
# STATE/tree. A release that the archive does not have (any more) is passed over, as long as one is
# left.
fetch() {
    local state=$1 packages=$2 release package
    shift 2
    mkdir -p "$state"/{lists,cache/archives}/partial
    for release in "$@"; do
        echo "deb [signed-by=$keyring] $mirror $release main" >>"$state/sources.list"
    done
    private_apt "$state" update >"$state/log" 2>&1 || true
    # shellcheck disable=SC2086 # several words
    (cd "$state" && private_apt "$state" download $packages >>log 2>&1) || {
        tail -n 20 "$state/log" >&2
        say "no $packages in Debian $*"
        return 1
    }
    for package in "$state"/*.deb; do dpkg-deb -x "$package" "$state/tree"; done
}
