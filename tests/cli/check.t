#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img check: findings, summary, statuses and repairs beside qemu-img's, and which part of the disk is hit.
. "$(dirname "$0")/lib.sh"

io() { qemu-io "$@" >/dev/null; }
be64() { printf '%d' "0x$(od -An -tx1 -j "$2" -N 8 "$1" | tr -d ' \n')"; }
be64_without_flags() { printf '%d' "0x00$(od -An -tx1 -j $(($2 + 1)) -N 7 "$1" | tr -d ' \n')"; }
# the offset of the first L2 table, and that of the first refcount block
l2_of() { be64_without_flags "$1" "$(be64 "$1" 40)"; }
refcounts_of() { be64 "$1" "$(be64 "$1" 48)"; }

# 64 KiB clusters: 5 to 20 hold the first MiB
qemu-img create -q -f qcow2 good.qcow2 64M
io -c 'write -P 1 0 1M' good.qcow2
l2=$(l2_of good.qcow2)
counts=$(refcounts_of good.qcow2)
first=$(($(be64_without_flags good.qcow2 "$l2") / 65536))

qemu-img create -q -f qcow2 empty.qcow2 1M
qemu-img create -q -f qcow2 none.qcow2 0
qemu-img convert -c -O qcow2 good.qcow2 compressed.qcow2
cp good.qcow2 snap.qcow2
qemu-img snapshot -c one snap.qcow2
io -c 'write -P 2 256k 128k' snap.qcow2
qemu-img snapshot -c two snap.qcow2
for bits in 1 2 8 64; do
    qemu-img create -q -f qcow2 -o refcount_bits=$bits,cluster_size=4k width$bits.qcow2 8M
    io -c 'write -P 1 1M 300k' width$bits.qcow2
done
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 8M
io -c 'write -P 1 1M 300k' v2.qcow2
qemu-img create -q -f qcow2 -o extended_l2=on ext.qcow2 8M
io -c 'write -P 1 1M 300k' -c 'write -z 3M 10k' ext.qcow2
qemu-img create -q -f qcow2 -o data_file=data.raw data.qcow2 8M
io -c 'write -P 1 1M 300k' data.qcow2
qemu-img create -q -f qcow2 -b nosuch -u -F raw over.qcow2 8M
qemu-img create -q -f qcow2 -o preallocation=metadata pre.qcow2 8M
qemu-img create -q -f qcow2 bitmap.qcow2 8M
qemu-img bitmap --add bitmap.qcow2 b
for f in *.qcow2; do
    case $f in over.qcow2) continue ;; esac # qemu-img opens the backing file
    printf 'check %s\n' "$f" "--output=json $f"
    # qemu-img moves the bitmap when it closes the image
    case $f in bitmap.qcow2) ;; *) echo "check -r all $f" ;; esac
done >list
cat >>list <<'LIST'
check -q good.qcow2
check -q --output=json good.qcow2
check -f raw good.qcow2
check -f raw --output=json good.qcow2
LIST
same_as_qemu <list
run img check over.qcow2
is "$status" 0 "a backing file is not needed"

# broken NAME: a copy of good.qcow2 to break
broken() { cp good.qcow2 "$1"; }
broken lost-count.qcow2
poke lost-count.qcow2 $((counts + 2 * (first + 1))) '\000\000'
broken leak.qcow2
poke leak.qcow2 $((l2 + 8 * 3)) '\000\000\000\000\000\000\000\000'
broken two-leaks.qcow2
poke two-leaks.qcow2 $((l2 + 8 * 3)) '\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000'
broken high-count.qcow2
poke high-count.qcow2 $((counts + 2 * (first + 2))) '\000\005'
broken shared.qcow2
dd if=good.qcow2 of=shared.qcow2 bs=1 skip=$((l2 + 8)) seek=$((l2 + 16)) count=8 conv=notrunc status=none
broken no-copied.qcow2
poke no-copied.qcow2 $((l2 + 8 * 4)) '\000'
broken unaligned.qcow2
poke unaligned.qcow2 $((l2 + 8 * 5 + 6)) '\002'
broken reserved.qcow2
poke reserved.qcow2 $((l2 + 8 * 6)) '\240'
broken l1-reserved.qcow2
poke l1-reserved.qcow2 $(($(be64 good.qcow2 40))) '\240'
broken past-end.qcow2
poke past-end.qcow2 $((l2 + 8 * 7)) '\200\000\001'
broken l1-unaligned.qcow2
poke l1-unaligned.qcow2 $(($(be64 good.qcow2 40) + 6)) '\002'
broken metadata.qcow2
poke metadata.qcow2 $((l2 + 8 * 8)) '\200\000\000\000\000\000\000\000'
cp snap.qcow2 snap-count.qcow2
poke snap-count.qcow2 $((counts + 2 * (first + 1))) '\000\001'
qemu-img create -q -f qcow2 -o lazy_refcounts=on dirty.qcow2 8M
cp dirty.qcow2 dirty-clean.qcow2
hold dirty.qcow2
echo 'write -P 1 0 128k' >&9
echo 'read 512 512' >&9
tries=0
until [ "$(grep -c '^read 512/512' .holder)" -ge 2 ] || [ $tries -gt 100 ]; do tries=$((tries + 1)); sleep 0.05; done
cp dirty.qcow2 killed.qcow2
release
cp killed.qcow2 dirty.qcow2

