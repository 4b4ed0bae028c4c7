#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# A target with an external data file: what may be one, and what becomes of a file that is there already.
. "$(dirname "$0")/lib.sh"

pattern data 4096
cp data a.raw
qemu-img convert -O qcow2 data a.qcow2
hidden() { find . -name '.[od]*.*'; }
mkdir sub

# the image itself, by any name
ln -s o link
for name in o ./o sub/../o link "$PWD/o"; do
    run img convert -O qcow2 -o data_file="$name" a.qcow2 o
    is "$status" 1 "convert refuses an image that is its own data file ($name)"
    has "$err" "The image and its data file are the same file" "with the reason"
    run img create -q -f qcow2 -o data_file="$name" o 1M
    is "$status" 1 "create too"
    has "$err" "The image and its data file are the same file" "with the reason"
    check "and nothing is there" test ! -e o
done
cp a.raw o
run img convert -O qcow2 -o data_file=./o a.qcow2 o
is "$status" 1 "also when it is there"
check "which stays" cmp o a.raw
rm o link

# a source, or what belongs to one
run img convert -U -O qcow2 -o data_file=a.raw a.raw o
is "$status" 1 "the source as data file is refused"
has "$err" "the data file is a source" "as such"
check "and not touched" cmp a.raw data
cp a.raw ext.raw
img create -q -f qcow2 -o data_file=ext.raw,data_file_raw=on ext.qcow2 4M
cp a.raw ext.raw
img create -q -f qcow2 -b ext.qcow2 -F qcow2 top.qcow2
cp ext.qcow2 ext.before
for source in ext.qcow2 top.qcow2; do
    run img convert -U -O raw $source ext.raw
    is "$status" 1 "the data file of $source as target is refused"
    run img convert -U -O qcow2 -o data_file=ext.raw $source o
    is "$status" 1 "and as data file of the target"
    check "it is not touched" cmp ext.raw a.raw
done
run img convert -U -n -O qcow2 ext.raw ext.qcow2
is "$status" 1 "an existing target whose data file is the source is refused"
has "$err" "data file is a source" "as such"
check "neither is touched" cmp ext.raw a.raw
check "nor the image" cmp ext.qcow2 ext.before
run img convert -c -O qcow2 -o data_file=fresh a.raw o
is "$status" 1 "compression into a data file is refused"
check "before anything is made" [ ! -e fresh -a ! -e o ]
is "$(hidden)" "" "no temporary file is left"

# what is there is replaced when all is complete, and not before
echo old >d
chmod 600 d
head -c 3000000 a.qcow2 >cut.qcow2
run img convert -O qcow2 -o data_file=d cut.qcow2 o
is "$status" 1 "a source that cannot be read to its end fails"
is "$(cat d)" old "and leaves an old data file as it was"
run img convert -O qcow2 -o data_file=d a.qcow2 nosuch/o
is "$(cat d)" old "so does a target that cannot be made"
run img create -q -f qcow2 -o data_file=d,preallocation=full,cluster_size=3k o 4M
is "$(cat d)" old "and create with wrong options"
is "$(hidden)" "" "no temporary file is left"
run img convert -O qcow2 -o data_file=d,data_file_raw=on a.qcow2 o
is "$status" 0 "a good conversion"
check "replaces it" cmp d a.raw
is "$(stat -c %a d)" 600 "keeps its mode"
check "and the image shows the disk" qemu-img compare -q o a.raw
check "and is sound" qemu-img check -q o
has "$(qemu-img info o)" "data file: d" "the image has the name that was given"
(cd sub && run img convert -O qcow2 -o "data_file=$work/far.raw" ../a.qcow2 o2)
check "a data file in another folder" img compare -q sub/o2 far.raw -F raw
has "$(qemu-img info sub/o2)" "data file: $work/far.raw" "is named as given"
run img convert -O qcow2 -B a.qcow2 -F qcow2 -o data_file=d a.qcow2 o
check "names of backing and data file together" [ "$status" = 0 ]
has "$(qemu-img info o)" "backing file: a.qcow2" "both stand there"

# signals
for times in 1 2; do
    for old in '' old; do
        rm -f o d
        [ -z "$old" ] || echo old >d
        perl -e '$SIG{INT} = "DEFAULT"; exec @ARGV' "$IMG" convert -r 2M -O qcow2 -o data_file=d a.raw o 2>slow.err &
        slow=$!
        tries=0
        until [ -n "$(hidden)" ] || [ $tries -ge 100 ]; do tries=$((tries + 1)); sleep 0.05; done
        for _ in $(seq $times); do kill -INT $slow; done 2>/dev/null
        wait $slow 2>/dev/null
        is "$?" 130 "SIGINT ($times) ends it"
        is "$(hidden)" "" "nothing is left behind"
        check "nor under the names" [ ! -e o -a "$(cat d 2>/dev/null)" = "$old" ]
    done
done
done_testing
