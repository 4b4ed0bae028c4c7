#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Writing an ext filesystem of a guest that was cut off: what it had begun to end is ended first, and what its journal
# holds is kept. Copies of mounted filesystems are taken as a crash would leave them; e2fsck judges what is written then.
# shellcheck source-path=SCRIPTDIR
[ "$(id -u)" != 0 ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm
. "$(dirname "$0")/lib.sh"

mkdir mnt base
echo hello >new
head -c 100000 /dev/urandom >base/file
head -c 60000 /dev/urandom >base/other
can_mount=
! can_mount || can_mount=yes

sound() { e2fsck -fn "$1" >fsck 2>&1 || { head -n 20 fsck >&2; return 1; }; }
put() { run "$IMG" copy-in --format=raw -a "$1" -m /dev/sda new /; }
make() { rm -f a.img && truncate -s 64M a.img && mke2fs -q -F -t ext4 -d base "$@" a.img; }
number() { debugfs -R "stat $1" a.img 2>/dev/null | sed -n 's/^Inode: *\([0-9]*\).*/\1/p'; }
change() { printf '%s\n' "$@" | debugfs -w -f - a.img >debugfs 2>&1; }
mount_it() { mount -o loop"${2:+,$2}" "$1" mnt && mounted=$work/mnt; }
umount_it() { umount mnt && mounted=; }

# ---- files that were open, and have no name any more ----
while IFS=: read -r name options; do
    [ -n "$can_mount" ] || { skip "$name: open files" "only root can mount a file system"; continue; }
    # shellcheck disable=SC2086 # options are words
    make $options
    mount_it a.img
    head -c 3000000 /dev/urandom >mnt/large
    mkdir mnt/dir && setfattr -n user.long -v "$(printf 'v%.0s' $(seq 900))" mnt/other
    free=$(stat -f -c %f mnt)
    exec 5<mnt/large 6<mnt/other 7<mnt/dir
    rm mnt/large mnt/other && rmdir mnt/dir
    sync -f mnt && cp --sparse=always a.img crash.img
    exec 5<&- 6<&- 7<&-
    umount_it
    has "$(dumpe2fs -h crash.img 2>/dev/null)" rphan "$name: the copy has orphans"
    put crash.img
    is "$status:$err" 0: "$name: it is written"
    check "$name: e2fsck finds nothing" sound crash.img
    mount_it crash.img ro
    is "$(ls mnt):$(cat mnt/new)" "file
lost+found
new:hello" "$name: they are gone"
    check "$name: their blocks are free" [ "$(stat -f -c %f mnt)" -gt $((free + 2900000 / $(stat -f -c %S mnt))) ]
    umount_it
done <<'LIST'
a list:-O ^orphan_file
a list, blocks by numbers:-b 1024 -O ^orphan_file,^extents,^64bit
a file:-O orphan_file
a file, small blocks:-b 1024 -O orphan_file,metadata_csum_seed,inline_data
LIST

# ---- files that were being cut ----
for options in '-b 4096' '-b 1024 -O ^extents,^64bit'; do
    # shellcheck disable=SC2086 # options are words
    make $options
    change "sif /file size 3000" "ssv last_orphan $(number /file)"
    put a.img
    is "$status:$err" 0: "$options: it is written"
    check "$options: e2fsck finds nothing" sound a.img
    debugfs -R 'cat /file' a.img 2>/dev/null | cmp -s - <(head -c 3000 base/file)
    ok $? "$options: what is left of the file"
    block=$(debugfs -R 'bmap /file 2' a.img 2>/dev/null)
    [ "$options" = '-b 4096' ] && block=$(debugfs -R 'bmap /file 0' a.img 2>/dev/null)
    size=${options#-b } && size=${size%% *}
    is "$(dd if=a.img bs="$size" skip="$block" count=1 2>/dev/null | tail -c $((size - 3000 % size)) | tr -d '\0' | wc -c)" \
        0 "$options: nothing lies behind its end"
done

# ---- fast commits ----
tree() { python3 "$top/tests/guest/tree.py" "$1" | sed -E '/^\/ /d; s|^(\S+) 4(\S+) .*|\1 4\2|'; } # of folders the mode alone
work_on() {
    python3 - "$1" <<'END'
import os, random, subprocess, sys
random.seed(int(sys.argv[1]))
def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
def write(path, count, offset=None):
    with open(path, 'wb' if offset is None else 'r+b') as f:
        f.seek(offset or 0)
        f.write(os.urandom(count))
        f.flush()
        os.fsync(f.fileno())
for n in range(12):
    new, old = 'mnt/d/n%s-%d' % (sys.argv[1], n), 'mnt/d/f%d' % random.randrange(12)
    write(new, random.choice([10, 4000, 50000]))
    if n % 6 == 0:
        os.mkdir(new + 'd')
        write(new + 'd/x', 100)
    elif not os.path.exists(old):
        continue
    elif n % 6 == 1:
        os.unlink(old)
    elif n % 6 == 2:
        os.rename(old, 'mnt/r%s-%d' % (sys.argv[1], n))
    elif n % 6 == 3:
        os.link(old, 'mnt/l%s-%d' % (sys.argv[1], n))
    elif n % 6 == 4:
        write(old, 3000, os.path.getsize(old) + 9000)
        os.truncate(old, os.path.getsize(old) // 2 * 2 - 5000)
    else:
        os.rename(new, old)
write('mnt/end', 1)
END
}
for options in '-b 4096' '-b 1024 -O inline_data'; do
    [ -n "$can_mount" ] || { skip "$options: fast commits" "only root can mount a file system"; continue; }
    # shellcheck disable=SC2086 # options are words
    make -O fast_commit -J size=8 $options 2>/dev/null || { skip "$options: fast commits" "mke2fs here does not know them"; continue; }
    mount_it a.img commit=300
    mkdir mnt/d && for i in $(seq 0 11); do head -c $((i * 3000)) /dev/urandom >mnt/d/f$i; done
    sync -f mnt
    for seed in 1 2; do
        work_on $seed && cp --sparse=always a.img crash$seed.img
    done
    umount_it
    for seed in 1 2; do
        cp --sparse=always crash$seed.img kernel.img
        put crash$seed.img
        is "$status:$err" 0: "$options, $seed: it is written"
        check "$options, $seed: e2fsck finds nothing" sound crash$seed.img
        mount_it kernel.img && tree mnt >wanted && umount_it
        mount_it crash$seed.img ro && tree mnt | grep -v '^/new ' >there && umount_it
        check "$options, $seed: all that the kernel shows" cmp wanted there
    done
done

# ---- lists that are wrong ----
wrong() { # WHAT PATTERN: nothing is written
    cp --sparse=always a.img before.img
    put a.img
    like "$status:$err" "1:*$2*" "$1"
    check "... and nothing is written" cmp a.img before.img
}
make
file=$(number /file) other=$(number /other)
change "ssv last_orphan $file" "sif /file dtime $other" "sif /other dtime $file" "sif /other size 100"
put a.img
is "$status:$err" 0: "a circle of files that are cut"
check "... is sound then" sound a.img
make
change "sif /file links_count 0" "sif /other links_count 0" "ssv last_orphan $file" "sif /file dtime $other" \
    "sif /other dtime $file"
wrong "a circle of files that go" "cannot be"
make && change "ssv last_orphan 2"
wrong "the root" "cannot be"
make && change "ssv last_orphan 4000000"
wrong "an inode that there is not" "cannot be"
make && change "ssv last_orphan $((other + 5))"
wrong "an inode that is not in use" "cannot be"
make && change "freeb $(debugfs -R 'bmap /file 3' a.img 2>/dev/null)" "sif /file links_count 0" "ssv last_orphan $file"
wrong "blocks that are not in use" "not in use"
if make -b 4096 -O orphan_file 2>/dev/null; then
    orphans=$(dumpe2fs -h a.img 2>/dev/null | sed -n 's/^Orphan file inode: *//p')
    block=$(debugfs -R "bmap <$orphans> 0" a.img 2>/dev/null)
    change "feature orphan_present"
    put a.img
    is "$status:$err" 0: "a file of orphans that has none"
    check "... is sound then" sound a.img
    make -b 4096 -O orphan_file && change "feature orphan_present"
    printf x | dd of=a.img bs=1 seek=$((4096 * block + 8)) conv=notrunc status=none
    wrong "a file of orphans that is damaged" "damaged"
else
    skip "a file of orphans" "mke2fs here does not know it"
fi
done_testing
