#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# XFS as it was before its checksums: a large tree, and small ones in every variant that mkfs.xfs makes.
# shellcheck source=tests/tcg/guest.sh
. /tests/tcg/guest.sh
load xfs
# one NAME DEVICE SIZE mkfs.xfs's options...
one() {
    name=$1 device=$2 size=$3
    shift 3
    mkfs.xfs -q -f -m crc=0 "$@" "$device"
    fill "$device" rw python3 "$guest/xfs_tree.py" /mnt "$size"
    shown "$name" all "$device" "$device" noatime
}
one large /dev/vda $large -n ftype=0
one types /dev/vdb $small -n ftype=1
one small-blocks /dev/vdc $small -b size=1024 -n size=4096
one old-log /dev/vdd $small -l version=1 -i attr=1,projid32bit=0
one lazy /dev/vde $small -i size=1024 -l lazy-count=0
