#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# LVM inside disks: what its own tools write, in groups of several physical volumes, and text that only they check;
# damaged, missing and stale parts.
. "$(dirname "$0")/lib.sh"
volumes=${IMG_BUILD:-$top/build}/tests/tools/volumes
py=$top/tests/cli/volumes.py

loops=
give_back() {
    for l in $loops; do losetup -d "$l"; done
    loops=
}
trap 'give_back; at_exit' EXIT

# begin DISK...: the tools of LVM see these files and nothing else
begin() {
    filter=
    for f in "$@"; do
        l=$(losetup -f --show "$f" 2>/dev/null) || return 1
        loops="$loops $l"
        filter="$filter\"a|^$l\$|\","
    done
    mkdir -p locks
    conf="devices { dir=\"/dev\" scan=[\"/dev\"] filter=[$filter\"r|.*|\"] use_devicesfile=0 }
        global { locking_dir=\"$work/locks\" } backup { backup=0 archive=0 }
        activation { udev_sync=0 udev_rules=0 monitoring=0 }"
}
lvm() {
    what=$1
    shift
    DM_DISABLE_UDEV=1 "$what" --config "$conf" --driverloaded n "$@" 2>>lvm.err
}
new() { rm -f "$1" && truncate -s "$2" "$1"; }
ours() { "$volumes" -f raw "$@"; }
# field NAME KEY DISK...: what we say of a volume
field() {
    name=$1 key=$2
    shift 2
    ours "$@" | sed -n "s,^$name .* $key=\([^ ]*\).*,\1,p"
}

# marked DISK MIB: 4 KiB pieces, of which no two of all disks have the same bytes
marked() {
    perl -e 'print map { pack "a8 N x4084", $ARGV[0], $_ } 1 .. $ARGV[1] * 256' "$1" "$2" >"$1"
}
for i in 0 1 2; do marked pv$i 32; done
if ! command -v pvcreate >/dev/null || ! begin pv0 pv1 pv2; then
    echo "1..0 # skip no loop devices, or no LVM, here"
    exit 0
fi

# ---- what lvcreate makes ----

# shellcheck disable=SC2086 # the devices are words
lvm pvcreate -q $loops >/dev/null
# shellcheck disable=SC2086
lvm vgcreate -q -s 1M vg-a $loops >/dev/null
create() { lvm lvcreate -an -Zn -Wn -q -y "$@" vg-a >/dev/null; }
create -L 4M -n lin
create -L 6M -i 3 -I 64k -n str
create -L 5M -n lin2
lvm lvextend -q -L 12M vg-a/lin >/dev/null
create --type raid0 -i2 -I 128k -L 4M -n r0
create -L 40M -n big
lvm lvremove -q -y vg-a/lin2 >/dev/null
create -L 9M -n in-holes
lvm vgs --noheadings --units b --nosuffix -o vg_name,vg_size,vg_uuid | tr -d ' -' >vgs # sizes and UUIDs
lvm lvs --noheadings --units b --nosuffix -o lv_name,lv_size,lv_uuid | sed 's/^ *//' >lvs
lvm pvs --noheadings --units b --nosuffix -o pv_name,pv_size,pv_uuid | sed 's/^ *//' >pvs
# pieces: LV, its first byte, bytes, and in which loop device at which extent
lvm lvs -a --noheadings --units b --nosuffix -o lv_name,segtype,seg_start,seg_size,seg_pe_ranges | sed 's/^ *//' >pieces
give_back
# shellcheck disable=SC2046
is "$(ours pv0 pv1 pv2 | awk '$2 == "logical" { print $1, $3 }')" "$(awk '{ print "/dev/vg-a/" $1, $2 }' lvs)" \
    "logical volumes and their sizes, in lvs' order"
is "$(ours pv0 pv1 pv2 | sed -n 's/.* logical .* vuuid=\([^ ]*\).*/\1/p')" "$(awk '{ print $3 }' lvs)" "their UUIDs"
is "$(ours pv0 pv1 pv2 | awk '$2 == "group" { print $3 }')" "$((3 * 31 * 1048576))" "the group's size"
has "$(cat vgs)" "$(field /dev/vg-a vuuid pv0 pv1 pv2)" "and UUID"
is "$(ours pv0 pv1 pv2 | sed -n 's/.* pv=\([^ ]*\) pvsize=\([^ ]*\).*/\2 \1/p')" \
    "$(awk '{ gsub("-", "", $3); print $2, $3 }' pvs)" "the physical volumes"

# wanted LV: its bytes, put together from the pieces that lvs tells
device_of() { awk -v n="$1" '$1 == n { print "pv" NR - 1 }' pvs; }
extents() { # /dev/loop3:4-7: these bytes
    dd if="$(device_of "${1%:*}")" bs=1M skip=$((1 + $(echo "${1#*:}" | cut -d- -f1))) \
        count=$(($(echo "${1#*:}" | cut -d- -f2) - $(echo "${1#*:}" | cut -d- -f1) + 1)) status=none
}
wanted() {
    grep "^$1 " pieces | sort -n -k3 | while read -r _ type _ _ ranges; do
        # shellcheck disable=SC2086
        set -- $ranges
        case $type in
        linear) extents "$1" ;;
        striped)
            for i in "$@"; do extents "$i" >"stripe.${i##*/}"; done
            # shellcheck disable=SC2046 # names without blanks
            "$py" interleave 65536 $(for i in "$@"; do echo "stripe.${i##*/}"; done)
            ;;
        raid0)
            for i in "$@"; do extents "$(grep "^.${i%:*}. " pieces | awk '{ print $5 }')" >"stripe.${i%:*}"; done
            # shellcheck disable=SC2046 # the same
            "$py" interleave 131072 $(for i in "$@"; do echo "stripe.${i%:*}"; done)
            ;;
        esac
    done
}
for lv in lin str r0 big in-holes; do
    wanted $lv >w
    is "$(stat -c %s w)" "$(awk -v n=$lv '$1 == n { print $2 }' lvs)" "$lv: the oracle has all of it"
    ours -c /dev/vg-a/$lv pv0 pv1 pv2 >g
    check "$lv: the bytes" cmp w g
