#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Files put into a guest's ext filesystem: the kernel shows them as they were here, e2fsck finds nothing, whatever the
# moment of a kill, and what cannot be done leaves the disk as it was. GUEST_KILLS=50: so many kills.
# shellcheck source-path=SCRIPTDIR
[ "$(id -u)" != 0 ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm
. "$(dirname "$0")/lib.sh"

guest=$top/tests/guest
kills=${GUEST_KILLS:-4}
mkdir mnt
can_mount=
! can_mount || can_mount=yes

# sound FILE: e2fsck finds nothing
sound() { e2fsck -fn "$1" >fsck 2>&1; }
# tree FOLDER: everything about what is in it, but for itself
tree() { python3 "$guest/tree.py" "$1" | grep -v '^/ '; }
# inside FILE FOLDER: the same of a folder of the filesystem, as the kernel shows it
inside() {
    mount -o loop,ro "$1" mnt && mounted=$work/mnt
    tree "mnt/$2"
    umount mnt
    mounted=
}
into() { # IMG-COMMAND FILE ARGUMENT...
    command=$1 file=$2
    shift 2
    run "$IMG" "$command" --format=raw -a "$file" -m /dev/sda "$@"
}

# ---- a tree of every kind ----
mkdir -p src/sub src/deep/er/and/deeper src/many
echo one >src/one
echo two >"src/sub/two words"
ln -s one src/link
ln -s "$(printf 'x%.0s' $(seq 200))" src/longlink
ln src/one src/hard
head -c 3000001 /dev/urandom >src/big
truncate -s 5M src/hole && echo end >>src/hole
: >src/empty
printf 'tail' >"src/deep/er/and/deeper/$(printf 'n%.0s' $(seq 250))"
for i in $(seq 300); do echo "$i" >"src/many/file-$i"; done
chmod 4711 "src/sub/two words"
chmod 1777 src/deep
touch -d '2100-01-01 00:00:00.123456789' src/big
touch -h -d @1500000000 src/link
if [ "$(id -u)" = 0 ]; then
    chown 1234:567890 src/big
    mknod src/null c 1 3
    mkfifo src/pipe
    setfattr -n user.comment -v "$(printf 'v%.0s' $(seq 300))" src/one 2>/dev/null
    setfacl -m u:7:rw src/empty 2>/dev/null
    setfacl -d -m g:8:rx src/sub 2>/dev/null
fi
tree src >wanted

kinds='ext4:-t ext4
1k:-t ext4 -b 1024
inline:-t ext4 -O inline_data,metadata_csum_seed,orphan_file
ext3:-t ext3
ext2:-t ext2
no journal:-t ext4 -O ^has_journal'
while IFS=: read -r name options; do
    rm -f a.img && truncate -s 96M a.img
    # shellcheck disable=SC2086 # options are words
    mke2fs -q -F $options a.img 2>mke2fs.err || { skip "$name" "mke2fs here does not know it"; continue; }
    case $name in ext2 | 'no journal') warning='has no journal' ;; *) warning= ;; esac
    into copy-in a.img src /
    like "$status:$err" "0:*$warning*" "$name: a tree goes in"
    [ -n "$warning" ] || is "$err" "" "... without a word"
    check "$name: e2fsck finds nothing" sound a.img
    if [ -n "$can_mount" ]; then
        inside a.img src >there
        check "$name: the kernel shows what was here" cmp there wanted
    else
        skip "$name: as the kernel shows it" "only root can mount a file system"
    fi
    into copy-in a.img src /
    is "$status" 0 "$name: once more, over what is there"
    check "$name: e2fsck finds nothing then" sound a.img
    if [ -n "$can_mount" ]; then
        inside a.img src >there
        check "$name: the same tree" cmp there wanted
    fi
done <<LIST
$kinds
LIST

# ---- a directory that has an index, and grows: its leaves are split, its map becomes a tree ----
mkdir -p old/dir more/dir
for i in $(seq 1000 1600); do
    : >"old/dir/old-$i-with-a-name-of-some-length"
    echo "$i" >"more/dir/new-$i-with-a-name-of-some-length"
done
for options in '-J size=4' '-O ^has_journal'; do
    rm -f a.img && truncate -s 32M a.img
    # shellcheck disable=SC2086 # options are words
    mke2fs -q -F -t ext4 -b 1024 $options -d old a.img && e2fsck -fyD a.img >fsck 2>&1
    into copy-in a.img more/dir /
    is "$status" 0 "$options: many names go into a directory with an index"
    check "$options: e2fsck finds nothing" sound a.img
    if [ -n "$can_mount" ]; then
        mount -o loop,ro a.img mnt && mounted=$work/mnt
        is "$(cat mnt/dir/new-* | cmp - <(seq 1000 1600) && ls mnt/dir | wc -l)" 1202 "$options: the kernel finds all"
        umount mnt && mounted=
    fi
