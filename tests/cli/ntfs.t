#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# NTFS inside a disk: what fs/ reads of a volume is what ntfs-3g's mount shows of it. NTFS_MATRIX=all tries every size of
# sectors and clusters.
. "$(dirname "$0")/lib.sh"

fsdump=${IMG_BUILD:-$top/build}/tests/tools/fsdump

# make_volume FILE SIZE SECTOR CLUSTER
make_volume() {
    rm -f "$1"
    truncate -s "$2" "$1"
    mkntfs -q -F -f -s "$3" -c "$4" -L 'Läbel 日' "$1" >/dev/null 2>&1
}

mount_volume() { ntfs-3g "$@" "$work/mnt" 2>/dev/null && mounted=$work/mnt; }
unmount() { umount "$work/mnt" && mounted=; }

# without the place of the mount in targets, and its length in their sizes
relative() { awk -v place="$work/mnt" '{ at = index($0, "-> " place); if (at) { $6 -= length(place); sub("-> " place, "-> ") } print }'; }

# same VOLUME NAME
same() {
    mount_volume -o ro "$1" || { ok 1 "$2: mount"; return; }
    python3 "$top/tests/guest/tree.py" "$work/mnt" | relative >wanted
    { stat -f -c '%S %b %f %a %c %d' "$work/mnt"; echo 'ntfs: no warning'; } >space
    unmount
    "$fsdump" "$1" >got 2>&1
    check "$2: the tree" diff wanted got
    { blkid -p -o value -s TYPE "$1"; blkid -p -o value -s LABEL "$1"; blkid -p -o value -s UUID "$1"; cat space; } >wanted
    { "$fsdump" -p "$1"; "$fsdump" -s "$1"; } >got 2>&1
    check "$2: type, label, UUID and space" diff wanted got
}

# one SECTOR CLUSTER MANY
one() {
    make_volume vol "${4:-200M}" "$1" "$2"
    mount_volume -o compression vol
    check "sectors of $1, clusters of $2: made" python3 "$top/tests/guest/ntfs-tree.py" mnt "$3"
    unmount
    same vol "sectors of $1, clusters of $2"
}

# what needs no mount
make_volume plain 10M 512 4096
pattern content 300
ntfscp -q -f plain content content
printf small >small
ntfscp -q -f plain small small
is "$("$fsdump" plain | awk '$2 == 100777 { print $1, $6, $9 }')" "/content 307200 $(sha256sum <content | cut -c1-64)
/small 5 $(sha256sum <small | cut -c1-64)" "files that ntfscp wrote"
is "$("$fsdump" -p plain | head -n 2 | tr '\n' ' ')" "ntfs Läbel 日 " "its type and label"
sha256sum plain >before
"$fsdump" plain >/dev/null
check "reading changes nothing" sha256sum -c --quiet before

mkdir mnt
if [ "$(id -u)" -eq 0 ] && [ -c /dev/fuse ] && mount_volume plain; then
    unmount
    one 512 4096 300
    if [ "${NTFS_MATRIX:-}" = all ]; then
        for sector in 512 1024 2048 4096; do
            for cluster in 512 1024 2048 4096 8192 16384 32768 65536; do
                [ $cluster -ge $sector ] && one $sector $cluster 3000
            done
        done
        one 512 4096 60000 400M
    fi
else
    skip "the tree" "only root can mount with FUSE, and not in every container"
fi

done_testing
