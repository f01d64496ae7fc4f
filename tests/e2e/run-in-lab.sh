#!/bin/sh
# run-in-lab.sh [FILES] [FILTER]: runs the end-to-end test binaries beside this script, on a
# host with the product installed at /opt/cuddy; all of them, or the named ones.
here=$(dirname "$0")
names=$1
[ -n "$names" ] || names=$(cd "$here" && ls ./*.test | sed 's|\./||; s|\.test$||')
status=0
for name in $names; do
    echo "--- $name"
    # shellcheck disable=SC2086 # an empty filter is no argument
    "$here/$name.test" --test-threads=1 $2 || status=1
done
exit $status
