#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# What a file is taken for when nobody says: what looks like a format that we do not have is not taken for raw, and the
# names that images hold are found where QEMU finds them.
. "$(dirname "$0")/lib.sh"

for format in vmdk vdi vhdx vpc qed parallels; do
    file=disk.$format
    qemu-img create -q -f $format "$file" 4M
    [ $format != vpc ] || qemu-img create -q -f vpc -o subformat=dynamic "$file" 4M
    run "$IMG" convert -O raw "$file" out
    is "$status" 1 "$format: not converted as if it were raw"
    like "$err" "img: Could not open '$file': it looks like *, a format that is not supported; with the format 'raw'*" \
        "$format: says what it looks like"
    run ls out
    is "$status" 2 "$format: no target"
    run "$IMG" info -f raw "$file"
    is "$status" 0 "$format: raw by name"
done
patient qemu-img create -q -f luks --object secret,id=s,data=x -o key-secret=s,iter-time=10 disk.luks 1M
run "$IMG" info disk.luks
is "$status" 0 "luks: without its key"
like "$out" "*file format: luks*" "... what it is"

mkdir sub
pattern base 64
qemu-img convert -q -f raw -O qcow2 base sub/base.qcow2
(cd sub && qemu-img create -q -f qcow2 -b file:base.qcow2 -F qcow2 top.qcow2)
run "$IMG" compare -F raw sub/top.qcow2 base
is "$out" "Images are identical." "a backing file named file:NAME"

qemu-img create -q -f qcow2 -o data_file=here.raw sub/here.qcow2 1M
run "$IMG" compare sub/here.qcow2 here.raw
is "$out" "Images are identical." "a data file in the working directory, where QEMU put it"
"$IMG" create -q -f qcow2 -o data_file=beside.raw sub/beside.qcow2 1M
cp here.raw beside.raw
qemu-io -f raw -c "write -P 9 0 64k" beside.raw >io 2>&1
run "$IMG" compare sub/beside.qcow2 here.raw
is "$out" "Images are identical." "one that lies beside the image comes first"

done_testing
