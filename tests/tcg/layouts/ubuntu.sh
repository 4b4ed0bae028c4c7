#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# As Ubuntu's images are: a GPT with the system first and the small partitions, EFI's among them, numbered behind it.
# shellcheck source=tests/tcg/guest.sh
. /tests/tcg/guest.sh
load ext4 vfat nls_cp437 nls_iso8859_1 nls_utf8
sgdisk -n 14:2048:+4M -t 14:ef02 -n 15:0:+106M -t 15:ef00 -n 16:0:+100M -t 16:8300 -n 1:0:0 -t 1:8300 /dev/vda >/dev/null
grep vda /proc/partitions
mke2fs -q -F -t ext4 -N 20000 /dev/vda1
fill /dev/vda1 rw "$guest/fill" /mnt $many $hole
shown root all /dev/vda1 /dev/vda1 noatime
mke2fs -q -F -t ext4 /dev/vda16
fill /dev/vda16 rw "$guest/fill" /mnt $few $hole
shown boot all /dev/vda16 /dev/vda16 noatime
mkfs.vfat -F 32 -s 1 -n UEFI /dev/vda15 >/dev/null
fill /dev/vda15 utf8=1,umask=022,tz=UTC python3 "$guest/fat-tree.py" /mnt $few
shown esp all /dev/vda15 /dev/vda15 utf8=1,umask=022,tz=UTC
