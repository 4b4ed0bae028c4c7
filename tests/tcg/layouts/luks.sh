#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Filesystems behind dm-crypt, opened by cryptsetup: of both versions, with every size of sectors, and LVM in it.
# shellcheck source=tests/tcg/guest.sh
. /tests/tcg/guest.sh
load ext4 xfs dm-mod dm-crypt
printf 'open sesame' >/run/key
# opened DEVICE cryptsetup's options...: then it is /dev/mapper/open, and $uuid is its own
opened() {
    device=$1
    shift
    cryptsetup luksFormat -q --pbkdf-force-iterations "${iterations:-1000}" "$@" "$device" /run/key
    cryptsetup open --key-file /run/key "$device" open
    uuid=$(cryptsetup luksUUID "$device")
}
opened /dev/vda --type luks1
mke2fs -q -F -t ext4 /dev/mapper/open
fill /dev/mapper/open rw "$guest/fill" /mnt $few $hole
shown luks1 all "/dev/mapper/luks-$uuid" /dev/mapper/open noatime
cryptsetup close open
opened /dev/vdb --type luks2 --pbkdf pbkdf2 --sector-size 4096
mkfs.xfs -q -f -s size=4096 /dev/mapper/open
fill /dev/mapper/open rw python3 "$guest/xfs_tree.py" /mnt $small
shown luks2 all "/dev/mapper/luks-$uuid" /dev/mapper/open noatime
cryptsetup close open
iterations=4
opened /dev/vdc --type luks2 --pbkdf argon2id --pbkdf-memory 64 --sector-size 512 -c aes-cbc-essiv:sha256 -s 256
mkdir -p /etc/lvm
echo 'devices { use_devicesfile = 0 } global { locking_dir = "/run/lvm" } backup { backup = 0 archive = 0 }
    activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }' >/etc/lvm/lvm.conf
pvcreate -q /dev/mapper/open
vgcreate -q inside /dev/mapper/open
lvcreate -q -y -l 100%FREE -n root inside
mke2fs -q -F -t ext4 /dev/inside/root
fill /dev/inside/root rw "$guest/fill" /mnt $few $hole
shown lvm-in-luks all /dev/inside/root /dev/inside/root noatime
vgchange -q -an inside
cryptsetup close open
