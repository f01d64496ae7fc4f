#!/bin/sh
# Installs Debian packages that are missing: debian-packages.sh WHO PACKAGE…
#
# Does nothing, at once, when all are there; needs root only when one is missing. WHO says in the
# output for what they are.
set -eu

who=$1
shift

missing=
for package; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "$who: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
install() {
    # shellcheck disable=SC2086 # a list of names
    apt-get install -qq -y --no-install-recommends $missing
}
# The lists that are there may name files that a mirror no longer has.
install >/dev/null 2>&1 || { apt-get update -qq >&2 && install >/dev/null; }
