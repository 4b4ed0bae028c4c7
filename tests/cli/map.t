#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img map: the same lines as qemu-img over chains, cluster kinds and formats, whole and in parts.
. "$(dirname "$0")/lib.sh"

io() { qemu-io "$@" >/dev/null; }

# one chain of three layers, of other cluster sizes, with every kind of cluster; $1: options of the middle layer
qemu-img create -q -f qcow2 base.qcow2 8M
io -c 'write -P 1 0 1M' -c 'write -z 2M 256k' -c 'write -P 2 3M 64k' -c 'write -P 3 7M 1M' base.qcow2
qemu-img create -q -f qcow2 -o cluster_size=4k -b base.qcow2 -F qcow2 mid.qcow2 10M
io -c 'write -P 4 512k 8k' -c 'write -z 0 4k' -c 'discard 3M 4k' -c 'write -P 5 9M 12k' mid.qcow2
qemu-img create -q -f qcow2 -o cluster_size=16k -b mid.qcow2 -F qcow2 top.qcow2 16M
io -c 'write -P 6 600k 100k' -c 'write -P 7 15M 1M' -c 'write -z 7M 512k' top.qcow2
# a longer base under a shorter middle
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 short.qcow2 2M
qemu-img create -q -f qcow2 -b short.qcow2 -F qcow2 long.qcow2 8M
io -c 'write -P 1 1M 64k' long.qcow2
# raw with holes, and under an overlay
truncate -s 4M holes.raw
pattern some 128
dd if=some of=holes.raw bs=4k seek=16 count=8 conv=notrunc status=none
dd if=some of=holes.raw bs=4k seek=512 count=32 conv=notrunc status=none
cp some odd.raw
truncate -s 130000 odd.raw
qemu-img create -q -f qcow2 -b holes.raw -F raw on-raw.qcow2
io -c 'write -P 9 96k 64k' on-raw.qcow2
# the other kinds
qemu-img convert -c -O qcow2 base.qcow2 compressed.qcow2
cp base.qcow2 mixed.qcow2
io -c 'write -c -P 11 4M 64k' -c 'write -P 12 5M 64k' mixed.qcow2
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 4M
io -c 'write -P 1 64k 300k' v2.qcow2
qemu-img create -q -f qcow2 -o extended_l2=on ext.qcow2 4M
io -c 'write -P 1 3k 1k' -c 'write -P 1 100k 10k' -c 'write -z 200k 2k' -c 'write -z 1M 128k' ext.qcow2
qemu-img create -q -f qcow2 -o extended_l2=on -b base.qcow2 -F qcow2 ext-over.qcow2
io -c 'write -P 1 3k 1k' -c 'write -P 1 100k 10k' -c 'write -z 200k 2k' -c 'write -z 1M 128k' ext-over.qcow2
for mode in metadata falloc full; do qemu-img create -q -f qcow2 -o preallocation=$mode pre-$mode.qcow2 2M; done
io -c 'write -P 1 64k 64k' pre-metadata.qcow2
qemu-img create -q -f qcow2 -o data_file=data.raw data.qcow2 4M
io -c 'write -P 1 64k 128k' -c 'write -P 2 1M 64k' -c 'write -z 2M 64k' data.qcow2
qemu-img create -q -f qcow2 -o data_file=data2.raw,data_file_raw=on data-raw.qcow2 4M
io -c 'write -P 1 64k 128k' -c 'write -P 2 1M 64k' data-raw.qcow2
cp base.qcow2 zero-alloc.qcow2
io -c 'write -z 64k 128k' -c 'write -z -u 512k 64k' zero-alloc.qcow2
cp base.qcow2 snap.qcow2
qemu-img snapshot -c s snap.qcow2
io -c 'write -P 8 64k 64k' -c 'write -P 8 320k 64k' snap.qcow2
qemu-img create -q -f qcow2 -o cluster_size=512 tiny.qcow2 1M
io -c 'write -P 1 1k 5k' -c 'write -P 1 100k 512' -c 'write -z 200k 1k' tiny.qcow2
qemu-img create -q -f qcow2 empty.qcow2 1M
qemu-img create -q -f qcow2 none.qcow2 0
qemu-img create -q none.raw 0
qemu-img create -q -f qcow2 -o cluster_size=4k odd.qcow2 1000000
io -c 'write -P 1 996k 512' odd.qcow2

for f in *.qcow2 *.raw; do
    case $f in
    data-raw.qcow2) continue ;; # below
    *.raw) format='-f raw' ;;
    *) format= ;;
    esac
    printf 'map %s\n' "$format $f" "$format --output=json $f"
done >list
for f in top.qcow2 on-raw.qcow2 ext-over.qcow2 holes.raw; do
    for part in '--start-offset=1M --max-length=1M' '--start-offset=3 --max-length=5' '-s 64k' '--max-length=100k' \
        '--start-offset=600000 --max-length=123456' '--max-length=0' '--start-offset=99M' '--start-offset=512k --max-length=9P'; do
        printf 'map %s\n' "$part --output=json $f" "$part $f"
    done
done >>list
same_as_qemu <list

# holes of an external data file are told as such, also where qemu-img takes the whole file for data
run img map --output=json data-raw.qcow2
qemu-img map -f raw --output=json data2.raw | sed 's/"data": false/"data": true/' >wanted
is "$out" "$(cat wanted)" "a raw data file is shown with its holes"

run img map --output=json top.qcow2
check "JSON is valid" valid_json .out
check "and covers the disk without a gap" perl -MJSON::PP -e '
    undef $/; my $at = 0;
    for my $e (@{decode_json(<STDIN>)}) { die "gap at $at" if $e->{start} != $at; $at += $e->{length}; }
    die "ends at $at" if $at != 16 << 20;' <.out
run img map -l 512 --output=json top.qcow2
long=$out
run img map --max-length=512 --output=json top.qcow2
is "$out" "$long" "-l is --max-length"

# in use
hold top.qcow2
printf 'map top.qcow2\nmap -U top.qcow2\n' >list
same_as_qemu <list
release
done_testing
