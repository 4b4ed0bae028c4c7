#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Who holds an image that is in use: the message names the process, where it may be seen, and the way to read anyway.
. "$(dirname "$0")/lib.sh"

qemu-img create -q -f qcow2 a.qcow2 1M
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2
qemu-img create -q -f raw a.raw 1M
hold a.qcow2
pid=$(pgrep -P $$ qemu-io 2>/dev/null || echo "$holder")
for command in 'info a.qcow2' 'check a.qcow2' 'map a.qcow2' 'compare a.qcow2 a.qcow2' 'convert a.qcow2 t' 'measure a.qcow2' \
    'dd if=a.qcow2 of=t' 'bench a.qcow2' 'map over.qcow2'; do
    # shellcheck disable=SC2086 # words are meant to be split
    run img $command
    has "$err" 'Failed to get shared "write" lock
Is another process using the image [a.qcow2]? (qemu-io, pid = '"$pid"'; -U reads it anyway)' "$command names the holder"
done
for command in 'check -r all a.qcow2' 'bench -w a.qcow2' 'convert -n -O qcow2 a.raw a.qcow2'; do
    # shellcheck disable=SC2086
    run img $command
    has "$err" 'Failed to get "write" lock
Is another process using the image [a.qcow2]? (qemu-io, pid = '"$pid"')' "$command as well"
done
run img map -U over.qcow2
is "$status" 0 "-U reads it anyway"
release
hold -r a.qcow2
run img info a.qcow2
is "$status" 0 "two may read"
run img bench -w -c 1 a.qcow2
has "$err" '(qemu-io, pid = ' "but not write beside it, and the reader is named"
release
run img bench -w -c 1 a.qcow2
is "$status" 0 "nobody holds it any more"
done_testing
