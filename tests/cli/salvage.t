#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img convert --salvage: what cannot be read becomes zeroes, is told of, and the rest is there, as with qemu-img.
. "$(dirname "$0")/lib.sh"

# Compressed clusters that are broken, and an L2 table whose place makes no sense: two ways to be unreadable.
perl -e 'print "compressible text $_\n" for 1 .. 60000' >text
truncate -s 1M text
qemu-img convert -f raw -c -O qcow2 -o cluster_size=4k text broken.qcow2
first=$(perl -e 'open F, "<", "broken.qcow2"; seek F, 40, 0; read F, $b, 8; seek F, unpack("Q>", $b), 0; read F, $b, 8;
    seek F, unpack("Q>", $b) & 0xfffffffffffe00, 0; read F, $b, 8 * 9; print join " ", map { $_ & 0xffffffffff } unpack("Q>9", $b)')
set -- $first
poke broken.qcow2 $(($3 + 8)) '\377\377\377\377\377\377\377\377\377\377\377\377'
poke broken.qcow2 $(($8 + 8)) '\377\377\377\377\377\377\377\377\377\377\377\377'

run img convert -O raw broken.qcow2 t
is "$status" 1 "without it the copy fails"
check "and leaves nothing" test ! -e t
qemu-img convert --salvage -O raw broken.qcow2 theirs 2>theirs.err
for threads in 1 4; do
    run img convert --salvage -m $threads -O raw broken.qcow2 t
    is "$status" 0 "--salvage succeeds ($threads threads)"
    check "the good bytes are there and the others zero, as in qemu-img's" cmp t theirs
    is "$(echo "$err" | sed 's/^img: //' | grep -c '^warning: error while reading offset [0-9]*: Input/output error$')" 16 \
        "each sector has a warning"
    is "$(echo "$err" | sort)" "$(sed 's/^qemu-img:/img:/' theirs.err | sort)" "qemu-img's warnings"
    is "$(echo "$err" | sort -t ' ' -k 7 -n)" "$err" "in order"
done
run img convert --salvage -q -O raw broken.qcow2 t
is "$status-$err" "0-" "-q says nothing"
run img convert --salvage -c -O qcow2 broken.qcow2 t
is "$status" 0 "compressed"
check "  the same disk" qemu-img compare -q t theirs
check "  clean" qemu-img check -q t
run img convert --salvage -O raw text broken.qcow2 text t
is "$status" 0 "among several sources"
cat text theirs text >all
check "  the same bytes" cmp t all
like "$err" "img: warning: error while reading offset 8192: *" "  offsets are those of the source"

# an L2 table that lies between two clusters
qemu-img create -q -f qcow2 -o cluster_size=4k lost.qcow2 6M
qemu-io -f qcow2 -c 'write -P 1 0 6M' lost.qcow2 >/dev/null
l1=$(od -An -tu1 -j40 -N8 lost.qcow2 | awk '{ for (i = 1; i <= 8; i++) n = n * 256 + $i; print n }')
poke lost.qcow2 $((l1 + 14)) '\002'
run img convert -O raw lost.qcow2 t
is "$status" 1 "a table that is lost fails the copy"
run img convert --salvage -q -O raw lost.qcow2 t
is "$status" 0 "but not with --salvage"
perl -e '$m = 2 << 20; print "\1" x $m, "\0" x $m, "\1" x $m' >wanted
check "only what the table held is zero" cmp t wanted

cp text whole.raw
run img convert --salvage -O qcow2 -f raw whole.raw t
is "$status-$err" "0-" "nothing is said where nothing is lost"
check "and nothing lost" qemu-img compare -q -f raw whole.raw t
same_as_qemu <<'LIST'
rm t: convert --salvage -C -O raw text t
rm t: convert --salvage -C -c -O qcow2 text t
rm t: convert -C -c -S 4k -O qcow2 text t
rm t: convert -C -S 4k -O qcow2 text t
rm t: convert -r 2T -f raw -O raw text t
LIST
done_testing
