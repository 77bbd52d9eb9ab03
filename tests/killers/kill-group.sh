#!/bin/sh
# kill-group PGID GRACE: kills a process group dead: SIGTERM, up to GRACE seconds, SIGKILL for what is left.
#
# A group is gone when no member can run again. `kill -0` does not tell: it succeeds for as long as anything of the
# group is in the process table, and the leader stays there, a zombie, until its parent has waited for it. So the states
# are read from /proc, twice: behind the back of one look a member can fork. Linux only.
pgid=$1 grace=$2
[ "$pgid" -gt 1 ] || exit 2

# A line of stat is `PID (NAME) STATE PPID PGID ..`. (`sed` would stop at the first process that vanishes meanwhile.)
runs() { grep -qs ") [^XZ] [0-9]* $pgid " /proc/[0-9]*/stat; }
gone() { ! runs && ! runs; }
# In hundredths of a second, rounded down, so the end of the grace is one later.
clock() { read -r up _ </proc/uptime && now=${up%.*}${up#*.}; }

# `-s` and `--`: there are programs named kill that read `-TERM -1234` as a signal to every process.
clock
end=$(awk "BEGIN { print $now + 1 + int($grace * 100) }")
kill -s TERM -- "-$pgid" 2>/dev/null || exit 0
# A stopped member does not see the SIGTERM before it goes on.
kill -s CONT -- "-$pgid" 2>/dev/null
while clock && [ "$now" -le "$end" ]; do
    ! gone || exit 0
    sleep 0.1
done
kill -s KILL -- "-$pgid" 2>/dev/null
exit 0
