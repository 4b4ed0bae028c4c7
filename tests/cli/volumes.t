#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Partition tables as sfdisk, sgdisk and parted write them, and hostile ones; what lies on a disk as blkid knows it;
# names of volumes.
. "$(dirname "$0")/lib.sh"
volumes=${IMG_BUILD:-$top/build}/tests/tools/volumes
py=$top/tests/cli/volumes.py

new() { rm -f "$1" && truncate -s "$2" "$1"; }
# same_table DISK NAME [SECTOR]: we see the partitions that sfdisk sees, in the order of their numbers
same_table() {
    "$py" table "$1" "${3:-512}" 2>/dev/null | sort -n >.wanted
    "$volumes" -f raw -b "${3:-512}" "$1" | "$py" ours >.got
    [ -s .wanted ]
    ok $? "$2: sfdisk sees something"
    is "$(cat .got)" "$(cat .wanted)" "$2"
}
names() { "$volumes" -f raw "$@" | awk '/^note:/ { next } { printf "%s ", $1 }'; }
notes() { "$volumes" -f raw "$@" | grep '^note:'; }

# ---- MBR ----

new mbr 100M
sfdisk -q mbr <<T
label: dos
label-id: 0x1234abcd
start=2048, size=2048, type=83
start=8192, size=100000, type=5
start=4096, size=2048, type=7, bootable
start=110000, size=200, type=c
start=10240, size=2048, type=83
start=20480, size=4096, type=82
start=30720, size=1, type=8e
T
same_table mbr "primary and logical partitions"
has "$("$volumes" -f raw mbr | grep sda2)" " 1024 on=/dev/sda start=4194304 mbr=05 extended" "an extended one is 1K"
new parted 100M
parted -s parted mklabel msdos mkpart primary ext4 1MiB 10MiB mkpart extended 10MiB 90MiB mkpart logical 11MiB 20MiB \
    mkpart logical 21MiB 30MiB set 1 boot on
same_table parted "as parted writes them"
cp mbr order
sfdisk -q --delete order 6 2>/dev/null
same_table order "after one of the logical ones is gone"
{
    printf 'label: dos\nstart=2048, type=f\n'
    i=0
    while [ $i -lt 55 ]; do
        i=$((i + 1))
        printf 'start=%d, size=64\n' $((4096 + 3072 * i))
    done
} >many.txt
new many 100M
sfdisk -q many <many.txt
same_table many "55 logical partitions"
new big 40M
printf '%s\n' o n p 1 256 1255 n e 2 2048 '' n l 3000 3499 a 1 w | fdisk -b 4096 big >/dev/null
same_table big "with sectors of 4096 bytes" 4096

# the chain comes back: the link of the second table leads to the first (446 + 16 + 8 is its place)
cp mbr loop
link=$(((8192 + $(od -An -tu4 -j $((8192 * 512 + 470)) -N 4 mbr)) * 512))
poke loop $((link + 470)) '\000\000\000\000'
run "$volumes" -f raw loop
is "$status" 0 "a chain that comes back"
has "$out" "The chain of logical partitions of /dev/sda comes back to where it was" "is told"
cp mbr cut
truncate -s 30M cut
has "$("$volumes" -f raw cut | grep sda4)" "trouble=" "what lies behind the end of a disk is told"
has "$(names cut)" "/dev/sda /dev/sda1 /dev/sda2 /dev/sda3 /dev/sda4 " "the rest is there"

# boot sectors are no tables, and code is none
new fat 40M
mkfs.vfat -n FAT fat >/dev/null
is "$(names fat)" "/dev/sda " "FAT on a whole disk has no partitions"
new fatmbr 40M
mkfs.vfat --mbr=y fatmbr >/dev/null
is "$(names fatmbr)" "/dev/sda " "nor with a table that leads to itself"
new ntfs 20M
mkntfs -q -F -f ntfs >/dev/null 2>&1
is "$(names ntfs)" "/dev/sda " "NTFS neither"
new code 10M
pattern code.bin 1
dd if=code.bin of=code conv=notrunc status=none
poke code 510 '\125\252'
is "$(names code)" "/dev/sda " "nor has code before 55 AA"

# ---- GPT ----

