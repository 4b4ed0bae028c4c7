# SPDX-License-Identifier: GPL-3.0-or-later
# What the scripts in tests/tcg/layouts share. They run in the machine of tests/tcg/boot; their disks are /dev/vda ...;
# what they leave in /work is read by tests/tcg/matrix.t:
#   compare     a line for each filesystem: NAME FILTER VOLUME, which is its name inside the disks
#   NAME.tree   what the kernel shows of it (tests/guest/tree.py)
#   NAME.space  what statfs says
# shellcheck shell=bash disable=SC2034
set -eu
set -x # on the console
export TEST_DIR=. TEST_DEV=. QA_CHECK_FS=yes # so that mkfs.xfs makes small ones
export DM_DISABLE_UDEV=1                     # nobody listens
guest=/tests/guest
# How much is filled in: trees of tests/guest/xfs_tree.py, numbers of files
large=large small=small many=15000 few=300 hole=300000000
[ "$(cat /work/size)" = all ] || large=tiny small=tiny many=100 few=30 hole=10000000
: >/work/compare

load() { /modprobe -a "$@"; }

# fill DEVICE OPTIONS COMMAND...: runs the command while the device is mounted at /mnt
fill() {
    device=$1 options=$2
    shift 2
    mount -o "$options" "$device" /mnt
    "$@"
    umount /mnt
}

# shown NAME FILTER VOLUME DEVICE OPTIONS: what of each line is compared is said in tests/tcg/matrix.t
shown() {
    echo "$1 $2 $3" >>/work/compare
    mount -o "ro,$5" "$4" /mnt
    python3 "$guest/tree.py" /mnt >"/work/$1.tree"
    stat -f -c '%S %b %f %a %c %d' /mnt >"/work/$1.space"
    umount /mnt
}
