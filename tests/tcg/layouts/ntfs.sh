#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# NTFS, written by ntfs-3g and by the kernel's own driver, and shown by both.
# shellcheck source=tests/tcg/guest.sh
. /tests/tcg/guest.sh
load fuse
mkntfs -q -F -f -L one /dev/vda
ntfs-3g -o compression /dev/vda /mnt
python3 "$guest/ntfs-tree.py" /mnt $few
umount /mnt
ntfs-3g -o ro /dev/vda /mnt
echo ntfs-3g ntfs-3g /dev/vda >>/work/compare
python3 "$guest/tree.py" /mnt >/work/ntfs-3g.tree
stat -f -c '%S %b %f %a %c %d' /mnt >/work/ntfs-3g.space
umount /mnt
load ntfs3
shown ntfs3 ntfs /dev/vda /dev/vda umask=0
mkntfs -q -F -f -L two /dev/vdb
mount -t ntfs3 -o umask=0 /dev/vdb /mnt
python3 "$guest/ntfs-tree.py" /mnt $((many * 3 / 2)) --plain
umount /mnt
shown by-ntfs3 ntfs /dev/vdb /dev/vdb umask=0
