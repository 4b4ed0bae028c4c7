#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# FAT of each width, with the names that Linux gives files there.
# shellcheck source=tests/tcg/guest.sh
. /tests/tcg/guest.sh
load vfat nls_cp437 nls_iso8859_1 nls_utf8
options=utf8=1,umask=022,tz=UTC
one() { # NAME DEVICE WIDTH FILES mkfs.vfat's options...
    name=$1 device=$2 width=$3 files=$4
    shift 4
    mkfs.vfat -F "$width" -n "LABEL $width" "$@" "$device" >/dev/null
    fill "$device" "$options" python3 "$guest/fat-tree.py" /mnt "$files"
    shown "$name" all "$device" "$device" "$options"
}
one fat12 /dev/vda 12 $few
one fat16 /dev/vdb 16 $((many / 5))
one fat32 /dev/vdc 32 $many -s 1
