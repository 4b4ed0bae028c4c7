#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# tar-out: GNU tar unpacks the tree that was packed into a filesystem.
. "$(dirname "$0")/lib.sh"

facts() {
    (
        cd "$1" || exit
        find . ! -type d ! -name lost+found -printf '%M %n %U:%G %s %T@ %p -> %l\n' | sort
        find . -mindepth 1 -type d ! -name lost+found -printf '%M %U:%G %T@ %p\n' | sort
        find . ! -name lost+found -print0 | sort -z | xargs -0 getfattr -hd -m - 2>/dev/null
        find . -type f -print0 | sort -z | xargs -0 sha256sum
    )
}
n60=nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn
mkdir -p tree/d "tree/$n60/$n60" tree/skip
printf 'some text\n' >tree/d/text
head -c 300000 /dev/urandom >tree/d/random
truncate -s 20M tree/d/sparse tree/d/hole
printf middle | dd of=tree/d/sparse bs=1 seek=9000000 conv=notrunc status=none
ln tree/d/text tree/d/linked
ln -s "$n60/$n60/$n60/$n60" tree/d/long-target
echo deep >"tree/$n60/$n60/$n60"
mkfifo tree/pipe
echo x >tree/skip/x
setfattr -n user.note -v value tree/d/text 2>/dev/null
setfattr -n user.a=b% -v '' tree/d/text 2>/dev/null
if [ "$(id -u)" = 0 ]; then
    mknod tree/block b 259 70000
    chown -h 3000000:1000 tree/d/random
    setfacl -m u:1000:rwx tree/d/random 2>/dev/null
fi
find tree -exec touch -h -d 2010-10-10 {} +
touch -d 1969-12-25 tree/d/text
truncate -s 40M disk
mke2fs -q -t ext4 -d tree disk 2>/dev/null || { echo "1..0 # skip mke2fs cannot fill a filesystem here" && exit 0; }
debugfs -w -R 'set_inode_field /d/random mtime_extra 493827156' disk 2>/dev/null

facts tree >want
run img tar-out -a disk -m /dev/sda --xattrs / all.tar
is "$status:$err" "0:" "all of it"
mkdir out
run tar -xpf all.tar -C out --xattrs --xattrs-include='*' --numeric-owner --warning=no-timestamp
is "$status:$err" "0:" "tar unpacks it without a word"
rm -rf out/lost+found
facts out >got
check "is what it was" diff want got
size=$(stat -c %s all.tar)
[ "$size" -lt 1000000 ]
ok $? "holes take no room in the archive"
tar -tf all.tar >names
is "$(grep -nxE '\./|\./d/|\./d/(hole|linked)' names | tr '\n' ' ' | sed 's/[0-9]*://g')" "./ ./d/ ./d/hole ./d/linked " \
    "names begin with ./ and are sorted"

run img tar-out -a disk -m /dev/sda --nanoseconds /d d.tar
like "$(tar --numeric-owner --full-time -tvf d.tar ./random)" "*3000000/1000*2010-10-10 00:00:00.123456789 ./random" \
    "parts of seconds, large owners"
run img tar-out -a disk -m /dev/sda --no-sparse /d plain.tar
is "$(tar -xOf plain.tar ./sparse | sha256sum)" "$(sha256sum - <tree/d/sparse)" "holes as zeroes"
[ "$(stat -c %s plain.tar)" -gt 40000000 ]
ok $? "which take room"
for how in gzip zstd; do
    img tar-out -a disk -m /dev/sda --compress=$how /d - >d.tar.$how
    is "$($how -dc d.tar.$how | tar -xO | sha256sum)" "$(tar -xOf d.tar | sha256sum)" "compressed with $how, onto stdout"
done
run img tar-out -a disk -m /dev/sda --exclude='n*' --exclude=skip --exclude='d/[rl]*' / some.tar
is "$(tar -tf some.tar | grep -v lost | grep -vE '^./(pipe|block)$' | tr '\n' ' ')" \
    "./ ./d/ ./d/hole ./d/sparse ./d/text " "without some"
run img tar-out -a disk -m /dev/sda --acls --selinux /d acl.tar
[ "$(id -u)" != 0 ] || has "$(tar --acls --numeric-owner -tvvf acl.tar ./random)" "user:1000:rwx" "ACLs as text"

# errors
run img tar-out -a disk -m /dev/sda /nosuch new.tar
is "$status:$(ls new.tar 2>/dev/null)" "1:" "a folder that is not there makes no archive"
has "$err" "/nosuch" "and is named"
echo old >old.tar
run img tar-out -a disk -m /dev/sda /d/text old.tar
is "$status:$(cat old.tar)" "1:old" "a file is no folder, and what was there stays"
run img tar-out -a disk -m /dev/sda --compress=xy /d new.tar
is "$status" 1 "an unknown compression"
run img tar-out -a disk -m /dev/sda /d nosuch/new.tar
is "$status" 1 "an archive that cannot be made"
run img tar-out -a disk -m /dev/sda /d
is "$status" 1 "no archive"
# a directory whose cluster the image has lost: not the archive's fault, and so not for the archive's end to tell
qemu-img convert -f raw -O qcow2 -o cluster_size=4k disk lost.qcow2
perl -e '
    my ($block) = `debugfs -R "blocks /d" disk 2>/dev/null` =~ /(\d+)/;
    my ($bytes) = `dumpe2fs -h disk 2>/dev/null` =~ /^Block size:\s+(\d+)/m;
    my $map = `qemu-img map --output=json lost.qcow2`;
    while ($map =~ /"start": (\d+), "length": (\d+),.*"offset": (\d+)/g) {
        my $from = $block * $bytes - $1;
        next if $from < 0 || $from >= $2;
        my $entry = ($3 + $from) & ~4095;
        open(my $f, "+<:raw", "lost.qcow2") and local $/;
        my $at = index(my $all = <$f>, pack("Q>", $entry | 1 << 63));
        seek($f, $at, 0) and print $f pack("Q>", $entry | 1 << 63 | 512) if $at > 0;
    }'
run img tar-out -a lost.qcow2 -m /dev/sda / lost.tar
is "$status" 1 "a directory that cannot be read"
has "$err" "L2 entry" "and that is said"
if [ -c /dev/full ]; then
    run img tar-out -a disk -m /dev/sda /d /dev/full
    is "$status" 1 "a full disk"
    has "$err" "No space left" "and that is said"
fi
done_testing
