#!/usr/bin/env bash
# postfix_inside.sh - the part of postfix.sh that runs inside the private namespaces, as their first process.
set -euo pipefail

home=$1 packages=$2 libraries=$3

mount --bind "$packages" "$home/root"
mount --bind "$home/passwd" /etc/passwd
mount --bind "$home/group" /etc/group
mount -t proc proc /proc

root=$home/root
export LD_LIBRARY_PATH=$libraries MAIL_CONFIG=$home/etc
chown postfix:root "$home/data"
# `postfix check` makes the folders of the queue with their owners.
"$root/usr/sbin/postfix" -c "$home/etc" check
chmod 0711 "$home/queue"
# As a child, not in our place: master changes its effective user, which would undo --kill-child.
"$root/usr/lib/postfix/sbin/master" -c "$home/etc" -d &
wait $!
