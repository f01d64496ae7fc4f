#!/usr/bin/env python3
"""Adds an OCI image archive to the storage of a container registry, and prints its digest.

    registry.py ARCHIVE DIRECTORY NAME:TAG...

DIRECTORY is the root directory of the registry's `filesystem` storage driver. The host of each
NAME is left out, as a mirror serves the images of every registry.
"""

import json
import pathlib
import sys
import tarfile


def main():
    archive, directory, *names = sys.argv[1:]
    root = pathlib.Path(directory) / "docker/registry/v2"
    blobs = {}
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("index.json"))
        for entry in tar:
            if entry.isfile() and entry.name.startswith("blobs/sha256/"):
                blobs[entry.name.rpartition("/")[2]] = tar.extractfile(entry).read()

    def write(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    for digest, content in blobs.items():
        write(root / "blobs/sha256" / digest[:2] / digest / "data", content)
    manifest = index["manifests"][0]["digest"]
    digest = manifest.removeprefix("sha256:")
    for name in names:
        repository, _, tag = name.partition("/")[2].rpartition(":")
        place = root / "repositories" / repository
        for blob in blobs:
            if blob != digest:
                write(place / "_layers/sha256" / blob / "link", b"sha256:" + blob.encode())
        write(place / "_manifests/revisions/sha256" / digest / "link", manifest.encode())
        tags = place / "_manifests/tags" / tag
        write(tags / "current/link", manifest.encode())
        write(tags / "index/sha256" / digest / "link", manifest.encode())
    print(manifest)


if __name__ == "__main__":
    main()
