#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# As CentOS 7 is installed: an MBR, XFS for /boot, and LVM with XFS in logical volumes of every kind, over two disks.
# shellcheck source=tests/tcg/guest.sh
. /tests/tcg/guest.sh
load xfs dm-mod dm-raid dm-mirror
parted -s -- /dev/vda mklabel msdos mkpart primary xfs 1MiB 80MiB set 1 boot on mkpart primary 80MiB 100% set 2 lvm on
mkdir -p /etc/lvm
cat >/etc/lvm/lvm.conf <<'END'
devices { use_devicesfile = 0 }
global { locking_dir = "/run/lvm" }
backup { backup = 0 archive = 0 }
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
END
mkfs.xfs -q -f -m crc=0 /dev/vda1
fill /dev/vda1 rw python3 "$guest/xfs_tree.py" /mnt $small
shown boot all /dev/vda1 /dev/vda1 noatime
pvcreate -q /dev/vda2 /dev/vdb
vgcreate -q centos /dev/vda2 /dev/vdb
lvcreate -q -y -L 300M -n root centos /dev/vda2
lvcreate -q -y -L 32M -n swap centos
mkswap -q /dev/centos/swap
lvcreate -q -y -L 120M -i 2 -I 64k -n home centos
lvcreate -q -y -L 100M --type raid1 -m 1 -n var centos
lvcreate -q -y -L 100M --type mirror -m 1 --mirrorlog core -n srv centos
lvcreate -q -y -L 64M -n opt centos /dev/vda2
lvextend -q -L 128M /dev/centos/opt /dev/vdb # two pieces on two disks
for lv in root home var srv opt; do
    checksums=0 files=$small
    [ $lv != root ] || files=$large
    [ $lv != var ] || checksums=1
    mkfs.xfs -q -f -m crc=$checksums /dev/centos/$lv
    fill /dev/centos/$lv rw python3 "$guest/xfs_tree.py" /mnt $files
    shown $lv all /dev/centos/$lv /dev/centos/$lv noatime
done
lvs -a --noheadings -o lv_name,segtype,devices,sync_percent
vgchange -q -an centos
