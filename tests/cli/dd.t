#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img dd: the bytes, sizes, words and exit statuses of qemu-img's, and an output that is whole or not there.
. "$(dirname "$0")/lib.sh"

pattern data 1500
truncate -s 3M a.raw
dd if=data of=a.raw bs=1k seek=700 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 a.raw a.qcow2
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 -o cluster_size=4k over.qcow2 5M
qemu-io -f qcow2 -c 'write -P 7 4000k 100k' -c 'write -P 8 1030k 5k' over.qcow2 >/dev/null
truncate -s 1000001 odd.raw
printf x | dd of=odd.raw bs=1 seek=1000000 conv=notrunc status=none
qemu-img create -q -f qcow2 none.qcow2 0

# as_theirs ARGUMENT...: both tools make the same output: its bytes, what they say and how they end
as_theirs() {
    rm -f t theirs
    run img dd "$@" of=t
    qemu-img dd "$@" of=theirs >theirs.out 2>&1
    is "$status $out$err" "$? $(sed 's/^qemu-img:/img:/' theirs.out)" "dd $*"
    case $* in
    *'-O qcow2'*)
        check "  the same disk" qemu-img compare -s -f qcow2 -F qcow2 t theirs
        check "  clean" qemu-img check -q t
        ;;
    *)
        check "  the same bytes" cmp t theirs
        check "  all of them stored" test "$(stat -c '%b' t)" -ge "$(($(stat -c '%s' t) / 512))"
        ;;
    esac
}

for format in raw qcow2; do
    for input in a.qcow2 over.qcow2 odd.raw none.qcow2; do
        for part in 'bs=64k' 'bs=64k skip=11 count=20' 'bs=1000 skip=717 count=1200' 'bs=1M skip=2' \
            'bs=1M count=1' 'bs=100k skip=3 count=1000' 'bs=512k count=2 skip=1'; do
            # shellcheck disable=SC2086 # words are meant to be split
            as_theirs -O $format if=$input $part
        done
    done
done
as_theirs if=a.qcow2 skip=3000 count=3010
as_theirs if=a.qcow2 bs=7 skip=100001 count=100101
as_theirs if=a.qcow2 bs=1 count=1
as_theirs if=a.qcow2 bs=1M count=0
as_theirs if=a.qcow2 bs=1M skip=9
as_theirs if=a.qcow2 bs=1M skip=2 count=1
as_theirs if=a.qcow2 bs=1M skip=1 count=1
as_theirs if=a.qcow2 bs=1M count=7E
as_theirs if=a.qcow2 count=7E skip=7E
as_theirs bs=64k if=a.raw if=a.qcow2
as_theirs -f raw bs=64k if=a.qcow2
as_theirs -f qcow2 bs=64k skip=0x2 if=file:a.qcow2
same_as_qemu <<'LIST'
rm t: dd
rm t: dd if=a.qcow2
rm t: dd of=t
rm t: dd if=a.qcow2 of=t bogus
rm t: dd if=a.qcow2 of=t bogus=1
rm t: dd if=a.qcow2 of=t i=a
rm t: dd if=a.qcow2 of=t seek=1
rm t: dd if=a.qcow2 of=t bs=0
rm t: dd if=a.qcow2 of=t bs=4G
rm t: dd if=a.qcow2 of=t bs=abc
rm t: dd if=a.qcow2 of=t bs=
rm t: dd if=a.qcow2 of=t count=abc
rm t: dd if=a.qcow2 of=t count=-1
rm t: dd if=a.qcow2 of=t skip=8E
rm t: dd if=nosuch of=t
rm t: dd -f bogus if=a.qcow2 of=t
rm t: dd -f qcow2 if=a.raw of=t
rm t: dd -O bogus if=a.qcow2 of=t
rm t: dd -O bogus if=nosuch of=t
LIST

for part in if=a.qcow2 'if=nosuch' 'if=a.qcow2 bs=0' 'if=a.raw -f qcow2'; do
    rm -f t
    # shellcheck disable=SC2086
    "$IMG" dd $part of=nosuch/t >/dev/null 2>&1
    is "$?" 1 "dd $part into no folder fails"
done
cp a.qcow2 before
for name in a.qcow2 file:a.qcow2; do
    run img dd if=over.qcow2 of=$name
    is "$status" 1 "the input's backing file as output ($name) is refused"
done
run img dd if=a.qcow2 of=a.qcow2
is "$status" 1 "so is the input"
check "neither is touched" cmp a.qcow2 before
echo old >t
chmod 600 t
run img dd -O qcow2 bs=1M if=a.qcow2 of=t
is "$status $(stat -c %a t)" "0 600" "what is replaced gives its mode"
run img dd --output=json -O qcow2 bs=1M skip=1 if=a.qcow2 of=t
echo "$out" >json
is "$(json_get json virtual-size) $(json_get json format)" "2097152 qcow2" "--output=json tells what was made"
run img dd -p bs=1M if=a.qcow2 of=t
has "$out" "(100.00/100%)" "-p shows the progress"

hold a.qcow2
run img dd if=a.qcow2 of=t
is "$status" 1 "an input in use is refused"
has "$err" 'Failed to get shared "write" lock' "with the lock's name"
run img dd -U bs=64k if=a.qcow2 of=t
is "$status" 0 "and read with -U"
run img dd if=a.raw of=a.qcow2
is "$status" 1 "an output in use is refused"
release
printf '\377\377\377\377\377\377' | dd of=over.qcow2 bs=1 seek=5000 conv=notrunc status=none
if [ "$(id -u)" = 0 ]; then
    mkdir small
    if mount -t tmpfs -o size=1m tmpfs small 2>/dev/null; then
        mounted=$work/small
        run img dd if=a.qcow2 of=small/t
        is "$status" 1 "a full disk fails"
        has "$err" "No space left on device" "as such"
        is "$(ls -A small)" "" "and nothing is left"
    else
        skip "a full disk" "no file system can be mounted here"
    fi
else
    skip "a full disk" "only root can mount a file system"
fi
done_testing
