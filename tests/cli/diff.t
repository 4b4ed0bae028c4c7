#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# diff: one change of each kind between two disks, and between two snapshots of one; bodies as diff -u writes them.
. "$(dirname "$0")/lib.sh"

mkdir -p tree/d tree/gone tree/becomes
for i in $(seq 60); do echo "line $((i % 7)) $((i / 3))"; done >tree/d/text
cp tree/d/text old
echo same >tree/d/same
echo x >tree/gone/x
echo x >tree/becomes/x
printf 'no end' >tree/d/no-end
head -c 5000 /dev/urandom >tree/d/binary
ln -s a tree/d/link
echo 1 >tree/d-1
truncate -s 10M a
find tree -exec touch -h -d 2010-10-10 {} +
mke2fs -q -t ext4 -d tree a 2>/dev/null || { echo "1..0 # skip mke2fs cannot fill a filesystem here" && exit 0; }
cp a b
# debugfs changes the files in place, so that the others keep their inodes
sed -e '5d' -e '20s/line/LINE/' -e '41a added' old >new
printf 'an end\n' >new-end
head -c 5000 /dev/urandom >new-binary
{
    for f in text:new no-end:new-end binary:new-binary; do
        printf 'rm /d/%s\nwrite %s /d/%s\n' "${f%%:*}" "${f#*:}" "${f%%:*}"
    done
    printf 'rm /gone/x\nrmdir /gone\nrm /becomes/x\nrmdir /becomes\nwrite new /becomes\n'
    printf 'mkdir /made\nwrite new /made/y\nset_inode_field /d-1 uid 1000\nrm /d/link\nsymlink /d/link b\n'
} >script
debugfs -w -f script b >/dev/null 2>&1
debugfs -w -R 'set_inode_field /d/same ctime 20300101000000' b 2>/dev/null

run img diff -a a -m /dev/sda -A a
is "$status:$out:$err" "0::" "a disk and itself"
run img diff -a a -m /dev/sda -A b
is "$status:$err" "0:" "two disks"
grep '^[-+=#] ' .out | sed 's/  */ /g' | grep -v 'lost+found' >lines
cut -d' ' -f1,2,5- lines | grep '^[-+=] [-dl] ' | sort -s -k3,3 >got
cat >want <<'LIST'
- d /becomes
- - /becomes/x
= - /d/binary
- l /d/link -> a
= - /d/no-end
= - /d/same
= - /d/text
- d /gone
- - /gone/x
+ d /made
+ - /made/y
LIST
grep -vxF -f got want >missing
is "$(cat missing)" "" "each change has its line"
has "$out" "= - 0644          6 /d/no-end" "the first disk's size stands there"
diff -u old new | tail -n +3 >body
sed -n '/ \/d\/text$/,/^@@ End/p' .out | sed '1d;$d' >got
check "the body is that of diff -u" diff body got
diff -u tree/d/no-end new-end | tail -n +3 >body
sed -n '/ \/d\/no-end$/,/^@@ End/p' .out | sed '1d;$d' >got
check "without a newline at the end" diff body got
is "$(sed -n '/ \/d\/binary$/,/^@@ End/p' .out | wc -l)" 2 "binary files have none"
has "$out" "# changed: st_uid" "an owner alone"
has "$out" "# changed: st_" "what changed is named"
sed -n 's/.* \(\/d-1\)$/\1/p;s/.* \(\/d\/text\)$/\1/p' .out | uniq | tr '\n' ' ' >order
is "$(cat order)" "/d-1 /d/text " "paths are sorted by their bytes"
run img diff --csv -a a -m /dev/sda -A b
has "$out" "=,-,0644,5000,/d/binary" "CSV"
run img diff --all -a a -m /dev/sda -A b
has "$out" "0:0 " "--all"

# contents that nothing else tells of
cp a c
debugfs -R 'blocks /d/same' a 2>/dev/null | tr -d ' ' >block
printf SAME | dd of=c bs=1 seek=$(($(cat block) * $(debugfs -R stats a 2>/dev/null | sed -n 's/^Block size: *//p'))) conv=notrunc status=none
run img diff -a a -m /dev/sda -A c
is "$out" "" "the same times and size are the same"
run img diff --checksum=sha256 -a a -m /dev/sda -A c
like "$out" "= - 0644          5 * /d/same
@@ -1 +1 @@
-same
+SAME
@@ End of diff @@" "unless checksums are compared"

# snapshots of one disk
qemu-img convert -f raw -O qcow2 a s.qcow2
qemu-img snapshot -c one s.qcow2
run img convert -f raw -O raw b b.raw
qemu-io -f qcow2 -c "write -q -s b 0 10M" s.qcow2 >/dev/null
qemu-img snapshot -c two s.qcow2
img diff -a a -m /dev/sda -A b >want
run img diff -a s.qcow2 --a-snapshot one -A s.qcow2 --b-snapshot two -m /dev/sda
is "$status" 0 "two snapshots"
check "differ as the disks do" diff .out want
run img diff -a s.qcow2 --a-snapshot two -A s.qcow2 -m /dev/sda
is "$out" "" "a snapshot and what followed"

# memory follows the lines, so there may not be any number of them
mkdir many
head -c 1500000 /dev/zero | tr '\0' '\n' >many/empty-lines
mke2fs -q -t ext4 -d many m1 16M >/dev/null 2>&1
head -c 1000000 many/empty-lines >fewer && mv fewer many/empty-lines
mke2fs -q -t ext4 -d many m2 16M >/dev/null 2>&1
run img diff -a m1 -m /dev/sda -A m2
is "$status" 0 "millions of lines"
has "$err" "/empty-lines: too large for its lines to be compared" "are not compared one by one"

# errors
run img diff -a a
is "$status" 1 "one disk"
has "$err" "-A or -D" "is not enough"
run img diff -A a
is "$status" 1 "the second alone"
run img diff -a a -A nosuch -m /dev/sda
is "$status" 1 "a disk that is not there"
run img diff -a a -A b -m /dev/sda more
is "$status" 1 "an argument"
run img diff -a a -A b -m /dev/sda --checksum=none
is "$status" 1 "an unknown checksum"
run img diff -a a --a-snapshot x -A b -m /dev/sda
is "$status" 1 "a snapshot that is not there"
done_testing
