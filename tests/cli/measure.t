#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img measure: the numbers, words and exit statuses of qemu-img, over all options that have a say.
. "$(dirname "$0")/lib.sh"

qemu-img create -q -f qcow2 base.qcow2 5M
qemu-io -f qcow2 -c 'write -P 1 60k 200k' -c 'write -P 2 3M 512' -c 'write -z 1M 1M' base.qcow2 >/dev/null
qemu-img create -q -f qcow2 -o cluster_size=4k -b base.qcow2 -F qcow2 top.qcow2 7M
qemu-io -f qcow2 -c 'write -P 3 6000k 30k' -c 'write -P 3 4k 8k' top.qcow2 >/dev/null
qemu-img create -q -f qcow2 -o preallocation=metadata full.qcow2 3M
qemu-img convert -c -O qcow2 base.qcow2 packed.qcow2
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 2M
qemu-img create -q -f qcow2 -o extended_l2=on sub.qcow2 2M
qemu-io -f qcow2 -c 'write -P 1 3k 9k' sub.qcow2 >/dev/null
qemu-img create -q -f qcow2 -o data_file=d.data data.qcow2 2M
qemu-io -f qcow2 -c 'write -P 1 100k 9k' data.qcow2 >/dev/null
truncate -s 3000001 odd.raw
printf x | dd of=odd.raw bs=1 seek=2000000 conv=notrunc status=none
qemu-img create -q -f qcow2 none.qcow2 0
qemu-img create -q -f qcow2 marks.qcow2 40G
qemu-img bitmap --add marks.qcow2 a
qemu-img bitmap --add -g 4k marks.qcow2 another-name
qemu-img bitmap --add --disable -g 2M marks.qcow2 c
qemu-img create -q -f qcow2 snap.qcow2 2M
qemu-io -f qcow2 -c 'write -P 1 0 1M' snap.qcow2 >/dev/null
qemu-img snapshot -c one snap.qcow2
qemu-io -f qcow2 -c 'discard 0 1M' snap.qcow2 >/dev/null

{
    # sizes and options
    for options in cluster_size=512 cluster_size=4k cluster_size=2M refcount_bits=1 refcount_bits=64 extended_l2=on \
        compat=0.10 compat=0.10,extended_l2=on preallocation=metadata preallocation=falloc preallocation=full \
        cluster_size=512,refcount_bits=64 cluster_size=2M,extended_l2=on backing_file=x,backing_fmt=y data_file=x \
        compression_type=zstd lazy_refcounts=on size=7 nocow=on; do
        for size in 0 1 512 65537 1G 20G; do
            echo "measure -O qcow2 -o $options --size $size"
        done
        for file in base.qcow2 top.qcow2 odd.raw marks.qcow2; do
            echo "measure -O qcow2 -o $options $file"
        done
    done
    for file in base.qcow2 top.qcow2 full.qcow2 packed.qcow2 v2.qcow2 sub.qcow2 data.qcow2 none.qcow2 odd.raw marks.qcow2 \
        snap.qcow2 '-l one snap.qcow2' '-l snapshot.id=1 snap.qcow2' '-l snapshot.name=one snap.qcow2' \
        '-f raw base.qcow2' '-U base.qcow2'; do
        printf 'measure %s\n' "$file" "-O qcow2 $file" "-O raw --output=json $file" "-O qcow2 --output=json $file"
    done
    for size in 0 1 100 1G 2P 9223372036854775807; do
        printf 'measure --size %s\n' "$size" "$size -O qcow2" "$size --output=json" "$size -U"
    done
    for options in encrypt.format=luks encrypt.format=luks,cluster_size=4k encrypt.format=luks,encrypt.cipher-alg=aes-128 \
        encrypt.format=luks,encrypt.cipher-mode=cbc,encrypt.cipher-alg=aes-128; do
        echo "measure --object secret,id=s,data=abc -O qcow2 -o $options,encrypt.key-secret=s --size 1G"
        echo "measure --object secret,id=s,data=abc -O qcow2 -o $options,encrypt.key-secret=s base.qcow2"
    done
    echo "measure --object secret,id=s,data=abc -O luks -o key-secret=s --size 1G"
    echo "measure --object secret,id=s,data=abc -O luks -o key-secret=s,cipher-alg=aes-128 base.qcow2"
    # what is wrong
    printf 'measure %s\n' '' '--size abc' '--size 8E' '--size -1' '-O qcow2 --size 7E' '--output=xml --size 1' \
        'base.qcow2 odd.raw' '-f raw --size 1' '-l x --size 1' '--size 10 base.qcow2' '-l nosuch base.qcow2' \
        '-l snapshot.foo=x base.qcow2' '-l x odd.raw' '-O bogus base.qcow2' '-O bogus nosuch' nosuch '-f bogus base.qcow2' \
        '-f qcow2 odd.raw' '-O qcow2 -o bogus=1 --size 1' '-O qcow2 -o , --size 1' '-O raw -o preallocation=bogus --size 2G' \
        '-O raw -o help --size 1' '-O qcow2 -o cluster_size=0 --size 1' '-O qcow2 -o refcount_bits=0 --size 1' \
        '-O qcow2 -o cluster_size=512 --size 200G' '-O qcow2 -o cluster_size=100 --size 1' \
        '-O qcow2 -o extended_l2=on,cluster_size=4k --size 2G' '-O qcow2 -o compat=2 --size 2G' \
        '-O qcow2 -o refcount_bits=3 --size 2G' '-O qcow2 -o refcount_bits=1,compat=0.10 --size 2G' \
        '-O qcow2 -o preallocation=bogus --size 2G' '-O qcow2 -o refcount_bits=4294967297 --size 1' \
        '-O qcow2 -o extended_l2=maybe --size 1' '-O qcow2 -o compression_type=foo --size 2G' \
        '-O raw -o backing_file=x --size 1'
} | grep . >list
same_as_qemu <list

hold base.qcow2
same_as_qemu <<'LIST'
measure base.qcow2
measure -U -O qcow2 base.qcow2
LIST
release
run img measure --output=json -O qcow2 marks.qcow2
echo "$out" >json
check "JSON that is valid" valid_json json
is "$(json_get json required)" "$(img measure -O qcow2 marks.qcow2 | sed -n 's/^required size: //p')" "the same number as in words"

# what is promised is enough, and full is full
for options in cluster_size=16k cluster_size=64k extended_l2=on,cluster_size=2M refcount_bits=64; do
    promised=$(img measure -O qcow2 -o $options top.qcow2 | sed -n 's/^required size: //p')
    img convert -S 4k -O qcow2 -o $options top.qcow2 t
    check "$options: the image is no longer than that" test "$(stat -c %s t)" -le "$promised"
    full=$(img measure -O qcow2 -o $options top.qcow2 | sed -n 's/^fully allocated size: //p')
    img convert -S 0 -O qcow2 -o $options top.qcow2 t
    check "$options: nor is a full one longer than promised" test "$(stat -c %s t)" -le "$full"
done
done_testing
