#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# XFS as this machine's kernel shows it: every form of directory, map, link and attribute, the free space. Version 4,
# which kernels no longer mount, as mkfs.xfs was told to make it. XFS_MATRIX=all: every kind of file system, and large
# trees. What a crash leaves is in guest-crashes.t.
# shellcheck source-path=SCRIPTDIR
[ "$(id -u)" != 0 ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm # a file system is synced again and again
. "$(dirname "$0")/lib.sh"

fsdump=$(dirname "$IMG")/tests/tools/fsdump
guest=$top/tests/guest
export TEST_DIR=. TEST_DEV=. QA_CHECK_FS=yes # so that mkfs.xfs makes small ones
python=python3
[ ! -x /usr/bin/python3 ] || python=/usr/bin/python3
mkdir mnt sources

# ours FILE: what fsdump shows, and the file stays as it is
ours() {
    sha256sum <"$1" >before
    "$fsdump" -f raw "$1" >ours && "$fsdump" -f raw -s "$1" >all.space || return 1
    head -n 1 all.space >ours.space
    sha256sum <"$1" | cmp -s - before
}

without_times() { awk '{ $7 = "-"; print }' "$1"; }

# version4 NAME mkfs.xfs's options...: what a prototype says, and attributes that xfs_db sets
version4() {
    name=$1
    shift
    rm -f disk
    truncate -s 64M disk
    "$python" "$guest/xfs_proto.py" sources proto >wanted
    if ! mkfs.xfs -q -f -m crc=0 -p proto "$@" disk 2>/dev/null; then
        skip "$name" "mkfs.xfs does not make it"
        return
    fi
    check "$name: read, and left as it was" ours disk
    without_times ours | sed 's/ - / /' >ours.plain
    check "$name: every file" cmp ours.plain wanted
    root=$(xfs_db -c sb -c 'print rootino' disk 2>/dev/null | sed 's/.*= //')
    for size in 10 200 1000 3000 9000 65536; do
        for word in one two three; do
            echo "attr_set -u -v $size $word$size"
        done
    done >commands
    (echo "inode $root" && cat commands) | xfs_db -x disk >/dev/null 2>&1
    ours disk
    for size in 10 200 1000 3000 9000 65536; do
        value=$(head -c $size /dev/zero | tr '\0' v | od -An -v -tx1 | tr -d ' \n')
        for word in one two three; do echo "user.$word$size=$value"; done
    done | sort >wanted
    head -n 1 ours | tr ' ' '\n' | grep '^user' | sort >ours.plain
    check "$name: attributes" cmp ours.plain wanted
}

version4 'version 4' -n ftype=0
if [ -n "${XFS_MATRIX:-}" ]; then
    version4 'version 4, types in directories' -n ftype=1
    version4 'version 4, blocks of 512 bytes' -b size=512 -i size=256
    version4 'version 4, blocks of 512 bytes, directories of 4096' -b size=512 -n size=4096
    version4 'version 4, blocks of 64 KiB' -b size=65536 -i size=2048
    version4 'version 4, version 1 of the log' -l version=1
fi

mount_at() { # options file
    mount -o "loop,$1" "$2" mnt 2>/dev/null && mounted=$work/mnt
}
unmount() {
    umount mnt
    mounted=
}

truncate -s 64M probe
mkfs.xfs -q -f probe
if [ "$(id -u)" != 0 ] || ! mount_at ro probe; then
    skip "what the kernel shows" "only root can mount a file system, and not in every container"
    done_testing
fi
unmount

# shown FILE: what the kernel shows of it
shown() {
    mount_at ro "$1" || return 1
    "$python" "$guest/tree.py" mnt >theirs
    stat -f -c '%S %b %f %a %c %d' mnt >theirs.space
    unmount
}

# forms FILE INODE: how its map is kept, and how high the tree is
forms() { xfs_db -r -c "inode $2" -c p "$1" | sed -n 's/^core.format = \([0-9]\).*/\1/p; s/^u3*.bmbt.level = //p' | tr '\n' ' '; }

# tree NAME SIZE mkfs.xfs's options...
tree() {
    name=$1
    size=$2
    rm -f disk
    truncate -s 1G disk
    shift 2
    if ! mkfs.xfs -q -f "$@" disk 2>/dev/null || ! mount_at rw disk; then
        skip "$name" "mkfs.xfs or the kernel does not know it"
        return
    fi
    check "$name: filled" "$python" "$guest/xfs_tree.py" mnt "$size"
    [ "$size" != large ] || set -- "$(stat -c %i mnt/woven/0)" "$(stat -c %i mnt/fragments/deep)"
    unmount
    if [ "$size" = large ]; then
        like "$(forms disk "$1")" '3 [1-9]*' "$name: a directory whose map is a tree"
        like "$(forms disk "$2")" '3 [2-9]*' "$name: a file whose map is a tree of several levels"
    fi
    shown disk
    check "$name: read, and left as it was" ours disk
    check "$name: every file" cmp ours theirs
    check "$name: the space" cmp ours.space theirs.space
}

tree 'defaults' small
if [ -n "${XFS_MATRIX:-}" ]; then
    tree 'large' large
    tree 'large, blocks of 1024 bytes' large -b size=1024
    tree 'blocks of 2 KiB' small -b size=2048 -i size=1024
    tree 'blocks of 16 KiB, directories of 64' small -b size=16384 -n size=65536
    tree 'blocks of 64 KiB' small -b size=65536
    tree 'as it was' small -m bigtime=0,reflink=0 -i nrext64=0,sparse=0
    tree 'large counts' small -i nrext64=1
    tree 'directories of 64 KiB' small -n size=65536
    tree 'directories of 8 KiB, inodes of 2' small -n size=8192 -i size=2048
    tree 'reverse map, sectors of 4 KiB' small -m rmapbt=1,finobt=0 -s size=4096
    tree 'one group' small -d agcount=1 -l size=10m,su=65536
    tree 'another UUID' small -m uuid=11111111-2222-3333-4444-555555555555
fi
done_testing