done

# ---- an archive ----
rm -f a.img && truncate -s 64M a.img && mke2fs -q -F -t ext4 a.img
tar -C src -czf src.tar.gz --xattrs --acls .
into tar-in a.img src.tar.gz /
is "$status:$err" 0: "a packed archive goes in"
check "e2fsck finds nothing" sound a.img
is "$(into cat a.img "/sub/two words"; echo "$out")" two "its files are there"
tar -C src -cf - one | "$IMG" tar-in --format=raw -a a.img -m /dev/sda - /many
is "$(into cat a.img /many/one; echo "$out")" one "from the standard input"

# ---- editing ----
printf 'alpha\nbeta\n' >text
into copy-in a.img text /
into edit a.img -e 's/alpha/gamma/' -b .old /text
is "$status:$err" 0: "an expression is done to each line"
is "$(into cat a.img /text /text.old; echo "$out")" "gamma
beta
alpha
beta" "... and the old file kept"
EDITOR="sed -i s/beta/delta/" into edit a.img /text
is "$status:$(into cat a.img /text; echo "$out")" "0:gamma
delta" "an editor"
cp a.img before.img
EDITOR=true into edit a.img /text
is "$status:$out" "0:File not changed." "one that saves nothing"
check "... and the disk is as it was" cmp a.img before.img
check "e2fsck finds nothing" sound a.img

# ---- what cannot be done ----
sum() { sha256sum <a.img; }
before=$(sum)
into copy-in a.img nosuch /
is "$status:$(echo "$err" | wc -l):$(sum)" "1:1:$before" "a source that is missing"
into copy-in a.img text /nosuch
is "$status:$(sum)" "1:$before" "a directory of the guest that is missing"
into copy-in a.img text /text
is "$status:$(sum)" "1:$before" "one that is a file"
head -c 80000000 /dev/urandom >huge
into copy-in a.img huge /
is "$status:$(echo "$err" | wc -l)" "1:1" "what does not fit"
has "$err" "No space left" "... says so"
into ls a.img /
is "$(echo "$out" | grep -c huge)" 0 "... and is not there"
check "... nor damaged anything" sound a.img
before=$(sum)
printf '../outside\n' >list && mkdir -p t && echo x >outside && (cd t && tar -cPf ../evil.tar -T ../list)
into tar-in a.img evil.tar /many
is "$status:$(sum)" "1:$before" "an archive whose names lead out"
head -c 3000 /dev/zero | tr '\0' x >bad.tar
into tar-in a.img bad.tar /
is "$status:$(sum)" "1:$before" "what is no archive"
into edit a.img -e 's/a/b/' /nosuch
is "$status:$(sum)" "1:$before" "a file that is missing is not edited"
into edit a.img -e 's/a/b/' /many
is "$status:$(sum)" "1:$before" "nor is a directory"
into copy-in a.img --dry-run text outside /
is "$status:$out:$(sum)" "0:= /text
+ /outside:$before" "a dry run tells what it would do"
rm -f x.img && truncate -s 300M x.img && mkfs.xfs -q x.img && cp --sparse=always x.img x2.img
into copy-in x.img text /
is "$status:$(echo "$err" | grep -c 'only be read')" 1:1 "a filesystem that is only read says so"
check "... and stays as it is" cmp x.img x2.img

# ---- killed ----
if [ -n "$can_mount" ]; then
    rm -f base.img && truncate -s 200M base.img && mke2fs -q -F -t ext4 -J size=4 base.img
    into copy-in base.img src /
    mkdir lots && for i in $(seq 40); do cp -r src/many "lots/$i"; done
    bad=0
    for i in $(seq "$kills"); do
        cp --sparse=always base.img a.img
        setsid "$IMG" copy-in --format=raw -a a.img -m /dev/sda lots / 2>/dev/null &
        victim=$!
        sleep "0.$(printf %03d $((RANDOM % 900)))"
        kill -9 -- "-$victim" 2>/dev/null
        wait "$victim" 2>/dev/null
        mount -o loop a.img mnt || { say "$i: it cannot be mounted"; bad=1; break; }
        mounted=$work/mnt
        tree mnt/src | cmp -s - wanted || { say "$i: old files have changed"; bad=1; }
        umount mnt && mounted=
        sound a.img || { say "$i: $(grep -v ^Pass fsck | head -n 3)"; bad=1; }
    done
    ok $bad "killed at any of $kills moments it is sound after a mount, and old files are as they were"
else
    skip "killed at any moment" "only root can mount a file system"
fi
done_testing
