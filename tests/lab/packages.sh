#!/bin/sh
# Installs the Debian packages that the lab needs on this machine.
exec "$(dirname "$0")/../debian-packages.sh" lab mmdebstrap erofs-utils busybox-static cpio kmod \
    python3-minimal tar util-linux xz-utils
