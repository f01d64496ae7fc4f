#!/usr/bin/env python3
"""Makes an OCI image archive (an image layout in a tar) from root directories.

    oci.py --output FILE --name REFERENCE --config JSON [--gzip] ROOT...

The first ROOT becomes the first layer; of each further one, what differs from the one before
becomes the next layer. Equal inputs give equal bytes: entries are sorted, times are fixed,
owners are numbers. JSON is the `config` object of the image configuration (OCI image-spec,
config.md), for instance {"Cmd": ["sh"]}.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile

EPOCH = 1735689600  # 2025-01-01, the time of every file in every image
CREATED = "2025-01-01T00:00:00Z"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def walk(root):
    """Yields the paths of all entries below root, parents first, in a fixed order."""
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted(names + files):
            yield os.path.relpath(os.path.join(directory, name), root)


def same(one, two):
    """Whether two paths hold the same entry, apart from times and link counts."""
    a, b = os.lstat(one), os.lstat(two)
    if (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev):
        return False
    if stat.S_ISLNK(a.st_mode):
        return os.readlink(one) == os.readlink(two)
    if not stat.S_ISREG(a.st_mode):
        return True
    if a.st_size != b.st_size:
        return False
    with open(one, "rb") as first, open(two, "rb") as second:
        return first.read() == second.read()


def changes(root, below):
    """The paths of root that differ from those of below, with the parents they need, and the
    whiteouts of those that are gone."""
    paths = set()
    for path in walk(root):
        lower = os.path.join(below, path) if below else None
        if lower and os.path.lexists(lower) and same(os.path.join(root, path), lower):
            continue
        while path:
            paths.add(path)
            path = os.path.dirname(path)
    gone = []
    if below:
        for path in walk(below):
            parent = os.path.dirname(path)
            if not os.path.lexists(os.path.join(root, path)) and os.path.isdir(
                os.path.join(root, parent)
            ):
                gone.append(os.path.join(parent, ".wh." + os.path.basename(path)))
    return sorted(paths), gone


def layer(root, below):
    """The bytes of one layer as an uncompressed tar."""
    paths, gone = changes(root, below)
    buffer = io.BytesIO()
    linked = {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in paths:
            source = os.path.join(root, path)
            entry = archive.gettarinfo(source, path)
            if entry is None:  # a socket
                continue
            entry.mtime, entry.uname, entry.gname = EPOCH, "", ""
            status = os.lstat(source)
            if stat.S_ISREG(status.st_mode):
                first = linked.setdefault(status.st_ino, path)
                if first != path:
                    entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first, 0
                    archive.addfile(entry)
                else:
                    entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", status.st_size
                    with open(source, "rb") as content:
                        archive.addfile(entry, content)
            else:
                archive.addfile(entry)
        for path in gone:
            entry = tarfile.TarInfo(path)
            entry.mtime = EPOCH
            archive.addfile(entry)
    return buffer.getvalue()


class Layout:
    """The blobs of an image layout."""

    def __init__(self):
        self.blobs = {}

    def add(self, data, media_type):
        """Adds a blob and returns its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

    def add_json(self, value, media_type):
        """Adds a JSON document and returns its descriptor."""
        return self.add(json.dumps(value, sort_keys=True).encode(), media_type)

    def write(self, output, index):
        """Writes the archive."""
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        files["index.json"] = json.dumps(index, sort_keys=True).encode()
        files.update({"blobs/sha256/" + digest: data for digest, data in self.blobs.items()})
        with tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as archive:
            for directory in ("blobs", "blobs/sha256"):
                entry = tarfile.TarInfo(directory)
                entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, EPOCH
                archive.addfile(entry)
            for path, data in sorted(files.items()):
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode, entry.mtime = len(data), 0o644, EPOCH
                archive.addfile(entry, io.BytesIO(data))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--config", required=True, type=json.loads)
    parser.add_argument("--gzip", action="store_true", help="compress the layers")
    parser.add_argument("roots", nargs="+")
    args = parser.parse_args()

    layout, layers, ids, below = Layout(), [], [], None
    for root in args.roots:
        data = layer(root, below)
        ids.append("sha256:" + hashlib.sha256(data).hexdigest())
        if args.gzip:
            layers.append(layout.add(gzip.compress(data, 6, mtime=0), LAYER + "+gzip"))
        else:
            layers.append(layout.add(data, LAYER))
        below = root
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": args.config,
        "rootfs": {"type": "layers", "diff_ids": ids},
        "history": [{"created": CREATED, "created_by": "oci.py"} for _ in ids],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.add_json(config, CONFIG),
        "layers": layers,
    }
    descriptor = layout.add_json(manifest, MANIFEST)
    descriptor["platform"] = {"architecture": "amd64", "os": "linux"}
    descriptor["annotations"] = {
        "io.containerd.image.name": args.name,
        "org.opencontainers.image.ref.name": args.name.rpartition(":")[2],
    }
    layout.write(args.output, {"schemaVersion": 2, "manifests": [descriptor]})


if __name__ == "__main__":
    main()
