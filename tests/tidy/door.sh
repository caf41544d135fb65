#!/usr/bin/env bash
# door: all input and output of a shard, its time and its random numbers, pass through core/ring.h, core/file.h
# and core/clock.h (docs/architecture.md, The door); only then can the simulation stand in their place. No call of libc around them.
set -euo pipefail
cd "$KILAT_TOP"

calls='read|write|pread|pwrite|readv|writev|open|openat|creat|close|rename|renameat|unlink|unlinkat|mkdir|mkdirat|stat|fstat|lstat|fopen|fread|fwrite|fclose|opendir|readdir|fsync|fdatasync|syncfs|ftruncate|fallocate|poll|select|epoll_wait|socket|connect|accept|accept4|bind|listen|send|sendto|sendmsg|recv|recvfrom|recvmsg|usleep|sleep|nanosleep|clock_nanosleep|time|clock_gettime|gettimeofday|rand|random|srand|rand_r|drand48|getrandom|arc4random|getaddrinfo|gethostbyname|res_query|pthread_create|pthread_mutex_lock|system|popen|execve|execl|execvp|fork|posix_spawn'
# Who may: the file that starts the process, before a shard runs (listening sockets, privileges, the log's file).
excused='^daemon/(main|boot|privileges|listen)[a-z_]*\.c:'

status=0
found=$(find proto queue dns storage daemon -name '*.c' -exec grep -nHE "(^|[^A-Za-z0-9_>.\"])($calls)\(" {} + |
    grep -vE '^[^:]+:[0-9]+:[[:space:]]*(/?\*|//)' | grep -vE "$excused" || true)
# A word in a comment at the end of a line, or in a string, is no call.
while IFS= read -r line; do
    [ -n "$line" ] || continue
    code=$(sed -E 's@/\*.*@@; s@"[^"]*"@@g' <<<"${line#*:*:}")
    grep -qE "(^|[^A-Za-z0-9_>.])($calls)\(" <<<"$code" || continue
    printf '%s\n' "$line"
    status=1
done <<<"$found"
[ $status = 0 ] || echo "these go around the door (core/ring.h, core/file.h, core/clock.h)"

# No test sleeps: it waits for the event instead. A disk that a test plays may be slow, as disks are.
naps=$(find tests -name '*.[ch]' -exec grep -nHE '\b(sleep|usleep|nanosleep)\(' {} + |
    grep -v '^tests/crash/crashfs_ops\.c:.*usleep(fs->delay_us)' || true)
[ -z "$naps" ] || { printf 'a test that sleeps:\n%s\n' "$naps" && status=1; }
naps=$({
    printf '%s\0' check demo
    find tests bench -name '*.sh' -not -path tests/tidy/door.sh -print0
} | xargs -0 grep -nHE '(^|[;&|(]|do|then)[[:space:]]*sleep [0-9]' || true)
[ -z "$naps" ] || { printf 'a script that sleeps (wait_until waits for an event):\n%s\n' "$naps" && status=1; }
exit $status
