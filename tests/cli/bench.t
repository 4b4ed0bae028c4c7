#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img bench: qemu-img's lines and words but for the time, and writes that land where they should.
. "$(dirname "$0")/lib.sh"

qemu-img create -q -f qcow2 a.qcow2 4M
qemu-img create -q -f raw a.raw 4M
qemu-img create -q -f qcow2 none.qcow2 0

# timed ARGUMENT...: the same lines as qemu-img's, but for the time
timed() {
    run img bench "$@"
    theirs=$(qemu-img bench "$@" 2>&1 | sed 's/[0-9.]* seconds/N seconds/; s/^qemu-img:/img:/')
    is "$status $(echo "$out" | sed 's/[0-9.]* seconds/N seconds/')$err" "0 $theirs" "bench $*"
}

timed -c 100 a.qcow2
timed -c 100 -f raw a.raw
timed -c 0 a.qcow2
timed -c 10 -d 1 -s 64k -S 128k -o 1M a.qcow2
timed -c 3000 -d 200 a.qcow2
timed -c 100 -S 0 a.qcow2
timed -c 3 -s 1000 -o 17 -d 1 a.qcow2
timed -c 10 -o 4190208 a.qcow2
timed -c 10 -w a.qcow2
timed -c 10 -w --pattern 7 -q a.qcow2
timed --pattern 0x7 -c 3 a.qcow2
timed -c 200 -w --flush-interval 64 a.qcow2
timed -c 200 -w --flush-interval 64 --no-drain a.qcow2
timed -c 10 -w --flush-interval 64 a.qcow2
timed -c 64 -d 4 -w --flush-interval 4 -f raw a.raw
timed -c 10 --no-drain a.qcow2
timed -c 30 -t none a.qcow2
timed -c 3 -w -t directsync -f raw a.raw
timed -c 30 -i threads a.qcow2
timed -c 30 -n -t none a.qcow2
timed -c 3 -U a.qcow2

same_as_qemu <<'LIST'
bench
bench a.qcow2 a.raw
bench -c abc a.qcow2
bench -c -1 a.qcow2
bench -c 3000000000 a.qcow2
bench -d abc a.qcow2
bench -d 3000000000 a.qcow2
bench -s abc a.qcow2
bench -s 3G a.qcow2
bench -S abc a.qcow2
bench -o abc a.qcow2
bench -o -1 a.qcow2
bench -w --flush-interval 6 a.qcow2
bench --flush-interval 64 a.qcow2
bench -w --flush-interval abc a.qcow2
bench --pattern 300 a.qcow2
bench --pattern abc a.qcow2
bench -t bogus a.qcow2
bench -i bogus a.qcow2
bench -c 3 -i native a.qcow2
bench -c 3 -n a.qcow2
bench -c 3 -w -U a.qcow2
bench -f bogus a.qcow2
bench -f qcow2 a.raw
bench nosuch
bench -c 10 -o 5M a.qcow2
bench -c 10 -o 4193000 a.qcow2
bench -c 10 -s 5M a.qcow2
LIST
for arguments in '-d 0 a.qcow2' '-d 5000 a.qcow2' '-s 0 a.qcow2' none.qcow2 '-d 4096 -s 1G a.qcow2'; do
    # shellcheck disable=SC2086 # words are meant to be split
    run timeout 20 "$IMG" bench $arguments
    is "$status" 1 "bench $arguments fails"
    is "$(echo "$err" | grep -vc AddressSanitizer)" 1 "in one line: $err"
done

for mode in '' '-i threads' '-t none' '--no-drain --flush-interval 8'; do
    truncate -s 0 w.raw
    truncate -s 1M w.raw
    # shellcheck disable=SC2086
    run img bench -f raw -w --pattern 0xa5 -c 40 -d 8 -s 8k -S 16k -o 16k $mode w.raw
    is "$status" 0 "writes ($mode)"
    perl -e '$b = "\0" x 2 ** 20; for $i (0 .. 39) { substr($b, (16384 + $i * 16384) % 2 ** 20, 8192) = "\xa5" x 8192 } print $b' >wanted
    check "  landed at every step and nowhere else" cmp w.raw wanted
done
run img bench -w --pattern 3 -c 64 -s 64k a.qcow2
check "an image that grows is clean" qemu-img check -q a.qcow2
check "and has it all" qemu-io -f qcow2 -c 'read -P 3 0 4M' a.qcow2
run img bench --output=json -c 10 -d 2 a.qcow2
echo "$out" >json
is "$(json_get json count) $(json_get json depth) $(json_get json operation)" "10 2 read" "--output=json"
like "$(json_get json seconds)" "[0-9]*" "with the time"
cp a.qcow2 before
chmod 400 before
hold a.qcow2
run img bench -c 3 a.qcow2
is "$status" 1 "an image in use is refused"
run img bench -c 3 -U a.qcow2
is "$status" 0 "and read with -U"
release
done_testing
