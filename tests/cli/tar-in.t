#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# tar-in and copy-in: archives as no tar would make them, files named twice, and what a filesystem cannot have. Whatever
# comes, e2fsck finds nothing, and what fails leaves the disk as it was.
# shellcheck source-path=SCRIPTDIR
[ "$(id -u)" != 0 ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm
. "$(dirname "$0")/lib.sh"

guest=$top/tests/guest
archive() { python3 "$guest/archive.py" "$1"; }
sound() { e2fsck -fn "$1" >fsck 2>&1; }
names() { img ls --format=raw -a "$1" -m /dev/sda / | tr '\n' ' ' | sed 's/ $//'; } # of the root
fresh() { # FILE SIZE MKE2FS-OPTION...: the same each time
    rm -f "$1" && truncate -s "$2" "$1"
    file=$1
    shift 2
    mke2fs -q -F "$@" "$file"
}
into() { # IMG-COMMAND FILE ARGUMENT...
    command=$1 file=$2
    shift 2
    run "$IMG" "$command" --format=raw -a "$file" -m /dev/sda "$@"
}
# inode FILE PATH: type, mode, owner, number of links, size
inode() {
    debugfs -R "stat $2" "$1" 2>/dev/null | tr '\n' ' ' |
        sed 's/.*Type: \([a-z]*\).*Mode: *\([0-7]*\).*User: *\([0-9]*\).*Size: *\([0-9]*\).*Links: *\([0-9]*\).*/\1 \2 \3 \5 \4/'
}

# ---- links to themselves ----
fresh a.img 16M -t ext4
archive self.tar <<'LIST'
f 600 5 x content
h 600 5 x x
LIST
into tar-in a.img self.tar /
is "$status:$err:$(inode a.img /x)" "0::regular 0600 5 1 8" "a hard link to itself changes nothing"
check "... and e2fsck finds nothing" sound a.img
mkdir h1 h2 && echo one >h1/x && ln h1/x h2/x
into copy-in a.img h1/x h2/x /
is "$status:$err:$(inode a.img /x | cut -d' ' -f1,4)" "0::regular 1" "two names of one file, alike at their ends"
check "... and e2fsck finds nothing" sound a.img
into copy-in a.img h1/x h1/x /
is "$status:$err:$(into cat a.img /x; echo "$out")" "0::one" "one file named twice"
check "... and e2fsck finds nothing" sound a.img

# ---- links where a directory is: what comes later would get its inode, and its attributes ----
fresh a.img 16M -t ext4
archive dir.tar <<'LIST'
f 600 5 f content
d 777 99 d
h 600 5 d f
f 600 5 victim content
LIST
into tar-in a.img dir.tar /
is "$status:$(names a.img)" "1:lost+found" "a hard link does not take a directory's place"
has "$err" "is a directory" "... and that is said"
check "e2fsck finds nothing" sound a.img

# ---- what the guest mounts and cannot be written: nothing goes to the directory below it ----
mkdir -p root/etc root/bin root/boot root/data root/sub && echo one >h
printf '%s\n' '/dev/sda / ext4 defaults 0 0' '/dev/sdb /boot xfs defaults 0 0' '/dev/sdc /data ext4 defaults 0 0' \
    '/dev/sdd /nosuch ext4 defaults 0 0' >root/etc/fstab
fresh r.img 16M -t ext4 -d root
truncate -s 300M x.img && mkfs.xfs -q x.img && truncate -s 16M n.img && cp n.img n2.img
copy_in() { run "$IMG" copy-in --format=raw -a r.img -a x.img -a n.img -a n2.img "$@"; }
copy_in h /boot
is "$status" 1 "a volume that is only read is not written"
has "$err" "/dev/sdb is mounted on /boot for reading only: XFS" "... it is mounted for reading, and that is said"
like "$(debugfs -R 'ls -p /boot' r.img 2>/dev/null)" "*/../*" "... the directory below it"
is "$(debugfs -R 'ls -p /boot' r.img 2>/dev/null | grep -c h/)" 0 "... stays as it was"
copy_in h /data
is "$status" 1 "a volume that cannot be read is not written"
has "$err" "/dev/sdc is not mounted on /data" "... and that is said"
copy_in h /data/deep
has "$err" "/data/deep: /dev/sdc" "... nor what is below it"
is "$(debugfs -R 'ls -p /data' r.img 2>/dev/null | grep -c h/)" 0 "the directory below it stays as it was"
copy_in h /sub
is "$status" 0 "elsewhere files can be put"
check "e2fsck finds nothing" sound r.img

# ---- files that are longer than they can be ----
while IFS=: read -r options fits more; do
    # shellcheck disable=SC2086 # options are words
    fresh a.img 16M $options
    echo "l 600 0 large $more" | archive large.tar
    into tar-in a.img large.tar /
    is "$status:$(names a.img)" "1:lost+found" "mke2fs $options: a file of $more bytes is refused"
    has "$err" "A file of $more bytes is longer than the" "... and that is said"
    check "... e2fsck finds nothing" sound a.img
    echo "l 600 0 large $fits" | archive large.tar
    into tar-in a.img large.tar /
    is "$status:$err:$(inode a.img /large)" "0::regular 0600 0 1 $fits" "a file of $fits bytes is not"
    check "... e2fsck finds nothing" sound a.img
done <<'LIST'
-t ext4 -b 4096:17592186040320:1152921504606846976
-t ext4 -b 1024:4398046510080:21990232555520
-t ext3 -b 4096 -J size=4:2199023251456:21990232555520
-t ext4 -b 1024 -O ^extent,^64bit:17247252480:17247252481
LIST

# ---- more than the journal holds, and then too much ----
fresh a.img 16M -t ext4 -b 1024 -J size=1 -N 4000
mkdir lots && (cd lots && for i in $(seq 2400); do echo >"file-$i"; done)
head -c 20000000 /dev/zero | tr '\0' x >huge
into copy-in a.img lots huge /
is "$status" 1 "a large copy that does not fit at its end"
has "$err" "No space left" "... says so"
there=$(echo "$err" | sed -n 's/.*in the guest already: \([0-9]*\) files.*/\1/p')
is "$there" "$(into ls a.img -R /; echo "$out" | grep -c lots)" "... and how much is there already"
check "e2fsck finds nothing" sound a.img

# ---- links of an archive lead its own files nowhere ----
mkdir -p sys/etc sys/sub && echo root >sys/etc/passwd
while read -r target; do
    fresh a.img 16M -t ext4 -d sys
    archive esc.tar <<LIST
s 777 0 a $target
f 644 99 a/passwd owned
LIST
    into tar-in a.img esc.tar /sub
    is "$status:$(into cat a.img /etc/passwd; echo "$out")" "1:root" "a link to $target leads no file there"
    has "$err" "/sub/a: Not a directory" "... and that is said"
    archive links.tar <<LIST
s 777 7 a $target
h 777 7 b a
d 755 0 d
h 777 7 d/c b
s 777 7 again $target
f 600 8 again content
f 600 8 next content
h 600 8 third next
LIST
    into tar-in a.img links.tar /sub
    is "$status:$err" "0:" "such links themselves"
    is "$(inode a.img /sub/a) $(inode a.img /sub/d/c)" "symlink 0777 7 3 ${#target} symlink 0777 7 3 ${#target}" "... are there in the end"
    is "$(into cat a.img /sub/again; echo "$out"):$(inode a.img /sub/third)" "content:regular 0600 8 2 8" \
        "... but for one that was replaced"
    check "e2fsck finds nothing" sound a.img
done <<LIST
/etc
../etc
x/../../etc
$(printf '/%.0s' $(seq 100))etc
LIST
fresh a.img 16M -t ext4 -d sys
archive inside.tar <<'LIST'
d 755 0 usr
s 777 0 lib usr
s 777 0 bin /usr
f 644 0 lib/x content
f 644 0 bin/y content
LIST
into tar-in a.img inside.tar /
is "$status:$err:$(inode a.img /usr/x | cut -d' ' -f1) $(inode a.img /usr/y | cut -d' ' -f1)" "0::regular regular" \
    "at the root nothing leads out, and links are followed"

# ---- many directories that the archive does not name ----
fresh a.img 16M -t ext4 -d sys
deep=$(printf 'd/%.0s' $(seq 300))
{ echo "f 600 0 ${deep}x content"; echo "f 600 0 $deep/./e/./y content"; } | archive deep.tar
into tar-in a.img deep.tar /sub
is "$status:$err:$(into cat a.img "/sub/$deep/e/y"; echo "$out")" "0::content" "directories that are not in it are made"

# ---- hard links that the guest cannot have ----
command -v mkfs.vfat >/dev/null && {
    printf '%s\n' '/dev/sda / ext4 defaults 0 0' '/dev/sdb /boot vfat defaults 0 0' >root/etc/fstab
    fresh r.img 16M -t ext4 -d root
    truncate -s 16M f.img && mkfs.vfat f.img >/dev/null
    archive across.tar <<'LIST'
f 600 5 x content
h 600 5 boot/z x
h 600 5 boot/again boot/z
p 600 5 pipe
LIST
    run "$IMG" tar-in --format=raw -a r.img -a f.img across.tar /
    is "$status" 0 "a hard link to another filesystem"
    run "$IMG" cat --format=raw -a r.img -a f.img /boot/z /boot/again
    is "$out" "content
content" "... is a copy, and so is one where there are none"
    check "fsck.vfat finds nothing" fsck.vfat -n f.img
    while read -r bits size place bytes; do
        rm -f d.img && truncate -s "$size" d.img && mkfs.vfat -F "$bits" d.img >/dev/null
        into copy-in d.img h /
        is "$status" 0 "FAT$bits that was unmounted is written"
        poke d.img "$place" "$bytes"
        into copy-in d.img h /
        is "$status" 0 "FAT$bits that was cut off is, too"
        has "$err" "was not unmounted" "... and that is said"
    done <<'LIST'
12 4M 37 \001
16 16M 37 \001
16 16M 2051 \177
32 64M 65 \001
32 64M 16391 \007
LIST
    check "e2fsck neither" sound r.img
    echo 'p 600 5 boot/pipe' | archive pipe.tar
    run "$IMG" tar-in --format=raw -a r.img -a f.img pipe.tar /
    is "$status:$err" "1:img: The filesystem (vfat) has no journal: a power cut now could leave it in need of a check
img: /boot/pipe: FAT has only files and directories" "what cannot be is said with its name"
}

# ---- attributes ----
fresh a.img 16M -t ext4
echo one >kept
if setfattr -n trusted.overlay.opaque -v y kept 2>/dev/null && setfattr -n security.other -v label kept 2>/dev/null; then
    setfattr -n user.note -v here kept
    setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= kept
    setfacl -m u:7:rw kept
    into copy-in a.img kept /
    is "$status:$(debugfs -R 'ea_list /kept' a.img 2>/dev/null | sed -n 's/^ *\([a-z._]*\) .*/\1/p' | sort | tr '\n' ' ')" \
        "0:security.capability system.posix_acl_access user.note " "the host's own marks are not the guest's"
else
    skip "the host's own marks are not the guest's" "only root can make them"
fi
fresh a.img 16M -t ext4 -b 1024
echo one >attr && setfattr -n user.small -v here attr 2>/dev/null && {
    setfattr -n user.large -v "$(printf 'v%.0s' $(seq 2000))" attr
    into copy-in a.img attr h /
    is "$status" 0 "an attribute that is too long does not stop a copy"
    has "$err" "img: /attr: The attribute user.large of 2000 bytes is too long for it" "... but is told"
    is "$(names a.img):$(debugfs -R 'ea_list /attr' a.img 2>/dev/null | grep -c user)" "attr h lost+found:1" "... and the rest is there"
    check "e2fsck finds nothing" sound a.img
}

# ---- many files in one directory: work that grows with their square would take minutes ----
for i in $(seq 20000); do echo "f 600 0 many/file-$i"; done | archive many.tar
for i in $(seq 2000); do printf 'd 700 0 many/dir-%s\ns 777 0 many/link-%s file-%s\n' "$i" "$i" "$i"; done | archive more.tar
fresh a.img 300M -t ext4 -N 30000
for tar in many more; do
    (ulimit -t 10 && "$IMG" tar-in --format=raw -a a.img -m /dev/sda $tar.tar /) 2>err
    is "$?:$(cat err)" 0: "$tar files in one directory go in with little work"
done
is "$(into ls a.img /many; echo "$out" | sort -u | wc -l)" 24000 "... all of them"
check "... and e2fsck finds nothing" sound a.img
done_testing
