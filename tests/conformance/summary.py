#!/usr/bin/env python3
"""Prints what a suite reported, as a table of groups and a list of what did not pass.

    summary.py critest|shimtest DIRECTORY...

The directories are those of `run --report`. Where several hold the same spec, the last one counts.
"""

import collections
import re
import sys


def critest(directory):
    """Yields group, name, result and seconds of each spec in Ginkgo's verbose log, also where the
    run was cut off and there is no JUnit report."""
    name, rule = None, False
    with open(directory + "/suite.log", errors="replace") as log:
        for line in log:
            if rule:
                name = line.removeprefix("[k8s.io] ").strip() if line[0] == "[" else None
            rule = line.startswith("-----")
            found = re.match(r"(?:•|S) (?:\[([A-Z ]+)\] )?\[([0-9.]+) seconds\]", line)
            if name and found and not name.startswith("["):
                result = {None: "passed", "SKIPPED": "skipped"}.get(found[1], "failed")
                yield group_of(name), name, result, float(found[2])
                name = None


def group_of(name):
    """The leading capitalised words of a spec's name, without its labels."""
    words = []
    for word in re.sub(r"\[[^]]*\] ?", "", name).split():
        if not word[0].isupper():
            break
        words.append(word)
    return "Idempotence" if words[0] == "Idempotence" else " ".join(words)


def shimtest(directory):
    """Yields the same of a Go test's log, whose subtests have no subtests of their own."""
    results = {}
    with open(directory + "/suite.log", errors="replace") as log:
        for line in log:
            found = re.match(r" *--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)", line)
            if found:
                results[found[2]] = (found[1], float(found[3]))
    words = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}
    for name, (result, seconds) in results.items():
        if not any(other.startswith(name + "/") for other in results):
            parts = name.split("/")
            yield "/".join(parts[2:-1]) or "shim", "/".join(parts[2:]) or name, words[result], seconds


def main():
    read = {"critest": critest, "shimtest": shimtest}[sys.argv[1]]
    specs = {}
    for directory in sys.argv[2:]:
        for group, name, result, seconds in read(directory):
            specs[name] = (group, result, seconds)
    groups = collections.defaultdict(collections.Counter)
    for group, result, _ in specs.values():
        groups[group][result] += 1
    print("%-60s %7s %7s %7s" % ("group", "passed", "failed", "skipped"))
    groups["all"] = sum(groups.values(), collections.Counter())
    for group, count in groups.items():
        print("%-60s %7d %7d %7d" % (group, count["passed"], count["failed"], count["skipped"]))
    for result in ("failed", "skipped"):
        for name, (_, found, seconds) in specs.items():
            if found == result:
                print("%s: %s (%.0f s)" % (result, name, seconds))
    count = groups["all"]
    print("\n%d passed, %d failed, %d skipped" % (count["passed"], count["failed"], count["skipped"]))


if __name__ == "__main__":
    main()
