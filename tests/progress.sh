#!/bin/bash
# progress.sh WHAT USUALLY COMMAND...: runs the command; says what goes on, at the start and every
# 25 s, on standard error. USUALLY is how long it takes on two cores when nothing is cached.
set -uo pipefail
what=$1 usually=$2
shift 2
say() { echo "cuddy: $what$*" >&2; }

say " (when cold: $usually)"
# Ends by itself when this script has ended.
while timeout 25 tail -s 0.2 --pid=$$ -f /dev/null; [ -e /proc/$$ ]; do
    say ": $SECONDS s so far (when cold: $usually)"
done &
"$@"
