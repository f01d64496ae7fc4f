#!/bin/sh
# Installs the Debian packages that the lab needs on this machine. Does nothing, at once,
# when they are there; needs root only when something is missing.
set -eu

packages="mmdebstrap erofs-utils busybox-static cpio kmod \
python3-minimal tar util-linux xz-utils"

missing=
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "lab: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2
# shellcheck disable=SC2086 # a list of names
apt-get install -y -qq --no-install-recommends $missing >&2