new gpt 100M
sfdisk -q gpt <<T
label: gpt
label-id: 11112222-3333-4444-5555-666677778888
1 : start=81920, size=49152, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=BBBBBBBB-0000-4000-8000-000000000001
14 : start=2048, size=8192, type=21686148-6449-6E6F-744E-656564454649, name="BIOS boot"
15 : start=10240, size=69632, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="Größe 𝄞"
128 : start=150000, size=8
T
same_table gpt "GPT"
new sg 100M
sgdisk -a 8 -n 3:64:+1M -c 3:third -t 3:8e00 -n 1:0:+2M -n 2:0:0 -c 2:"abcdefghijklmnopqrstuvwxyz0123456789" sg >/dev/null
same_table sg "as sgdisk writes it"
new pg 100M
parted -s pg mklabel gpt mkpart one ext4 1MiB 10MiB mkpart two 10MiB 90%
same_table pg "as parted writes it"
new gpt4k 100M
printf '%s\n' g n 1 256 1255 n 2 2048 5047 x n 1 x r w | fdisk -b 4096 gpt4k >/dev/null
same_table gpt4k "with sectors of 4096 bytes" 4096
has "$(notes gpt4k)" "has a GPT for sectors of 4096 bytes, but is used with sectors of 512" "which is told if they are not"
new wide 100M
sgdisk -S 512 -n 300:2048:+1M wide >/dev/null 2>&1
same_table wide "more than 128 entries"
cp sg hybrid
sgdisk -h 1:3 hybrid >/dev/null 2>&1
same_table hybrid "hybrid"
cp gpt grown
truncate -s 200M grown
is "$(names grown)" "/dev/sda /dev/sda1 /dev/sda14 /dev/sda15 /dev/sda128 " "a disk that has grown"
is "$(notes grown)" "" "is not told about"

for place in 'header 528' 'entries 1100' 'signature 512'; do
    cp gpt damaged
    poke damaged "${place#* }" '\377'
    "$volumes" -f raw damaged | "$py" ours >.got
    is "$(cat .got)" "$("$volumes" -f raw gpt | "$py" ours)" "a damaged ${place% *} gives way to the copy"
    has "$(notes damaged)" "its copy at the end of the disk is used" "which is told"
done
poke damaged $((100 * 1048576 - 512)) '\377'
is "$(names damaged)" "/dev/sda " "both damaged: no partitions"
has "$(notes damaged)" "and its copy at the end of the disk is not there" "which is told"
# numbers that no tool writes, with right checksums
for field in '592 \000\000\000\000 number' '592 \377\377\377\377 number' '596 \001\000\000\000 size' '596 \001\000\001\000 size'; do
    cp gpt odd
    # shellcheck disable=SC2086 # three words
    set -- $field
    dd if=/dev/zero of=odd bs=512 seek=204799 count=1 conv=notrunc status=none
    poke odd "$1" "$2"
    perl -e 'use Compress::Zlib; open my $f, "+<:raw", "odd"; seek $f, 512, 0; read $f, my $h, 512; substr($h, 16, 4) = "\0" x 4;
        substr($h, 16, 4) = pack "V", crc32(substr $h, 0, 92); seek $f, 512, 0; print $f $h'
    is "$(names odd)" "/dev/sda " "a strange $3 of entries"
    has "$(notes odd)" "has a strange number or size of entries" "is told"
done
# entries that end before they begin, or lie behind the end
cp gpt odd
poke odd $((1024 + 40)) '\001\000\000\000\000\000\000\000'
poke odd $((1024 + 13 * 128 + 40)) '\377\377\377\377\377\377\377\377'
poke odd $((1024 + 14 * 128 + 32)) '\377\377\377\377\377\377\377\100'
poke odd $((1024 + 14 * 128 + 40)) '\377\377\377\377\377\377\377\101'
"$py" gpt odd
is "$(names odd)" "/dev/sda /dev/sda128 " "entries with impossible places are left out"
cp gpt odd
poke odd $((1024 + 40)) '\377\377\377\000\000\000\000\000'
"$py" gpt odd
has "$("$volumes" -f raw odd | grep 'sda1 ')" " 62914560 on=/dev/sda start=41943040" "one that is too long is cut"

# ---- what lies there ----

