#!/bin/sh
# run-in-lab.sh [FILES] [FILTER]: runs the test programs beside this script, on a host with the
# product installed at /opt/cuddy; all of them, or the named ones (run, exec, containers …).
here=$(dirname "$0")
names=${1:-}
[ -n "$names" ] || names="*"
set -f # the star is for the inner loop
export CUDDY_AGENT="$here/cuddy-agent"
status=0
for name in $names; do
    set +f
    for program in "$here"/*-$name.test; do
        echo "--- $(basename "$program" .test)"
        # shellcheck disable=SC2086 # an empty filter is no argument
        "$program" --test-threads=1 $2 || status=1
    done
done
exit $status
