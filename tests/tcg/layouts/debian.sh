#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# As Debian is installed: an MBR whose logical partitions hold most of it, ext4 and its elders.
# shellcheck source=tests/tcg/guest.sh
. /tests/tcg/guest.sh
load ext4
sfdisk -q /dev/vda <<'END'
label: dos
start=2048, size=819200, type=83, bootable
start=823296, type=5
start=825344, size=65536, type=82
start=892928, size=131072, type=83
start=1026048, size=131072, type=83
start=1159168, size=131072, type=83
END
grep vda /proc/partitions
for part in "1 ext4 $many" "6 ext4 $few" "7 ext3 $few" "8 ext2 $few"; do
    # shellcheck disable=SC2086 # three words
    set -- $part
    mke2fs -q -F -t "$2" -N $(($3 + 5000)) "/dev/vda$1"
    fill "/dev/vda$1" rw "$guest/fill" /mnt "$3" $hole
    shown "part$1" all "/dev/vda$1" "/dev/vda$1" noatime
done
mkswap -q /dev/vda5
