#!/bin/bash
# Builds the images that CRI test suites pull, from Debian trixie packages, or finds them in the
# cache, and prints the directory that holds them as the storage of a container registry (Debian's
# docker-registry serves it in the lab). Names, users, ports and the few words of output are those
# that the suites ask for; the contents are our own, so an image that a suite names by its digest
# has another digest here: `images.sh digest` prints it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=$here/../lab
# shellcheck source=tests/lab/common.sh
. "$lab/common.sh"

output="$(cache_root)/conformance/$(input_hash "$here"/{images.sh,registry.py} "$lab"/{common.sh,oci.py})"
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
suites=registry.k8s.io/e2e-test-images
staging=gcr.io/k8s-staging-cri-tools

# add_programs ROOT PROGRAM...: copies programs of the unpacked packages with their libraries.
add_programs() {
    local root=$1 program file
    shift
    for program in "$@"; do
        for file in "$program" $(chroot "$work/debian" /lib64/ld-linux-x86-64.so.2 --list "$program" |
            sed -n 's/.* => \(\/[^ ]*\) .*/\1/p; s/^\t\(\/[^ ]*\) (.*/\1/p'); do
            install -D "$work/debian$file" "$root$file"
        done
    done
}

# base_root ROOT: busybox whose applets are hard links, as masking a path that is a symbolic link
# would mask all of busybox. It is Debian's dynamic busybox: the shell of the static one finds its
# applets without the file system.
base_root() {
    local root=$1 applet
    mkdir -p "$root"/{bin,dev,etc,home,proc,root,run,sys,tmp,usr/bin,var/tmp,www}
    ln -s ../run "$root/var/run"
    chmod 1777 "$root/tmp" "$root/var/tmp"
    chmod 0700 "$root/root"
    install -D "$work/debian/usr/bin/busybox" "$root/bin/busybox"
    for applet in $(chroot "$work/debian" /usr/bin/busybox --list); do
        ln -f "$root/bin/busybox" "$root/bin/$applet"
    done
    add_programs "$root" /usr/bin/busybox /usr/bin/ipcs /usr/bin/pgrep
    rm "$root/usr/bin/busybox"
    {
        echo 'root:x:0:0:root:/root:/bin/sh'
        echo 'www-data:x:33:33:www-data:/www:/bin/false'
        echo 'nobody:x:65534:65534:nobody:/:/bin/false'
    } >"$root/etc/passwd"
    printf 'root:x:0:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n' >"$root/etc/group"
}

# web_root ROOT PORT: nginx on one port.
web_root() {
    local root=$1 port=$2
    cp -a "$work/base" "$root"
    add_programs "$root" /usr/sbin/nginx
    mkdir -p "$root/etc/nginx" "$root/var/lib/nginx" "$root/var/log/nginx"
    echo 'It works.' >"$root/www/index.html"
    cat >"$root/etc/nginx/nginx.conf" <<EOF
user root;
worker_processes 1;
pid /var/run/nginx.pid;
error_log /dev/stderr;
events {}
http {
    access_log /dev/stdout;
    server { listen $port; root /www; }
}
EOF
}

# image CONFIG ROOT NAME...: adds an image to the registry; CONFIG lacks only Env.
image() {
    local config=$1 root=$2
    shift 2
    python3 "$lab/oci.py" --gzip --output "$work/image.tar" --name "image:latest" \
        --config "{\"Env\": [\"PATH=$path\"]$config}" "$root"
    python3 "$here/registry.py" "$work/image.tar" "$work/out" "$@"
}

# small_image CONTENT NAME...: an image like no other that is only pulled, or runs `sh`.
small_image() {
    local content=$1
    shift
    rm -rf "$work/small"
    cp -a "$work/base" "$work/small"
    echo "$content" >"$work/small/etc/content"
    image ', "Cmd": ["sh"]' "$work/small" "$@"
}

# Images of which only the user matters, and those that are pulled and removed.
pulled_images() {
    local number
    image ', "User": "1002"' "$work/base" "$staging/test-image-user-uid:latest"
    image ', "User": "www-data"' "$work/base" "$staging/test-image-user-username:latest"
    image ', "User": "1003:100"' "$work/base" "$staging/test-image-user-uid-group:latest"
    image ', "User": "www-data:100"' "$work/base" "$staging/test-image-user-username-group:latest"
    for number in 1 2 3; do
        small_image "number $number" "$staging/test-image-$number:latest"
    done
    small_image latest "$staging/test-image-latest:latest"
    small_image test "$staging/test-image-tag:test"
    small_image all "$staging/test-image-tag:all"
    small_image digest "$staging/test-image-digest:latest" >"$work/out/digest"
    small_image tags "$staging"/test-image-tags:{1,2,3}
}

# Images that run. The suites' own pause image is pulled and removed by some tests, so the
# sandboxes' is another.
running_images() {
    local root=$work/nonewprivs pause
    # shellcheck disable=SC2016 # expanded in the container
    pause=', "Cmd": ["sh", "-c", "trap exit\\ 0 TERM INT; while :; do sleep 2147483647 & wait; done"]'
    image ', "Cmd": ["sh"]' "$work/base" "$suites/busybox:1.29-2"
    web_root "$work/web" 80
    image ', "Cmd": ["nginx", "-g", "daemon off;"]' "$work/web" "$suites/nginx:1.14-2"
    web_root "$work/hostnet" 12003
    image ', "Cmd": ["nginx", "-g", "daemon off;"]' "$work/hostnet" "$staging/hostnet-nginx-amd64:latest"
    image ', "Cmd": ["sh", "-c", "echo httpd starts; exec httpd -f -p 80 -h /www"]' "$work/web" \
        "$suites/httpd:2.4.39-4"

    cp -a "$work/base" "$root"
    add_programs "$root" /usr/bin/id
    chmod 4755 "$root/usr/bin/id"
    # shellcheck disable=SC2016 # expanded in the container
    image ', "Cmd": ["sh", "-c", "echo Effective uid: $(/usr/bin/id -u)"]' "$root" "$suites/nonewprivs:1.3"

    cp -a "$work/base" "$work/group"
    echo 'default-user:x:1000:1000::/home:/bin/sh' >>"$work/group/etc/passwd"
    printf 'default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n' >>"$work/group/etc/group"
    image ', "Cmd": ["sh"], "User": "1000"' "$work/group" "$staging/test-image-predefined-group:latest"

    image "$pause" "$work/base" registry.k8s.io/pause:3.9
    image "$pause, \"Labels\": {\"of\": \"sandboxes\"}" "$work/base" cuddy.test/pause:latest
}

build() {
    [ ! -d "$output" ] || return 0
    "$lab/packages.sh"
    mkdir -p "$(dirname "$output")"
    work=$(mktemp -d "$output.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    mkdir "$work/out"
    say "making the images of CRI test suites (about 60 s)"
    debootstrap_into "$work/debian" extract base-files,busybox,coreutils,nginx-light,procps,util-linux
    base_root "$work/base"
    running_images
    pulled_images
    mv -T "$work/out" "$output"
    say "images ready: $output ($(du -sh "$output" | cut -f1))"
}

mkdir -p "$(cache_root)"
exec 9>"$(cache_root)/conformance.lock"
flock 9
build >&2
if [ "${1:-}" = digest ]; then
    cat "$output/digest"
else
    echo "$output"
fi
