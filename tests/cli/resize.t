#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img resize: sizes, refusals and messages as in qemu-img; what is there afterwards.
. "$(dirname "$0")/lib.sh"

qemu-img create -q -f qcow2 a.qcow2 10M
truncate -s 1M r.raw
# each line runs in qemu-img first: sizes are absolute, or nothing is changed
same_as_qemu <<'LIST'
resize
resize a.qcow2
resize -f qcow2
resize -f qcow2 a.qcow2
resize a.qcow2 5M
resize a.qcow2 -5M
resize a.qcow2 -- -5M
resize a.qcow2 x
resize a.qcow2 +x
resize a.qcow2 ''
resize a.qcow2 +
resize a.qcow2 --5
resize a.qcow2 0
resize --shrink a.qcow2 0
resize a.qcow2 -100M
resize --shrink a.qcow2 -100M
resize a.qcow2 8E
resize a.qcow2 10486000
resize a.qcow2 +1
resize --preallocation=foo a.qcow2 20M
resize --preallocation=full --shrink a.qcow2 5M
resize --preallocation=metadata a.qcow2 10M
resize nofile 1M
resize a.qcow2 1M b
resize +1M a.qcow2
resize -f nosuch a.qcow2 +1M
resize --nosuch a.qcow2 5M
resize a.qcow2 10M
resize a.qcow2 11M
resize -q a.qcow2 12M
resize a.qcow2 +0
resize --shrink a.qcow2 10M
resize --preallocation=off --shrink a.qcow2 9M
resize r.raw 1M
resize r.raw 512k
resize -f raw --preallocation=metadata r.raw 2M
resize -f raw r.raw 8E
resize -f raw --shrink r.raw 512k
LIST
img resize -q -f raw r.raw 1000001 && is "$(stat -c %s r.raw)" 1000448 "raw: rounded up to sectors"
run img resize -f raw --preallocation=falloc r.raw +1M
is "$status $(stat -c %s r.raw) $([ "$(stat -c %b r.raw)" -ge 2048 ] && echo full)" "0 2049024 full" "falloc reserves"
run img resize -f raw --preallocation=full r.raw +1M
is "$status $(stat -c %s r.raw)" "0 3097600" "full writes"
run img resize --output=json a.qcow2 +1M
echo "$out" >o
is "$status $(json_get o virtual-size)" "0 10485760" "the result as JSON"
run img resize a.qcow2 100P
is "$status $(echo "$err" | grep -c 'too large')" "1 1" "more than the format can"

# content is kept, new space is zero; with the sizes and modes of qcow2
for options in cluster_size=64k cluster_size=512 compat=0.10 extended_l2=on data_file=data.raw; do
    rm -f data.raw
    qemu-img create -q -f qcow2 -o $options c.qcow2 3M
    qemu-io -f qcow2 c.qcow2 -c 'write -P 7 0 3M' >/dev/null
    img resize -q --shrink c.qcow2 1000448
    img resize -q c.qcow2 +7M
    check "$options: what was cut off reads as zeroes" \
        qemu-io -f qcow2 -c 'read -P 7 0 1000448' -c 'read -P 0 1000448 7M' c.qcow2
    for mode in metadata falloc full; do img resize -q --preallocation=$mode c.qcow2 +1M; done
    check "$options: preallocated space too" qemu-io -f qcow2 -c 'read -P 0 1000448 10M' c.qcow2
    check "$options: no fault is found" qemu-img check -q c.qcow2
done

# snapshots
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 4M
qemu-img snapshot -c s v2.qcow2
qemu-img create -q -f qcow2 v3.qcow2 4M
qemu-io -f qcow2 v3.qcow2 -c 'write -P 7 0 4M' >/dev/null
qemu-img snapshot -c s v3.qcow2
same_as_qemu <<'LIST'
resize v2.qcow2 5M
resize --shrink v2.qcow2 3M
LIST
check "with a snapshot" "$IMG" resize --shrink v3.qcow2 2M
img resize -q v3.qcow2 6M
check "the snapshot is what it was" qemu-img check -q v3.qcow2
qemu-img snapshot -a s v3.qcow2
check "and is read by qemu" qemu-io -f qcow2 -c 'read -P 7 0 4M' v3.qcow2

# bitmaps follow
for granularity in 512 64k; do
    qemu-img create -q -f qcow2 b.qcow2 4M
    img bitmap --add -g $granularity b.qcow2 b
    qemu-io -f qcow2 b.qcow2 -c 'write 0 1k' -c 'write 3000k 70k' -c 'write 4095k 1k' >/dev/null
    cp b.qcow2 q.qcow2
    for size in 4000k 9M 3010k 80M; do
        img resize -q --shrink b.qcow2 $size
        qemu-img resize -q --shrink q.qcow2 $size
        check "granularity $granularity, to $size: no fault" qemu-img check -q b.qcow2
        is "$(img bitmap --list b.qcow2 b)" "$(img bitmap --list q.qcow2 b)" "... the bits are those of qemu"
    done
done
is "$(qemu-img info b.qcow2 | grep -c in-use)" 0 "and it is valid"
qemu-img create -q -f qcow2 f.qcow2 1M
img bitmap --add -g 512 f.qcow2 fine
run img resize f.qcow2 3T
has "$status $err" "Too much space will be occupied by the bitmap" "one that would become too large"
is "$(qemu-img info --output=json f.qcow2 >o; json_get o virtual-size)" 1048576 "changes nothing"
done_testing
