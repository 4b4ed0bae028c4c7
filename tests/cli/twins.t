#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# diff of disks that share a file passes over what is the same: it must print what it prints for two that share none.
# Random changes between a base and its overlay, two overlays, two snapshots.
# TWINS=N: N rounds for each file system, and as many with changes that the kernel makes, unmounted or not (root only).
[ "$(id -u)" != 0 ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm # disks are copied again and again
. "$(dirname "$0")/lib.sh"

rounds=${TWINS:-1}

# overlay DISK BASE FILE: what DISK has and BASE has not
overlay() {
    rm -f "$3"
    img create -q -f qcow2 -b "$1" -F raw "$3" && img rebase -b "$2" -F raw "$3"
}

# snapshots BASE OVERLAY DISK: `two.qcow2` has BASE as the snapshot one, and DISK
snapshots() {
    rm -f two.qcow2
    img convert -f raw -O qcow2 "$1" two.qcow2
    img snapshot -q -c one two.qcow2
    img map --output=json "$2" |
        sed -n 's/.*"start": \([0-9]*\), "length": \([0-9]*\), "depth": 0.*/\1 \2/p' |
        while read -r start length; do
            dd if="$3" of="part.$start" iflag=skip_bytes,count_bytes skip="$start" count="$length" bs=1M status=none
            echo "write -q -s part.$start $start $length"
        done >script
    [ -s script ] && qemu-io -f qcow2 two.qcow2 <script >/dev/null
    rm -f part.*
}

same() { # OPTION...: base, one and two as they are, and by what they share
    img diff "$@" -m /dev/sda -a base -A one.raw >want
    img diff "$@" -m /dev/sda -a one.raw -A two.raw >want2
    [ -s want ] && [ -s want2 ] || { say "$*: nothing differs"; return 1; }
    img diff "$@" -m /dev/sda -a base -A one.qcow2 | cmp -s - want || { say "$*: base and overlay"; return 1; }
    img diff "$@" -m /dev/sda -a one.qcow2 -A other.qcow2 | cmp -s - want2 || { say "$*: two overlays"; return 1; }
    img diff "$@" -m /dev/sda -a two.qcow2 --a-snapshot one -A two.qcow2 | cmp -s - want || { say "$*: snapshots"; return 1; }
}

# check_round NAME: base, one.raw and two.raw are made
check_round() {
    overlay one.raw base one.qcow2 && overlay two.raw base other.qcow2 && snapshots base one.qcow2 one.raw || return 1
    same && same --all && same --checksum=sha1 --xattrs && same --atime --dir-times --dir-links
}

# ---- ext, without a kernel: debugfs, and what is written by img itself ----

mkdir -p tree/big tree/a/b/c tree/d
for i in 0 1 2; do head -c $((i * 3000 + 50)) /dev/urandom >source$i; done
for i in $(seq 300); do head -c $((i * 37 % 6000)) /dev/urandom >tree/big/file-$i; done
for i in $(seq 20); do echo "$i" >tree/a/b/$i && cp source$((i % 3)) tree/a/b/c/c$i; done
head -c 900000 /dev/urandom >tree/d/large
find tree -exec touch -h -d 2010-10-10 {} +
find tree -mindepth 1 \( -type d -printf '/%P/\n' \) -o -printf '/%P\n' >files

changed() { # DISK SEED COUNT NEW
    cp --sparse=always "$1" "$4"
    python3 "$top/tests/guest/change-ext.py" files "$2" "$3" >script
    debugfs -w -f script "$4" >/dev/null 2>&1
    img copy-in --format=raw -a "$4" -m /dev/sda source1 /d/ 2>.copy || say "copy-in into $4"
}

ext() { # NAME mke2fs's options...
    name=$1
    shift
    rm -f base
    truncate -s 24M base
    if ! mke2fs -q -d tree "$@" base >/dev/null 2>&1; then
        skip "$name" "mke2fs does not make it"
        return
    fi
    for i in $(seq "$rounds"); do
        changed base "$i" 25 one.raw
        changed one.raw "$i$i" 6 two.raw
        # bytes that no inode tells of
        block=$(debugfs -R 'blocks /d/large' two.raw 2>/dev/null | tr ' ' '\n' | sed -n 20p)
        size=$(debugfs -R 'stats -h' two.raw 2>/dev/null | sed -n 's/^Block size: *//p')
        [ -z "$block" ] || printf 'OTHER' | dd of=two.raw bs=1 seek=$((block * size)) conv=notrunc status=none
        check_round || { ok 1 "$name: round $i"; return; }
    done
    ok 0 "$name"
}

ext ext4 -t ext4
ext "ext4, inline data" -t ext4 -O inline_data -I 512
ext "ext3, blocks of 1 KiB" -t ext3 -b 1024
ext "ext2, inodes of 128 bytes" -t ext2 -I 128

# ---- a journal that is to be replayed: what it holds lies somewhere else ----

rm -f base
truncate -s 24M base
mke2fs -q -t ext4 -d tree base >/dev/null 2>&1
cp base one.raw
cp base copy
debugfs -w -R 'set_inode_field /big/file-5 mtime @5' copy >/dev/null 2>&1
block=$(debugfs -R 'imap /big/file-5' base 2>/dev/null | sed -n 's/.*located at block \([0-9]*\).*/\1/p')
size=$(debugfs -R 'stats -h' base 2>/dev/null | sed -n 's/^Block size: *//p')
dd if=copy of=part bs="$size" skip="$block" count=1 status=none
printf 'jo\njw -b %s part\njc\n' "$block" >script
debugfs -w -f script one.raw >/dev/null 2>&1
cp one.raw two.raw
debugfs -w -R 'set_inode_field /big/file-6 uid 6' copy >/dev/null 2>&1
dd if=copy of=two.raw bs="$size" skip="$block" seek="$block" count=1 conv=notrunc status=none
if dumpe2fs -h one.raw 2>/dev/null | grep -q needs_recovery; then
    overlay one.raw base one.qcow2
    overlay two.raw one.raw other.qcow2
    img diff -a base -A one.raw -m /dev/sda >want
    run img diff -a base -A one.qcow2 -m /dev/sda
    is "$out" "$(cat want)" "what a journal holds"
    has "$out" "/big/file-5" "is seen"
    run img diff -a one.raw -A other.qcow2 -m /dev/sda
    is "$status:$out" "0:" "what a journal hides is not"
else
    skip "journal" "debugfs writes none"
fi

# ---- what is the same is not read: damage there is not seen ----

rm -f base
truncate -s 24M base
mke2fs -q -t ext4 -d tree base >/dev/null 2>&1
debugfs -w -R 'clri /big' base >/dev/null 2>&1
overlay base base none.qcow2
cp base copy
run img diff -a base -A copy -m /dev/sda
is "$status" 1 "a damaged directory, in a copy"
run img diff -a base -A none.qcow2 -m /dev/sda
is "$status:$out:$err" "0::" "in an overlay that has nothing"
debugfs -w -R 'set_inode_field /d/large uid 1' copy >/dev/null 2>&1
overlay copy base none.qcow2
run img diff -a base -A none.qcow2 -m /dev/sda
is "$status" 1 "in one that has something: all directories are read"
truncate -s 0 base
truncate -s 24M base
mke2fs -q -t ext4 -d tree base >/dev/null 2>&1
debugfs -w -R 'clri /big/file-7' base >/dev/null 2>&1
cp base copy
debugfs -w -R 'set_inode_field /d/large uid 1' copy >/dev/null 2>&1
overlay copy base none.qcow2
run img diff -a base -A copy -m /dev/sda
is "$status" 1 "a damaged file, in a copy"
run img diff -a base -A none.qcow2 -m /dev/sda
is "$status:$err:$(echo "$out" | grep -c large)" "0::2" "files that are the same are not read"

# ---- XFS: xfs_db changes inodes and nothing else ----

export TEST_DIR=. TEST_DEV=. QA_CHECK_FS=yes # so that mkfs.xfs makes small ones
xfs_changed() { # DISK NEW COMMAND...: of a file, as NAME:COMMAND
    cp --sparse=always "$1" "$2"
    disk=$2
    shift 2
    for command in "$@"; do
        xfs_db -x -c "path ${command%%:*}" -c "${command#*:}" "$disk" >/dev/null 2>&1
    done
}

{
    printf '/\n0 0\nd--755 0 0\n'
    for dir in one two three; do
        echo "$dir d--755 0 0"
        for i in $(seq 150); do echo "f$i ---644 0 0 source$((i % 3))"; done
        echo '$'
    done
    echo '$'
} >proto
rm -f base
truncate -s 64M base
if mkfs.xfs -q -f -p proto base 2>/dev/null && xfs_db -c 'path /one/f1' base 2>/dev/null; then
    xfs_changed base one.raw '/one/f1:write core.mtime.sec 5' '/two/f100:write core.uid 77' \
        '/three:write core.atime.sec 5' '/three/f50:attr_set -u -v 300 name' '/:write core.gid 5'
    xfs_changed one.raw two.raw '/two/f100:write core.uid 78' '/one/f2:write core.ctime.sec 5' '/:write core.gid 6'
    check "XFS" check_round
    is "$(grep -c '/two/f100' want2)" 2 "of which something is shown"
else
    skip "XFS" "mkfs.xfs does not make it, or xfs_db knows no paths"
fi

# ---- what a kernel changes ----

change() { # DISK SEED COUNT [crash]: the changed disk is in `changed`
    cp --sparse=always "$1" changed
    mount -o loop changed mnt && mounted=$work/mnt || return 1
    python3 "$top/tests/guest/change.py" mnt "$2" "$3"
    good=$?
    [ $# -lt 4 ] || { sync -f mnt && cp --sparse=always changed crashed; }
    umount mnt
    mounted=
    [ $# -lt 4 ] || mv crashed changed
    return $good
}

kernel() { # NAME COMMAND...
    name=$1
    shift
    rm -f base
    truncate -s 128M base
    if ! "$@" base >/dev/null 2>&1 || ! mount -o loop base mnt 2>/dev/null; then
        skip "$name" "it cannot be made and mounted here"
        return
    fi
    mounted=$work/mnt
    "$top/tests/guest/fill" mnt 400
    umount mnt
    mounted=
    for i in $(seq "$rounds"); do
        crash=
        [ $((i % 2)) = 0 ] || crash=crash
        # shellcheck disable=SC2086 # a word or none
        change base "$i" 25 $crash && mv changed one.raw && change one.raw "$i$i" 8 && mv changed two.raw &&
            check_round || { ok 1 "$name: round $i $crash"; return; }
    done
    ok 0 "$name"
}

if [ -n "${TWINS:-}" ] && [ "$(id -u)" = 0 ]; then
    mkdir mnt
    kernel "XFS by the kernel" mkfs.xfs -q -f
    kernel "ext4 by the kernel" mke2fs -q -t ext4 -E lazy_itable_init=0
fi
done_testing