done
ours -c /dev/vg-a/lin pv2 pv0 pv1 >g
wanted lin >w
check "the order of the disks does not matter" cmp w g
is "$(ours -n /dev/mapper/vg--a-in--holes pv0 pv1 pv2)" /dev/vg-a/in-holes "device-mapper's name"
id=$(sed -n 's/^vga[0-9]*\(.\{32\}\)$/\1/p' vgs)$(awk '$1 == "str" { gsub("-", "", $3); print $3 }' lvs)
is "$(ours -n "/dev/disk/by-id/dm-uuid-LVM-$id" pv0 pv1 pv2)" /dev/vg-a/str "and UUID"

# writing goes where reading does
for i in 0 1 2; do cp pv$i w$i; done
pattern new 6144
check "a striped volume is written" ours -w /dev/vg-a/str w0 w1 w2 <new
ours -c /dev/vg-a/str w0 w1 w2 >g
check "and read" cmp new g
ours -c /dev/vg-a/big w0 w1 w2 >g
wanted big >w
check "and nothing else has changed" cmp w g

# ---- missing, damaged, stale ----

run ours pv0 pv1
is "$status" 0 "a physical volume is missing"
has "$(echo "$out" | grep /dev/vg-a/str)" "which\x20is\x20missing" "what lies on it has no device"
case $(field /dev/vg-a/lin trouble pv0 pv1) in '') ok 0 "what does not can be read" ;; *) ok 1 "what does not can be read" ;; esac
cp pv0 d0
poke d0 4097 '\377' # the header of its metadata
is "$(field /dev/vg-a/lin vuuid d0 pv1 pv2)" "$(field /dev/vg-a/lin vuuid pv0 pv1 pv2)" "damaged metadata on one of three"
has "$(ours d0 pv1 pv2)" "note: /dev/sda: " "is told"
cp pv0 d0
poke d0 $((4096 + 20 + $(od -An -tu4 -j $((4096 + 40)) -N 4 d0))) '\377'
is "$(ours d0 | grep -c ' group ')" 0 "text with a wrong checksum makes no group"
cp pv0 d0
poke d0 640 '\377'
has "$(ours d0)" "note: The label of LVM on /dev/sda is damaged" "nor does a damaged label"
# an old copy on one of them: the newest counts
loops=
begin pv0 pv1 pv2
cp pv2 stale
lvm lvcreate -an -Zn -Wn -q -y -L 2M -n newest vg-a >/dev/null
i=0
while [ $i -lt 40 ]; do # all round the ring
    lvm lvrename -q vg-a newest latest >/dev/null
    lvm lvrename -q vg-a latest newest >/dev/null
    i=$((i + 1))
