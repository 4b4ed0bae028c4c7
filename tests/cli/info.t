#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img info: what qemu-img says, to the byte; nothing opened on an image's say-so; names that are safe to show.
. "$(dirname "$0")/lib.sh"

mkdir sub
qemu-img create -q -f qcow2 plain.qcow2 64M
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 1M
qemu-img create -q -f qcow2 -o extended_l2=on,compression_type=zstd,refcount_bits=64,cluster_size=2M x.qcow2 1500M
qemu-img create -q -f qcow2 -o lazy_refcounts=on,cluster_size=512 lazy.qcow2 100
qemu-img create -q -f qcow2 -b ../plain.qcow2 -F qcow2 sub/over.qcow2
qemu-img create -q -f qcow2 -b over.qcow2 -F qcow2 sub/top.qcow2
qemu-img create -q -f qcow2 -o data_file=data.raw,data_file_raw=on data.qcow2 1M
qemu-img create -q -f qcow2 -o data_file=data2.raw data2.qcow2 1M
qemu-img create -q -f qcow2 snap.qcow2 8M
qemu-img snapshot -c first snap.qcow2
qemu-img snapshot -c 'a name that is longer than its column' snap.qcow2
qemu-img bitmap --add -g 64k snap.qcow2 b0
qemu-img bitmap --add --disable snap.qcow2 b1
qemu-img create -q r.raw 128M
qemu-img create -q odd.raw 1000
cp plain.qcow2 corrupt.qcow2
poke corrupt.qcow2 79 '\002'
cp lazy.qcow2 dirty.qcow2
poke dirty.qcow2 79 '\001'
cp plain.qcow2 bitmap-in-use.qcow2
qemu-img bitmap --add bitmap-in-use.qcow2 b
qemu-img create -q -f qcow2 -u -b nosuch -F raw lost.qcow2 1M
qemu-img create -q -f qcow2 --object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s aes.qcow2 1M 2>/dev/null
for f in ./*.qcow2 sub/*.qcow2 ./*.raw; do
    printf '%s\n' "info $f" "json: info --output=json $f"
done >list
cat >>list <<'LIST'
info -f raw plain.qcow2
info -f qcow2 plain.qcow2
info -U plain.qcow2
info --backing-chain sub/top.qcow2
json: info --backing-chain --output=json sub/top.qcow2
info --backing-chain plain.qcow2
json: info --backing-chain --output=json plain.qcow2
LIST
same_as_qemu <list

# the size of raw data that is not yet allocated, sizes of every magnitude
for size in 0 1 999 1000 1023 1024 10000 999999 1000k 1023k 1M 1.23M 99.9M 999M 1000M 1023M 1.5G 7T 1P 2E; do
    qemu-img create -q -f qcow2 -o cluster_size=2M s.qcow2 $size 2>/dev/null || continue
    qemu-img info s.qcow2 | grep virtual
    "$IMG" info s.qcow2 | grep virtual >&3
done >theirs 3>ours
is "$(cat ours)" "$(cat theirs)" "virtual sizes of every magnitude are written alike"

# a layer that is not there
run img info --backing-chain lost.qcow2
is "$status" 1 "--backing-chain fails where a layer is missing"
like "$err" "*'nosuch'*No such file or directory" "and names it"

# nothing that an image names is opened: a FIFO would hang, a device would show in the output
mkfifo fifo
for name in fifo /dev/tty /etc/shadow 'nbd://127.0.0.1:9' 'json:{"driver":"null-co"}'; do
    qemu-img create -q -f qcow2 -u -b "$name" -F raw named.qcow2 1M
    run timeout 10 "$IMG" info --output=json named.qcow2
    is "$status $(json_get .out backing-filename)" "0 $name" "backing file $name is shown and not opened"
done
qemu-img create -q -f qcow2 -u -b fifo -F raw named.qcow2 1M
run timeout 10 "$IMG" info --backing-chain named.qcow2
is "$status" 1 "--backing-chain refuses a FIFO and does not hang"
rm data.raw data2.raw
mkfifo data.raw
run timeout 10 "$IMG" info data.qcow2
is "$status" 0 "a data file is not opened"

# chains that go in circles or on and on
qemu-img create -q -f qcow2 -u -b ./loop.qcow2 -F qcow2 loop.qcow2 1M
run timeout 10 "$IMG" info --backing-chain loop.qcow2
is "$status" 1 "a chain of itself ends"
like "$err" "*infinite loop*" "and is called a loop"
run img info loop.qcow2
is "$status" 0 "without --backing-chain it is only described"
qemu-img create -q -f qcow2 -u -b ./b.qcow2 -F qcow2 a.qcow2 1M
qemu-img create -q -f qcow2 -u -b sub/../a.qcow2 -F qcow2 b.qcow2 1M
run timeout 10 "$IMG" info --backing-chain --output=json a.qcow2
is "$status$out" 1 "a circle of two ends, and prints no half list"
cp plain.qcow2 l0.qcow2
i=0
while [ $i -lt 70 ]; do
    qemu-img create -q -f qcow2 -u -b l$i.qcow2 -F qcow2 l$((i + 1)).qcow2 1M &
    i=$((i + 1))
done
wait
run img info --backing-chain l70.qcow2
is "$status" 1 "a chain of 71 layers is refused"
like "$err" "*more than 64 layers" "with its limit"
run img info --backing-chain --output=json l63.qcow2
is "$status $(json_get .out 63.filename)" "0 l0.qcow2" "one of 64 is shown"

# names that would do something to a terminal, and bytes that are no text
esc=$(printf 'a\033[31m\001\tb')
qemu-img create -q -f qcow2 -u -b "$esc" -F raw esc.qcow2 1M
run img info esc.qcow2
has "$out" 'backing file: a\x1b[31m\x01\x09b' "control characters of a backing file's name are escaped"
check "no control character is in the output" sh -c '! LC_ALL=C tr -d "\n" <.out | LC_ALL=C grep -q "[[:cntrl:]]"'
run img info --output=json esc.qcow2
check "JSON with them is valid" valid_json .out
is "$(json_get .out backing-filename)" "$esc" "and carries the name as it is"
bad=$(printf 'x\377\302y\303\251\302\233z')
qemu-img create -q -f qcow2 -u -b "$bad" -F raw bad.qcow2 1M
run img info bad.qcow2
has "$out" 'backing file: x\xff\xc2yé\xc2\x9bz' "bytes that are no UTF-8 and C1 controls are escaped, letters stay"
run img info --output=json bad.qcow2
check "JSON with them is valid UTF-8" valid_json .out
has "$(json_get .out backing-filename)" "$(printf 'x\357\277\275\357\277\275y\303\251')" "with U+FFFD in their place"
cp plain.qcow2 "$esc"
run img info "$esc"
has "$out" 'image: a\x1b[31m' "the image's own name is escaped too"
run img info "$esc-nosuch"
has "$err" "Could not open 'a\\x1b[31m" "and in messages"
check "no control character there" sh -c '! LC_ALL=C tr -d "\n" <.err | LC_ALL=C grep -q "[[:cntrl:]]"'

# in use
hold plain.qcow2
echo 'info plain.qcow2
info -U plain.qcow2
info --backing-chain sub/over.qcow2
info sub/over.qcow2
info -U --backing-chain sub/over.qcow2' >list
same_as_qemu <list
release
hold -r plain.qcow2
same_as_qemu <<'LIST'
info plain.qcow2
LIST
release

# headers that are wrong
n=0
while read -r offset bytes what; do
    n=$((n + 1))
    cp plain.qcow2 h$n.qcow2
    poke h$n.qcow2 "$offset" "$bytes"
    run timeout 10 "$IMG" info -f qcow2 h$n.qcow2
    is "$status" 1 "$what is refused"
    like "$err" "img: Could not open 'h$n.qcow2': ?*" "with a reason: $err"
done <<'LIST'
0 X the magic
7 \004 version 4
23 \026 clusters of 4 MiB
23 \010 clusters of 256 bytes
35 \003 an unknown encryption
36 \377 a huge L1 table
40 \377 an L1 table far away
56 \377 a huge refcount table
48 \377 a refcount table far away
60 \377 too many snapshots
72 \200 an unknown feature
96 \377 a huge refcount width
100 \377 a huge header
104 \001 a compression type without its feature
24 \377 a huge disk
LIST

# many_names FILE COUNT: an image with so many snapshots, each with a name of 64 KiB that must be escaped
many_names() {
    perl -e '
        my ($file, $count) = @ARGV;
        my $entry = pack "Q>L>S>S>L>L>Q>L>L>Q>Q>Q>", 3 * 65536, 0, 1, 65535, 0, 0, 0, 0, 24, 0, 0, 0;
        my $table = ($entry . "1" . "\1" x 65535) x $count;
        my $header = pack "a4L>Q>L>L>Q>L>L>Q>Q>L>L>Q>Q>Q>Q>L>L>", "QFI\xfb", 3, 0, 0, 16, 0, 0, 0, 0, 65536, 1, $count,
            4 * 65536, 0, 0, 0, 4, 104;
        open my $out, ">:raw", $file or die;
        print $out $header, "\0" x (4 * 65536 - length $header), $table, "\0" x 65536;
        close $out or die' "$1" "$2"
}

# resident COMMAND...: the largest memory that it has had, in MiB
resident() {
    python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)' "$@"
}

many_names names.qcow2 64
for output in human json; do
    used=$(resident "$IMG" info --output=$output names.qcow2)
    check "the longest names that are allowed take $used MiB to show ($output)" test "$used" -lt 64
done
many_names names.qcow2 65
run img info names.qcow2
is "$status $(wc -l <.err)" "1 1" "more than 4 MiB of snapshot names are refused with one line"
like "$err" "*Snapshot table entry 64: *4259840 bytes, more than 4194304" "which has the entry and both numbers"
: >empty
run img info -f qcow2 empty
is "$status" 1 "an empty file is no qcow2 image"
done_testing
