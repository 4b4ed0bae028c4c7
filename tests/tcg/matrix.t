#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Disks as systems have them, made and filled by Debian's kernel in an emulated machine (tests/tcg/boot), for what this
# machine's kernel may not have: XFS version 4, FAT, NTFS, tables of partitions, logical volumes, LUKS. Each file that the
# kernel there shows, with every attribute and byte, is what fs/ reads of the same disks. Run by make guest-matrix;
# GUEST_LAYOUTS: only these. GUEST_MATRIX=quick: small trees, to try the scripts.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../cli/lib.sh"

fsdump=$(dirname "$IMG")/tests/tools/fsdump
kernel=$(dirname "$IMG")/guest-kernel
"$top/tests/tcg/kernel" "$kernel" >kernel.log 2>&1 || { echo "Bail out! No kernel of Debian: $(tail -n 1 kernel.log)" && exit 1; }

# seen FILTER: what of each line is compared. Links and nodes are told by each driver of NTFS in a way of its own, and so
# are attributes; all else is all of it.
seen() {
    case $1 in
    ntfs) awk '$1 !~ "^/(links|nodes)/" { print $1, int($2 / 10000), $6, $7, $9 }' ;;
    ntfs-3g) awk '{ at = index($0, "-> /mnt"); if (at) { $6 -= 4; sub("-> /mnt", "-> ") } print }' ;;
    *) cat ;;
    esac
}

# layout NAME SIZE...: runs its script with empty disks of these sizes, and compares
layout() {
    name=$1
    shift
    case " ${GUEST_LAYOUTS:-$name} " in *" $name "*) ;; *) return ;; esac
    disks=()
    for size in "$@"; do
        disk=$work/$name.$((${#disks[@]} + 1))
        truncate -s "$size" "$disk"
        disks+=("$disk")
    done
    rm -rf out && mkdir out
    echo "${GUEST_MATRIX:-all}" >out/size
    began=$SECONDS
    "$top/tests/tcg/boot" "$kernel" out "$top/tests/tcg/layouts/$name.sh" "${disks[@]}"
    status=$?
    ok $status "$name: made and filled in $((SECONDS - began)) s" || say "$(tail -n 20 out/console)"
    while read -r fs filter volume; do
        sha256sum "${disks[@]}" >before
        check "$name, $fs: read" sh -c '"$@" >ours' - "$fsdump" -f raw -k 'open sesame' -v "$volume" "${disks[@]}"
        seen "$filter" <ours >ours.seen
        seen "$filter" <"out/$fs.tree" >theirs.seen
        check "$name, $fs: every one of $(wc -l <"out/$fs.tree") files" diff theirs.seen ours.seen
        "$fsdump" -f raw -s -k 'open sesame' -v "$volume" "${disks[@]}" | head -n 1 >ours.space
        check "$name, $fs: the space" diff "out/$fs.space" ours.space
        check "$name, $fs: the disks are as they were" sha256sum -c --quiet before
    done <out/compare
    rm -f "${disks[@]}"
}

layout xfs4 500M 80M 80M 80M 80M
layout fat 8M 40M 200M
layout ntfs 200M 300M
layout centos 700M 500M
layout debian 800M
layout ubuntu 700M
layout luks 100M 100M 100M
done_testing