done
give_back
has "$(ours stale pv0 pv1)" "/dev/vg-a/newest logical" "the newest of several copies counts"
has "$(ours pv0 pv1 pv2)" "/dev/vg-a/newest logical" "and text that goes over the ring's end is read"

# ---- what the tools make with a kernel's help only: text that they accept ----

marked q0 40
marked q1 40
begin q0 q1
lv() { # NAME STATUS LETTERS EXTENTS SEGMENT
    echo "$1 { id = \"lv$3-0000-0000-0000-0000-0000-000000\" status = [\"READ\", \"WRITE\"$2] flags = []
        creation_host = \"h\" creation_time = 1 segment_count = 1
        segment1 { start_extent = 0 extent_count = $4 $5 } }"
}
on() { echo "type = \"striped\" stripe_count = 1 stripes = [\"$1\", $2]"; }
V=', "VISIBLE"'
{
    cat <<T
contents = "Text Format Volume Group"
version = 1
description = "by \"hand\" # no comment"
creation_host = "h"
creation_time = 1
r {
  id = "vgr000-0000-0000-0000-0000-0000-000000"
  seqno = 7  format = "lvm2"  status = ["RESIZEABLE", "READ", "WRITE"]  flags = []
  extent_size = 2048  max_lv = 0  max_pv = 0  metadata_copies = 0
  physical_volumes {
    pv0 { id = "pvzero-0000-0000-0000-0000-0000-000000"  status = ["ALLOCATABLE"]  flags = []
          dev_size = 81920  pe_start = 2048  pe_count = 39 }
    pv1 { id = "pvone0-0000-0000-0000-0000-0000-000000"  status = ["ALLOCATABLE"]  flags = []
          dev_size = 81920  pe_start = 2048  pe_count = 39 } }
  logical_volumes {
T
    lv r1 "$V" a000 4 'type = "raid1" device_count = 2 region_size = 4096
        raids = ["r1_rmeta_0", "r1_rimage_0", "r1_rmeta_1", "r1_rimage_1"]'
    lv r1_rmeta_0 '' b000 1 "$(on pv0 0)"
    lv r1_rimage_0 '' c000 4 "$(on pv0 1)"
    lv r1_rmeta_1 '' d000 1 "$(on pv1 0)"
    lv r1_rimage_1 '' e000 4 "$(on pv1 1)"
    lv m "$V" f000 4 'type = "mirror" mirror_count = 2 region_size = 1024 mirrors = ["m_mimage_0", 0, "m_mimage_1", 0]'
    lv m_mimage_0 '' g000 4 "$(on pv0 5)"
    lv m_mimage_1 '' h000 4 "$(on pv1 5)"
    lv base "$V" i000 4 "$(on pv0 9)"
    lv snap '' j000 4 "$(on pv0 13)"
    lv snapshot0 "$V" k000 4 'type = "snapshot" chunk_size = 16 origin = "base" cow_store = "snap"'
    lv pool "$V" l000 4 'type = "thin-pool" metadata = "pool_tmeta" pool = "pool_tdata" transaction_id = 1
        chunk_size = 128 discards = "passdown" zero_new_blocks = 1'
    lv pool_tdata '' m000 4 "$(on pv0 17)"
    lv pool_tmeta '' n000 4 "$(on pv0 21)"
    lv thin "$V" o000 8 'type = "thin" thin_pool = "pool" transaction_id = 0 device_id = 1'
    lv five "$V" p000 4 'type = "raid5" device_count = 3 stripe_size = 128 region_size = 4096 raids = ["five_rmeta_0",
        "five_rimage_0", "five_rmeta_1", "five_rimage_1", "five_rmeta_2", "five_rimage_2"]'
    for n in 0 1 2; do
        lv five_rmeta_$n '' q$n'00' 1 "$(on pv0 $((25 + 3 * n)))"
        lv five_rimage_$n '' s$n'00' 2 "$(on pv0 $((26 + 3 * n)))"
    done
    echo ' } }'
} >vg
# shellcheck disable=SC2086
set -- $loops
lvm pvcreate -q --norestorefile --uuid pvzero-0000-0000-0000-0000-0000-000000 "$1" >/dev/null
lvm pvcreate -q --norestorefile --uuid pvone0-0000-0000-0000-0000-0000-000000 "$2" >/dev/null
check "LVM accepts the text" lvm vgcfgrestore -q --force -f vg r
lvm lvs --noheadings --units b --nosuffix -o lv_name,lv_size -S lv_role=public | sed 's/^ *//' >lvs
give_back
is "$(ours q0 q1 | awk '$2 == "logical" { print $1, $3 }')" "$(awk '{ print "/dev/r/" $1, $2 }' lvs)" "and sees the same volumes"
piece() { dd if="$1" bs=1M skip=$((1 + $2)) count=4 status=none; }
# copy DISK EXTENT LV DISKS... NAME: its bytes are these
copy() {
    piece "$1" "$2" >w
    lv=$3
    shift 3
    ours -c "/dev/r/$lv" "$@" >g
    cmp -s w g
}
check "mirror: the first copy" copy q0 5 m q0 q1
check "... the other where it is missing" copy q1 5 m q1
check "raid1 never used: the first copy" copy q0 1 r1 q0 q1
check "... the other where it is missing" copy q1 1 r1 q1
has "$(field /dev/r/r1 trouble q1)" "Some\x20of\x20its\x20copies" "which is told"
check "an origin of a snapshot" copy q0 9 base q0 q1
cp q0 q0.before
run ours -w /dev/r/base q0 q1 </etc/hostname
is "$status" 1 "it is not written, since its snapshot would change too"
check "... and it is as it was" cmp q0 q0.before
has "$(field /dev/r/snap trouble q0 q1)" "It\x20is\x20a\x20snapshot" "a snapshot is refused"
has "$(field /dev/r/thin trouble q0 q1)" "'thin'" "a thin volume is"
has "$(field /dev/r/five trouble q0 q1)" "'raid5'" "raid5 is"
# superblocks of dm-raid: events at 16, failed devices at 24, how far it was filled at 32
super() { # DISK POSITION EVENTS FAILED FILLED
    perl -e 'open my $f, "+<:raw", shift; seek $f, 1 << 20, 0;
        print $f pack("V4 Q<3", 0x64526D44, 0, 2, @ARGV)' "$1" "$2" "$3" "$4" "$5"
}
super q0 0 9 0 18446744073709551615
super q1 1 9 0 18446744073709551615
check "raid1: the first of two good copies" copy q0 1 r1 q0 q1
super q0 0 8 0 18446744073709551615
check "one that fell behind is not read" copy q1 1 r1 q0 q1
super q0 0 9 0 1000
check "nor one that is being filled" copy q1 1 r1 q0 q1
super q0 0 9 1 18446744073709551615
super q1 1 9 1 18446744073709551615
check "nor one that has failed" copy q1 1 r1 q0 q1
has "$(field /dev/r/r1 trouble q0 q1)" "Some\x20of\x20its\x20copies" "which is told"
run ours -w /dev/r/r1 q0 q1 </etc/hostname
is "$status" 1 "and it is not written"
super q0 0 9 0 18446744073709551615
super q1 1 9 0 18446744073709551615
printf abc >abc
check "a whole one is" ours -w /dev/r/r1 q0 q1 <abc
is "$(piece q0 1 | head -c 3)$(piece q1 1 | head -c 3)" abcabc "in both copies"
done_testing
