#!/usr/bin/env python3
"""Reads what `cargo test --no-run --message-format json` prints, and prints the integration tests of
some packages, a line each: PACKAGE-FILE and the path of the program.

    test-programs.py PACKAGE...
"""

import json
import sys


def main():
    found = {}
    for line in sys.stdin:
        message = json.loads(line)
        target = message.get("target", {})
        if message["reason"] != "compiler-artifact" or target["kind"] != ["test"]:
            continue
        # path+file:///…/tests/e2e#0.1.0, or with #NAME@VERSION where the folder has another name.
        place, _, rest = message["package_id"].partition("#")
        package = rest.partition("@")[0] if "@" in rest else place.rpartition("/")[2]
        if package in sys.argv[1:]:
            found[f"{package}-{target['name']}"] = message["executable"]
    missing = [one for one in sys.argv[1:] if not any(name.startswith(one + "-") for name in found)]
    if missing:
        sys.exit(f"test-programs.py: no tests of {', '.join(missing)}")
    for name, executable in sorted(found.items()):
        print(name, executable)


main()