# What both tools say of it. Findings are compared as sets and without the lines that only we have: guest ranges, and
# where else a cluster is used.
for f in lost-count leak two-leaks high-count shared no-copied metadata snap-count dirty; do
    cp $f.qcow2 theirs.qcow2
    cp $f.qcow2 ours.qcow2
    run qemu-img check --output=json theirs.qcow2
    theirs=$status
    theirs_corrupt=$(json_get .out corruptions)
    theirs_leaks=$(json_get .out leaks)
    sort .err >theirs.lines
    run img check --output=json ours.qcow2
    is "$status" "$theirs" "$f: status $theirs"
    is "$(json_get .out corruptions) $(json_get .out leaks)" "$theirs_corrupt $theirs_leaks" "$f: as many corruptions and leaks"
    grep -v 'is also used' .err | sort >ours.lines
    is "$(cat ours.lines)" "$(cat theirs.lines)" "$f: the same findings"
done
# Here the tools go on differently behind the first finding (qemu-img follows an L1 entry that it has called corrupt).
for f in unaligned reserved l1-reserved past-end l1-unaligned; do
    run img check $f.qcow2
    is "$status" 2 "$f: corrupt"
    like "$err" "*ERROR*" "$f: a finding"
done
for f in lost-count leak two-leaks high-count shared no-copied unaligned reserved l1-reserved past-end l1-unaligned metadata \
    snap-count dirty; do
    cp $f.qcow2 ours.qcow2
    run img check --output=json ours.qcow2
    check "$f: JSON is valid" valid_json .out
    found=$status
    run img check ours.qcow2
    is "$status" "$found" "$f: the same status for people"
    check "$f: looking changes nothing" cmp ours.qcow2 $f.qcow2
    run img check -r leaks ours.qcow2
    case $found$status in 30 | 2[023]) ok 0 "$f: after -r leaks" ;; *) ok 1 "$f: $found after -r leaks $status" ;; esac
    cp $f.qcow2 ours.qcow2
    run img check -r all ours.qcow2
    is "$status" 0 "$f: repaired"
    check "$f: qemu-img finds it clean" qemu-img check -q ours.qcow2
    run img check ours.qcow2
    is "$status" 0 "$f: and so do we"
done

# A count that fell to one would ask for COPIED, which is not set while other things are wrong.
broken flagless.qcow2
poke flagless.qcow2 $((l2 + 8 * 6)) '\240'
poke flagless.qcow2 $((l2 + 8 * 4)) '\000'
poke flagless.qcow2 $((counts + 2 * (first + 4))) '\000\002'
poke flagless.qcow2 $((counts + 2 * (first + 5))) '\000\002'
run img check --output=json flagless.qcow2
is "$(json_get .out corruptions) $(json_get .out leaks)" "2 2" "two errors and two leaks"
run img check -r leaks --output=json flagless.qcow2
is "$(json_get .out corruptions) $(json_get .out leaks) $(json_get .out leaks-fixed)" "1 1 1" "a repair of leaks makes no error"
check "it says which leaks it leaves" grep -q 'would then need OFLAG_COPIED' .err
run img check -r all --output=json flagless.qcow2
is "$(json_get .out corruptions) $(json_get .out leaks) $status" "(none) (none) 0" "repairing all repairs them"

# the words around a repair
cp leak.qcow2 l.qcow2
run img check -r leaks l.qcow2
is "$out" "The following inconsistencies were found and repaired:

    1 leaked clusters
    0 corruptions

Double checking the fixed image now...
No errors were found on the image.
15/1024 = 1.46% allocated, 6.67% fragmented, 0.00% compressed clusters
Image end offset: $(stat -c %s l.qcow2)" "the summary of a repair"
cp leak.qcow2 l.qcow2
run img check -r leaks --output=json l.qcow2
is "$(json_get .out leaks-fixed) $(json_get .out leaks) $status" "1 (none) 0" "JSON of a repair"

# which part of the disk is hit
run img check lost-count.qcow2
has "$err" "  guest range 0x10000-0x1ffff (64 KiB) is hit" "the guest range is told"
run img check --output=json lost-count.qcow2
is "$(json_get .out damaged-ranges.0.start) $(json_get .out damaged-ranges.0.length)" "65536 65536" "in JSON as well"
run img check --output=json good.qcow2
is "$(json_get .out damaged-ranges)" "(none)" "only when there is one"
run img check leak.qcow2
check "a leak hits nothing" sh -c '! grep "guest range" .err'
run img check -q leak.qcow2
is "$status$out" 3 "-q prints no summary"
run img check -p good.qcow2
like "$out" "*(100.00/100%)*No errors were found*" "-p prints percent lines"

# in use
hold good.qcow2
same_as_qemu <<'LIST'
check good.qcow2
check -r all good.qcow2
check -U good.qcow2
LIST
release
hold -r good.qcow2
same_as_qemu <<'LIST'
check good.qcow2
check -r leaks good.qcow2
LIST
release
done_testing
