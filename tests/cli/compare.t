#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img compare: qemu-img's words and exit statuses, for content, sizes and strict mode.
. "$(dirname "$0")/lib.sh"

io() { qemu-io "$@" >/dev/null; }

qemu-img create -q -f qcow2 a.qcow2 16M
io -c 'write -P 1 0 1M' -c 'write -P 2 5M 3M' -c 'write -z 10M 1M' a.qcow2
qemu-img convert -O raw a.qcow2 a.raw
qemu-img convert -c -O qcow2 a.qcow2 compressed.qcow2
qemu-img convert -O qcow2 -o cluster_size=4k a.qcow2 small.qcow2
cp a.raw full.raw
dd if=/dev/zero of=full.raw bs=1M seek=12 count=1 conv=notrunc status=none
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 longer.qcow2 20M
cp longer.qcow2 longer-data.qcow2
io -c 'write -P 9 17M 512' longer-data.qcow2
cp longer.qcow2 longer-zero.qcow2
io -c 'write -z 17M 64k' -c 'write -P 0 18M 64k' longer-zero.qcow2
for at in 0 512 511 5242880 8388607 1048576 12582912 16776704 7000000; do
    cp a.raw differ-$at.raw
    poke differ-$at.raw $at 'Z'
done
qemu-img create -q -f qcow2 empty.qcow2 16M
qemu-img create -q empty.raw 16M
qemu-img create -q none.raw 0
qemu-img create -q odd.raw 1000
cp odd.raw odd2.raw
poke odd2.raw 999 Z

{
    for b in a.raw compressed.qcow2 small.qcow2 full.raw over.qcow2 longer.qcow2 longer-data.qcow2 longer-zero.qcow2 \
        empty.qcow2 none.raw differ-*.raw; do
        printf '%s\n' "compare a.qcow2 $b" "compare $b a.qcow2" "compare -s a.qcow2 $b"
    done
    for pair in 'over.qcow2 small.qcow2' 'empty.qcow2 empty.raw' 'a.raw full.raw' 'odd.raw odd2.raw' 'odd.raw odd.raw' \
        'empty.qcow2 differ-0.raw' 'longer-data.qcow2 longer.qcow2' 'none.raw none.raw' 'a.raw differ-511.raw'; do
        echo "compare $pair"
        case $pair in
        'a.raw full.raw' | 'longer-data.qcow2 '*) ;; # below
        *) echo "compare -s $pair" ;;
        esac
    done
    cat <<'LIST'
compare -q a.qcow2 differ-0.raw
compare -q a.qcow2 a.raw
compare -q -p a.qcow2 a.raw
compare -f raw -F raw a.qcow2 a.qcow2
compare -f qcow2 -F raw a.qcow2 a.raw
compare -f qcow2 -F qcow2 a.qcow2 a.raw
compare -f raw a.raw a.qcow2
compare -s -q a.qcow2 longer.qcow2
compare -T none a.qcow2 a.raw
LIST
} >list
same_as_qemu <list

# qemu-img names the start of a hole when one side's hole ends with the disk; we name where the sides part
run img compare -s a.raw full.raw
is "$status $out" "1 Strict mode: Offset 12582912 block status mismatch!" "strict: where data begins on one side only"
run img compare -s longer-data.qcow2 longer.qcow2
is "$status $out" "1 Strict mode: Offset 17825792 block status mismatch!" "strict: the same in the longer part"

run img compare --strict --a-format=qcow2 --b-format=raw a.qcow2 longer.qcow2
is "$status" 1 "the long names are there"

# JSON
run img compare --output=json a.qcow2 differ-5242880.raw
is "$status" 1 "JSON: the status is the same"
check "JSON is valid" valid_json .out
is "$(json_get .out identical) $(json_get .out mismatch) $(json_get .out offset)" "false content 5242880" "JSON tells where"
run img compare --output=json a.qcow2 longer.qcow2
is "$status $(json_get .out identical) $(json_get .out virtual-size-b)" "0 true 20971520" "JSON tells of identical ones"
run img compare --output=json -s a.qcow2 longer.qcow2
is "$status $(json_get .out mismatch)" "1 size" "JSON tells of sizes"

# what cannot be read
cp a.qcow2 broken.qcow2
l2=$(od -An -tx1 -j 40 -N 8 broken.qcow2 | tr -d ' ')
poke broken.qcow2 $((0x$l2)) '\200\000\000\001\000\000\002\000'
run img compare broken.qcow2 a.raw
case $status in 3 | 4) ok 0 "a broken table: status 3 or 4" ;; *) ok 1 "a broken table: status 3 or 4, is $status" ;; esac
like "$err" "img: ?*" "and a reason"

# progress
run img compare -p a.qcow2 a.raw
like "$out" "    (0.00/100%)*(100.00/100%)*Images are identical." "-p prints percent lines"

# in use
hold a.qcow2
printf 'compare a.qcow2 a.raw\ncompare a.raw a.qcow2\ncompare -U a.qcow2 a.raw\n' >list
same_as_qemu <list
release
done_testing
