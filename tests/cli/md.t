#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# MD arrays inside disks: mirrors, stripes, linear ones; members that are missing or old.
. "$(dirname "$0")/lib.sh"
volumes=${IMG_BUILD:-$top/build}/tests/tools/volumes
md=$top/tests/cli/md.py
ours() { "$volumes" -f raw "$@"; }
data() { tail -c +2097153 "$1"; }

for r in 0 1; do
    "$md" m$r 8 1 2 $r 0 20
    "$md" s$r 8 0 2 $r 65536 20
    "$md" l$r $((8 + r)) -1 2 $r 0 20
done
"$md" five 8 5 3 0 65536 20
if command -v mdadm >/dev/null; then
    is "$(mdadm --examine m0 s1 l0 five 2>/dev/null | grep -c 'Checksum.*correct')" 4 "mdadm finds the superblocks good"
else
    skip "mdadm finds the superblocks good" "no mdadm"
fi
is "$(ours m0 m1 | tail -n 1)" "/dev/md127 raid 6291456 on=/dev/sda,/dev/sdb vuuid=00010203-0405-0607-0809-0a0b0c0d0e0f" "a mirror"
data m0 >w
ours -c /dev/md127 m1 m0 >g
check "its bytes" cmp w g
data s0 >a
data s1 >b
"$top/tests/cli/volumes.py" interleave 65536 a b >w
ours -c /dev/md127 s1 s0 >g
check "stripes" cmp w g
{ data l0 && data l1; } >w
ours -c /dev/md127 l1 l0 >g
check "a linear one" cmp w g
"$md" m0 8 1 2 0 0 19
data m1 >w
ours -c /dev/md127 m0 m1 >g
check "a copy that fell behind is not read" cmp w g
is "$(ours m0 m1 | grep -c ' raid ')" 1 "nor is it an array of its own"
has "$(ours m1 | tail -n 1)" "Only\x201\x20of\x20its\x202\x20members" "a missing copy is told"
has "$(ours s0 | tail -n 1)" "/dev/md127 raid 0 on=/dev/sda" "a missing stripe leaves nothing"
"$md" s5 8 0 8 5 65536 20
has "$(ours s0 s5)" "Only\x201\x20of\x20its\x202\x20members" "a member that says something else of the array is none"
has "$(ours five | tail -n 1)" "level\x205,\x20which\x20is\x20not\x20read" "a level that is not read is named"
poke m1 4300 '\377'
is "$(ours m1 | grep -c ' raid ')" 0 "a superblock with a wrong checksum makes no array"
done_testing
