#!/bin/bash
# Builds the lab's L1 image from Debian trixie packages, or finds it in the cache, and prints
# the directory that holds it: vmlinuz, initrd.cpio, root.erofs, modules.erofs, and in host/
# the programs of trixie that the driver runs on this machine, with their libraries.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

inputs=("$here/build.sh" "$here/common.sh" "$here"/image/{init,initramfs.list,packages.list})
output="$(cache_root)/lab/$(input_hash "${inputs[@]}")"

names() { grep -v '^#' "$1"; }

# install_kernel ROOT TREE: unpacks trixie's newest cloud kernel package into TREE with all
# modules decompressed, which makes loading them in L1 much faster.
install_kernel() {
    local root=$1 tree=$2
    mkdir -p "$tree"
    dpkg-deb -x "$root"/var/tmp/linux-image.deb "$tree"
    rm "$root"/var/tmp/linux-image.deb
    find "$tree/usr/lib/modules" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P "$(nproc)" xz -d
    kernel=$(ls "$tree/usr/lib/modules")
    ln -s usr/lib "$tree/lib" # where depmod and modprobe look
    depmod -b "$tree" -F "$tree/boot/System.map-$kernel" "$kernel"
}

# build_initramfs TREE DIR ARCHIVE: busybox, the modules of initramfs.list with what they
# depend on in load order, and init.
build_initramfs() {
    local tree=$1 dir=$2 archive=$3 module path
    mkdir -p "$dir"/{bin,dev,proc,sys,lower,upper,root,modules}
    cp /bin/busybox "$dir/bin/busybox"
    install -m 0755 "$here/image/init" "$dir/init"
    for module in $(names "$here/image/initramfs.list"); do
        modprobe -d "$tree" -S "$kernel" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
        cp "$path" "$dir/modules/"
        basename "$path"
    done >"$dir/modules.order"
    (cd "$dir" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$archive"
}

# copy_host_programs ROOT DIR: trixie's QEMU and virtiofsd, made to run on any machine through
# their own dynamic loader: Debian 12's QEMU 7.2 corrupts L1's flags in its TCG now and then
# (general protection faults while booting), QEMU 10 does not.
copy_host_programs() {
    local root=$1 dir=$2 library
    mkdir -p "$dir"/{bin,lib,firmware}
    cp "$root"/usr/bin/qemu-system-x86_64 "$root"/usr/libexec/virtiofsd "$dir/bin/"
    cp -L "$root"/usr/share/seabios/bios-256k.bin "$dir/firmware/"
    cp -L "$root"/usr/share/qemu/{linuxboot_dma.bin,kvmvapic.bin} "$dir/firmware/"
    chroot "$root" ldd /usr/bin/qemu-system-x86_64 /usr/libexec/virtiofsd |
        awk '$2 == "=>" { print $3 } $1 ~ /^\/lib64/ { print $1 }' | sort -u |
        while read -r library; do cp -L "$root$library" "$dir/lib/"; done
}

build() {
    [ ! -d "$output" ] || return 0
    "$here/packages.sh"
    local work
    mkdir -p "$(dirname "$output")"
    work=$(mktemp -d "$output.XXXXXX")
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$work'" EXIT
    mkdir "$work/out"

    say "unpacking Debian trixie for L1 (about 30 s)"
    # shellcheck disable=SC2016 # expanded by mmdebstrap's shell, inside the new root
    debootstrap_into "$work/root" minbase "$(names "$here/image/packages.list" | paste -sd,)" \
        --customize-hook='chroot "$1" sh -c "cd /var/tmp && apt-get download -qq \$(apt-cache depends linux-image-cloud-amd64 | awk \"/Depends:/ { print \\\$2; exit }\") && mv linux-image-*.deb linux-image.deb"'
    say "unpacking the L1 kernel"
    install_kernel "$work/root" "$work/kernel"
    cp "$work/kernel/boot/vmlinuz-$kernel" "$work/out/vmlinuz"
    build_initramfs "$work/kernel" "$work/initramfs" "$work/out/initrd.cpio"
    copy_host_programs "$work/root" "$work/out/host"
    say "packing EROFS images"
    mkfs.erofs --quiet -zlz4 "$work/out/modules.erofs" "$work/kernel/usr/lib/modules" >/dev/null
    rm -rf "$work/root"/var/cache/apt/* "$work/root"/var/lib/apt/lists/*
    echo lab >"$work/root/etc/hostname"
    mkfs.erofs --quiet -zlz4 "$work/out/root.erofs" "$work/root" >/dev/null
    mv -T "$work/out" "$output"
    say "L1 image ready: $output ($(du -sh "$output" | cut -f1))"
}

if [ ! -d "$output" ]; then
    export -f build build_initramfs copy_host_programs install_kernel names
    export here output
    with_lock lab bash -euo pipefail -c '. "$here/common.sh"; build'
fi
echo "$output"
