#!/bin/bash
# Builds the test images from Debian trixie packages as OCI archives, or finds them in the
# cache, and prints the directory that holds them: busybox.tar, debian.tar, nginx.tar,
# redis.tar, python.tar, named cuddy.test/busybox:latest and so on. The last three share the
# Debian layer and add one of their own; busybox's layer is compressed, the others are not,
# because decompression under TCG costs seconds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

output="$(cache_root)/images/$(input_hash "$here"/{images.sh,common.sh,oci.py})"
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# debian_root DIR [PACKAGE]: a minimal Debian root without anything that differs from one run
# to the next.
debian_root() {
    local root=${1:?}
    say "unpacking Debian trixie${2:+ with $2} for an image (about 15 s)"
    debootstrap_into "$root" minbase "${2:-base-files}"
    rm -rf "$root"/var/cache/{apt,debconf,ldconfig}/* "$root"/var/lib/apt/lists/* \
        "$root"/var/log/* "$root"/etc/{machine-id,resolv.conf,hostname,apt/sources.list} \
        "$root"/var/lib/dpkg/*-old "$root"/etc/{passwd,group,shadow,gshadow}- \
        "${root:?}"/dev/* "${root:?}"/run/* "${root:?}"/tmp/*
    # The days of last change are today's.
    sed -i 's/^\([^:]*:[^:]*\):[0-9]*:/\1:20000:/' "$root/etc/shadow"
}

busybox_root() {
    local applet
    mkdir -p "$1"/{bin,dev,etc,home,proc,root,run,sys,tmp,usr/bin,usr/sbin,var/{log,run,tmp}}
    chmod 1777 "$1"/tmp "$1"/var/tmp
    chmod 0700 "$1"/root
    install -m 0755 /bin/busybox "$1/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' \
        >"$1/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
}

# image NAME CONFIG [OPTION...] ROOT...: writes one archive; CONFIG lacks only Env.
image() {
    local name=$1 config=$2 full=cuddy.test/$1:latest
    [ "$name" != pause ] || full=registry.k8s.io/pause:3.10
    shift 2
    say "packing image $name"
    python3 "$here/oci.py" --output "$work/out/$name.tar" --name "$full" \
        --config "{\"Env\": [\"PATH=$path\"], $config}" "$@"
}

build() {
    [ ! -d "$output" ] || return 0
    "$here/packages.sh"
    mkdir -p "$(dirname "$output")"
    work=$(mktemp -d "$output.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    mkdir "$work/out"

    busybox_root "$work/busybox"
    image busybox '"Cmd": ["sh"]' --gzip "$work/busybox"

    mkdir "$work/pause"
    install -m 0755 /bin/busybox "$work/pause/tail"
    image pause '"Entrypoint": ["/tail", "-f", "/dev/null"]' --gzip "$work/pause"

    debian_root "$work/debian"
    image debian '"Cmd": ["bash"]' "$work/debian"

    debian_root "$work/nginx" nginx-light
    mkdir -p "$work/nginx/var/log/nginx"
    ln -sf /dev/stdout "$work/nginx/var/log/nginx/access.log"
    ln -sf /dev/stderr "$work/nginx/var/log/nginx/error.log"
    image nginx '"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT"' "$work/debian" "$work/nginx"

    debian_root "$work/redis" redis-server
    mkdir -p "$work/redis/data"
    chroot "$work/redis" chown redis:redis /data
    image redis '"Cmd": ["redis-server", "--protected-mode", "no"], "User": "redis",
        "WorkingDir": "/data", "Volumes": {"/data": {}}, "ExposedPorts": {"6379/tcp": {}}' \
        "$work/debian" "$work/redis"

    debian_root "$work/python" python3-minimal
    image python '"Cmd": ["python3"]' "$work/debian" "$work/python"

    mv -T "$work/out" "$output"
    say "test images ready: $output ($(du -sh "$output" | cut -f1))"
}

if [ ! -d "$output" ]; then
    export -f build image busybox_root debian_root
    export here output path
    # shellcheck disable=SC2016 # expanded by the inner shell
    with_lock images bash -euo pipefail -c '. "$here/common.sh"; build'
fi
echo "$output"
