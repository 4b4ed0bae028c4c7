#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# ext2, ext3 and ext4 as this machine's kernel shows them: every kind of file, contents and attributes, the free space.
# EXT_MATRIX=all: every kind of file system, and large trees. What a crash leaves is in guest-crashes.t.
# shellcheck source-path=SCRIPTDIR
[ "$(id -u)" != 0 ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm # a file system is synced again and again
. "$(dirname "$0")/lib.sh"

fsdump=$(dirname "$IMG")/tests/tools/fsdump
guest=$top/tests/guest
mkdir mnt
truncate -s 4M probe
mke2fs -q -F probe
if [ "$(id -u)" != 0 ] || ! mount -o loop,ro probe mnt 2>/dev/null; then
    echo "1..0 # skip only root can mount a file system, and not in every container"
    exit 0
fi
umount mnt

mount_at() { # options file
    mount -o "loop,$1" "$2" mnt && mounted=$work/mnt
}
unmount() {
    umount mnt
    mounted=
}

# shown FILE: what the kernel shows of it goes to theirs, theirs.space
shown() {
    mount_at "$1" "$2" || return 1
    python3 "$guest/tree.py" mnt >theirs
    stat -f -c '%S %b %f %a %c %d' mnt >theirs.space
    unmount
}
# ours FILE: what fsdump shows, and the file stays as it is
ours() {
    sha256sum <"$1" >before
    "$fsdump" -f raw "$1" >ours && "$fsdump" -f raw -s "$1" >all.space || return 1
    head -n 1 all.space >ours.space
    sha256sum <"$1" | cmp -s - before
}

# tree NAME SIZE FILES mke2fs's options...
tree() {
    name=$1
    files=$3
    rm -f disk
    truncate -s "$2" disk
    shift 3
    if ! mke2fs -q -F "$@" disk 2>/dev/null || ! mount_at rw disk 2>/dev/null; then
        skip "$name" "mke2fs or the kernel does not know it"
        return
    fi
    check "$name: filled" "$guest/fill" mnt "$files"
    unmount
    shown ro disk
    check "$name: read, and left as it was" ours disk
    check "$name: every file" cmp ours theirs
    check "$name: the space" cmp ours.space theirs.space
    run e2fsck -fn disk
    is "$status" 0 "$name: e2fsck has nothing to say"
    if [ "$name$files" = ext415000 ]; then
        like "$(debugfs -R 'ex -n "/a/many pieces"' disk 2>/dev/null | sed -n 's,^ *0/ *\([0-9]\).*,\1,p')" '[2-9]*' \
            "$name: a file whose map is a tree of several levels"
    fi
}

files=300 size=24M
[ -z "${EXT_MATRIX:-}" ] || files=15000 size=400M
tree "ext2, 1 KiB" "$size" "$files" -t ext2 -b 1024 -N 20000
tree "ext4" "$size" "$files" -t ext4 -b 4096 -N 20000
tree "inline data" "$size" "$files" -t ext4 -O inline_data,metadata_csum_seed -b 4096 -N 20000
tree "clusters, large values" "$size" "$files" -t ext4 -O bigalloc,ea_inode,orphan_file -C 16384 -b 4096 -N 20000
if [ -n "${EXT_MATRIX:-}" ]; then
    tree "ext2, 4 KiB" "$size" "$files" -t ext2 -b 4096
    tree "ext2, small inodes" "$size" "$files" -t ext2 -I 128
    tree "ext2, revision 0" "$size" "$files" -t ext2 -r 0
    tree "ext3" "$size" "$files" -t ext3
    tree "ext4, 1 KiB" "$size" "$files" -t ext4 -b 1024 -N 20000
    tree "ext4, 2 KiB" "$size" "$files" -t ext4 -b 2048 -N 20000
    tree "ext4, small inodes" "$size" "$files" -t ext4 -I 128
    tree "ext4, large inodes" "$size" "$files" -t ext4 -I 1024
    tree "meta_bg" "$size" "$files" -t ext4 -O meta_bg,^resize_inode -b 1024 -N 20000
    tree "ea_inode" "$size" "$files" -t ext4 -O ea_inode
    tree "large_dir" "$size" "$files" -t ext4 -O large_dir
    tree "inline data, 1 KiB" "$size" "$files" -t ext4 -O inline_data -b 1024 -I 512 -N 20000
    tree "orphan_file" "$size" "$files" -t ext4 -O orphan_file
    tree "no extents" "$size" "$files" -t ext4 -O ^extents,^64bit -N 20000
    tree "no 64bit" "$size" "$files" -t ext4 -O ^64bit
    tree "no checksums" "$size" "$files" -t ext4 -O ^metadata_csum
    tree "checksums of groups alone" "$size" "$files" -t ext4 -O ^metadata_csum,uninit_bg
    tree "no journal" "$size" "$files" -t ext4 -O ^has_journal
    tree "no index" "$size" "$files" -t ext4 -O ^dir_index
    tree "no types" "$size" "$files" -t ext4 -O ^filetype
    tree "flex_bg off" "$size" "$files" -t ext4 -O ^flex_bg
    tree "project, quota" "$size" "$files" -t ext4 -O project,quota
    tree "encryption, verity" "$size" "$files" -t ext4 -O encrypt,verity
fi

# Blocks of a directory that are in the journal, taken away and used for a file: what the journal has of them must not
# come back.
rm -f disk copy
truncate -s 16M disk
mke2fs -q -F -t ext4 -b 1024 -m 0 -J size=4 -N 64 disk
mount_at rw disk
python3 - <<'END'
import os
def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
open('mnt/one', 'w').close()
os.mkdir('mnt/dir')
with open('mnt/full', 'wb') as f:
    while os.statvfs('mnt').f_bavail > 300:
        f.write(b'f' * 65536)
        f.flush()
        os.fsync(f.fileno())
for i in range(1500):
    os.link('mnt/one', 'mnt/dir/%d%s' % (i, 'n' * 100))
sync('mnt/dir')
for name in os.listdir('mnt/dir'):
    os.unlink('mnt/dir/' + name)
os.rmdir('mnt/dir')
sync('mnt')
with open('mnt/after', 'wb', buffering=0) as f:
    try:
        while True:
            f.write(b'after' * 1000)
    except OSError:
        pass
    os.fsync(f.fileno())
END
cp --sparse=always disk copy
cp --sparse=always copy crashed
unmount
check "revoked blocks: read, and left as it was" ours copy
shown noatime copy
check "revoked blocks: as after recovery" cmp ours theirs
has "$(cat all.space)" "replayed" "revoked blocks: there was something to replay"

# The last commit, of which only the first sector reached the disk, counts, as for the kernel. One that is damaged in its
# front does not; the kernel refuses the whole journal then.
block=$(debugfs -R logdump crashed 2>/dev/null | sed -n 's/.*(commit block) at block //p' | tail -n 1)
place=$(($(debugfs -R "bmap <8> $block" crashed 2>/dev/null) * 1024))
mv ours whole
cp --sparse=always crashed torn
poke torn $((place + 20)) '\377\377\377'
check "damaged commit: read, and left as it was" ours torn
check "damaged commit: what it commits is missing" eval '! cmp -s ours whole'
cp --sparse=always crashed torn
poke torn $((place + 512)) '\377\377\377'
check "torn commit: read, and left as it was" ours torn
check "torn commit: nothing is missing" cmp ours whole
shown noatime torn
check "torn commit: as after recovery" cmp ours theirs

# names under a key that is not there
rm -f disk
truncate -s 24M disk
mke2fs -q -F -t ext4 -b 4096 -O encrypt disk
mount_at rw disk
run python3 "$guest/encrypt.py" mnt 300
unmount
if [ "$status" = 77 ]; then
    skip "encryption" "the kernel does not know it: $err"
else
    is "$status" 0 "encryption: filled"
    mount_at ro disk
    python3 "$guest/tree.py" mnt --no-contents >theirs
    unmount
    "$fsdump" -f raw -n disk >ours
    check "encryption: names as the kernel shows them without the key" cmp ours theirs
    run "$fsdump" -f raw disk
    has "$err" "The file is encrypted and there is no key for it" "encryption: contents are not read, and why"
fi

# what is not read says why
rm -f disk
truncate -s 8M disk
mke2fs -q -F -O journal_dev -b 4096 disk
run "$fsdump" -f raw disk
is "$status" 1 "a journal alone is not read"
has "$err" "This is the journal of an ext filesystem" "... and that is said"
done_testing
