#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# FAT inside a disk: what fs/ reads of volumes that mkfs.vfat and mtools make is what mtools reads of them, and their
# labels and numbers are blkid's. FAT_MATRIX=all tries every width with every size of sectors and clusters.
. "$(dirname "$0")/lib.sh"

fsdump=${IMG_BUILD:-$top/build}/tests/tools/fsdump
export MTOOLS_SKIP_CHECK=1 MTOOLSRC=/dev/null

mkdir tree
python3 "$top/tests/guest/fat-tree.py" tree

# what is compared: path, size, time (of files), contents
strip() { awk '{ dir = substr($2, 1, 1) == 4 && length($2) == 5; print $1, $6, dir ? "" : $7, $9 }' | sed 's/\.000000000//'; }
of_fs() { "$fsdump" "$1" | strip; }
of_folder() { python3 "$top/tests/guest/tree.py" "$1" --no-xattrs | strip; }

# same VOLUME NAME: what mtools copies out of it is what is read
same() {
    rm -rf out
    mkdir out
    mcopy -s -n -m -i "$1" '::*' out >/dev/null 2>&1
    mcopy -n -m -i "$1" '::.h*' out >/dev/null 2>&1
    of_folder out >wanted
    of_fs "$1" >got 2>&1
    check "$2: the tree" diff wanted got
}

# blkid_of VOLUME: its words for type, label and UUID
blkid_of() { blkid -p -o value -s TYPE "$1"; blkid -p -o value -s LABEL "$1"; blkid -p -o value -s UUID "$1"; }

# free_bytes VOLUME: as mtools counts them
free_bytes() { mdir -i "$1" :: | awk '/bytes free/ { gsub(/[^0-9]/, ""); print }'; }

# one BITS SECTOR CLUSTER SECTORS
one() {
    kind="FAT$1, sectors of $2, $3 in a cluster"
    truncate -s 0 vol
    truncate -s $(($4 * $2)) vol
    mkfs.vfat -F "$1" -S "$2" -s "$3" -n "LABEL $1" -i ABCD1234 vol >/dev/null 2>&1 || { ok 1 "$kind: mkfs.vfat"; return; }
    mcopy -s -m -i vol tree/* :: >/dev/null 2>&1
    # holes in the table, and a file that fills them
    for i in 1 2 3 4 5 6 7 8; do
        pattern piece $((i * 3))
        mcopy -i vol piece "::piece$i"
    done
    mdel -i vol ::piece1 ::piece3 ::piece5 ::piece7
    pattern pieces 100
    mcopy -i vol pieces ::pieces
    mattrib -i vol +r +h +s ::pieces
    same vol "$kind"
    is "$("$fsdump" -p vol)" "$(blkid_of vol)" "$kind: type, label and UUID"
    is "$("$fsdump" -s vol | awk 'NR == 1 { printf "%.0f", $1 * $3 }')" "$(free_bytes vol)" "$kind: free bytes"
}

one 12 512 1 4000
one 16 4096 1 5000
one 32 512 1 80000
if [ "${FAT_MATRIX:-}" = all ]; then
    for sector in 512 1024 2048 4096; do
        for cluster in 1 2 4 8 16 32 64 128; do
            [ $((sector * cluster)) -le 65536 ] || continue
            one 12 $sector $cluster $((4000 * cluster))
            one 16 $sector $cluster $((5000 * cluster))
            one 32 $sector $cluster $((70000 * cluster))
        done
    done
fi
is "$("$fsdump" vol | awk '$1 == "/pieces" { print $2 }')" 100555 "a file that is marked so is not to be written"

# a floppy, made by mformat
truncate -s 1440k floppy
mformat -i floppy -f 1440 ::
mcopy -i floppy tree/names/* tree/sizes/* :: >/dev/null 2>&1
same floppy 'a floppy'

# in a qcow2 disk, behind a partition table
truncate -s 20M disk.raw
printf 'label: dos\nstart=2048, type=e\n' | sfdisk -q disk.raw
truncate -s 19M part
mkfs.vfat -F 16 part >/dev/null 2>&1
mcopy -s -m -i part tree/names :: >/dev/null
dd if=part of=disk.raw bs=1M seek=1 conv=notrunc status=none
qemu-img convert -c -O qcow2 disk.raw disk.qcow2
is "$("$fsdump" -o $((1 << 20)) -l $((19 << 20)) disk.qcow2)" "$("$fsdump" part)" "in a partition of a compressed disk"

done_testing