# known NAME: we say what blkid says of the file
known() {
    blkid -p -o export "$1" | sed -n 's/^\(TYPE\|UUID\|LABEL\)=/\1=/p' | sed 's/\\//g' | sort >.wanted
    "$volumes" -f raw "$1" | grep -oE ' (type|uuid|label)=[^ ]*' |
        sed 's/\\x20/ /g; s/^ //; s/^type/TYPE/; s/^uuid/UUID/; s/^label/LABEL/' | sort >.got
    [ -s .wanted ]
    ok $? "blkid knows $1"
    is "$(cat .got)" "$(cat .wanted)" "and so do we"
}
# made PACKAGE COMMAND NAME: the tool is there; else a skip
made() {
    if command -v "$2" >/dev/null; then
        return 0
    fi
    skip "recognised" "$3: no $2 ($1)"
    return 1
}
mkdir d
echo text >d/f
new swap 10M
mkswap -q -L 'a swap' swap
known swap
new swap64 10M
mkswap -q -p 65536 swap64 2>/dev/null
known swap64
new noid 10M
mkswap -q -U clear noid
known noid
cp swap sleeping
poke sleeping 4086 'S1SUSPEND\000'
known sleeping
made btrfs-progs mkfs.btrfs btrfs && new btrfs 128M && mkfs.btrfs -q -L 'my btrfs' btrfs && known btrfs
made squashfs-tools mksquashfs squashfs && mksquashfs d squash -quiet -no-progress >/dev/null && known squash
made erofs-utils mkfs.erofs erofs && mkfs.erofs erofs d >/dev/null 2>&1 && known erofs
made exfatprogs mkfs.exfat exfat && new exfat 20M && mkfs.exfat -L EXLABEL exfat >/dev/null && known exfat
made f2fs-tools mkfs.f2fs f2fs && new f2fs 64M && mkfs.f2fs -l f2label f2fs >/dev/null && known f2fs
made udftools mkudffs udf && new udf 20M && mkudffs -l UDFlabel udf >/dev/null && known udf
made udftools mkudffs 'udf of a disk' && new udf512 20M && mkudffs -b 512 -l UDFtwo udf512 >/dev/null && known udf512
made genisoimage genisoimage iso9660 && genisoimage -quiet -V ISO_LABEL -o iso d && known iso
made jfsutils mkfs.jfs jfs && new jfs 20M && mkfs.jfs -q -L jfslab jfs >/dev/null && known jfs
made reiserfsprogs mkfs.reiserfs reiserfs && new reiser 40M && mkfs.reiserfs -q -ff -l rlab reiser >/dev/null 2>&1 && known reiser
made nilfs-tools mkfs.nilfs2 nilfs2 && new nilfs 140M && mkfs.nilfs2 -q -L nil nilfs >/dev/null 2>&1 && known nilfs
made bcache-tools make-bcache bcache && new bcache 64M && make-bcache -B bcache >/dev/null && known bcache
new zeroes 10M
is "$("$volumes" -f raw zeroes)" "/dev/sda disk 10485760" "nothing in nothing"
new tiny 512
is "$("$volumes" -f raw tiny)" "/dev/sda disk 512" "nor in one sector"

# ---- names ----

new second 20M
printf 'label: gpt\nstart=2048, size=8192, name="two words", uuid=AAAAAAAA-0000-4000-8000-000000000002\n' | sfdisk -q second
dd if=swap of=second bs=512 seek=2048 count=8192 conv=notrunc status=none
uuid=$(blkid -p -o value -s UUID swap)
# all of them at once; a line for each
find_names() {
    for n in "$@"; do
        set -- "$@" -n "$n"
        shift
    done
    "$volumes" -f raw "$@" mbr second
}
set -- /dev/sdb1 /dev/vdb1 /dev/xvdb1 /dev/hdb1 /dev/nvme1n1p1 "UUID=$uuid" "UUID=\"$uuid\"" "/dev/disk/by-uuid/$uuid" \
    'LABEL=a swap' "LABEL='a swap'" '/dev/disk/by-label/a\x20swap' PARTUUID=AAAAAAAA-0000-4000-8000-000000000002 \
    /dev/disk/by-partuuid/aaaaaaaa-0000-4000-8000-000000000002 'PARTLABEL=two words' '/dev/disk/by-partlabel/two\x20words'
is "$(find_names "$@")" "$(for _; do echo /dev/sdb1; done)" "names of a partition"
is "$(find_names /dev/vda)" /dev/sda "a whole disk"
is "$(find_names PARTUUID=1234abcd-05)" /dev/sda5 "a partition of an MBR"
set -- '' /dev /dev/sd /dev/sdc /dev/sda9 /dev/sdaa /dev/sda1x UUID= LABEL= PARTUUID= /dev/mapper/ /dev/mapper/x \
    'LABEL="' /dev/disk/by-uuid/ /dev/vda99999999999 /dev/nvme0n1p /dev/nvme0n2
is "$(find_names "$@")" "$(for _; do echo -; done)" "names of nothing"

done_testing
