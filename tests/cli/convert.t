#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img convert: the target shows the source's bytes, in every format and with every option, and qemu-img agrees.
. "$(dirname "$0")/lib.sh"

io() { qemu-io "$@" >/dev/null; }

# converted TARGET SOURCE ARGUMENT...: our convert with these arguments makes TARGET equal to SOURCE
converted() {
    target=$1
    source=$2
    shift 2
    rm -f "$target"
    run img convert "$@"
    is "$status$out$err" 0 "convert $*"
    check "  it shows the same disk" qemu-img compare -q "$target" "$source"
    case $* in
    *'-O qcow2'*) check "  and is clean" qemu-img check -q "$target" ;;
    esac
}

pattern data 700
perl -e 'print "compressible text\n" x 20000' >text
truncate -s 8M a.raw
dd if=data of=a.raw bs=4k seek=8 conv=notrunc status=none
dd if=text of=a.raw bs=4k seek=600 conv=notrunc status=none
dd if=data of=a.raw bs=4k seek=2040 count=8 conv=notrunc status=none
qemu-img convert -O qcow2 a.raw a.qcow2
qemu-img convert -c -O qcow2 a.raw packed.qcow2
cp data odd.raw
truncate -s 700001 odd.raw
qemu-img create -q -f qcow2 none.qcow2 0
qemu-img create -q -f qcow2 -o data_file=a-data a-data.qcow2 8M
qemu-img convert -n -O qcow2 a.raw a-data.qcow2
qemu-img create -q -f qcow2 empty.qcow2 1T

converted t a.raw a.raw t
converted t a.raw -f raw -O raw a.raw t
converted t a.raw -f raw -O qcow2 a.raw t
converted t a.raw -O raw a.qcow2 t
converted t a.raw -O raw packed.qcow2 t
converted t a.raw -O qcow2 a.qcow2 t
converted t a.raw -c -O qcow2 a.qcow2 t
converted t a.raw -c -O qcow2 -o compression_type=zstd packed.qcow2 t
converted t a.raw -O raw a-data.qcow2 t
for option in compat=0.10 cluster_size=512 cluster_size=2M extended_l2=on lazy_refcounts=on refcount_bits=1 refcount_bits=64 \
    preallocation=metadata preallocation=falloc preallocation=full; do
    converted t a.raw -O qcow2 -o $option a.raw t
done
converted t a.raw -O raw -o preallocation=falloc a.qcow2 t
converted t a.raw -c -O qcow2 -o cluster_size=4k a.raw t
rm -f t.data
converted t a.raw -O qcow2 -o data_file=t.data,data_file_raw=on a.raw t
check "a raw data file is the raw image" cmp a.raw t.data
converted t odd.raw -O qcow2 odd.raw t
converted t odd.raw -c -O qcow2 odd.raw t
converted t odd.raw -O raw odd.raw t
converted t none.qcow2 -O raw none.qcow2 t
converted t none.qcow2 -O qcow2 none.qcow2 t
converted t empty.qcow2 -O qcow2 empty.qcow2 t
converted t a.raw -T none -t none -O qcow2 a.raw t
for cache in writeback writethrough directsync unsafe; do converted t a.raw -t $cache -O qcow2 a.raw t; done
converted t a.raw -W -O qcow2 a.raw t
converted t a.raw -C -O raw a.raw t
converted t a.raw -U -q -O raw a.raw t
converted t a.raw -r 1G -O raw a.raw t
converted t a.raw --source-format=raw --target-format=qcow2 --target-format-options=cluster_size=4k --compress --parallel=2 \
    --target-cache=writeback --source-cache=writeback --sparse-size=64k --quiet a.raw t

# levels of compression
for level in 1 2 3 4 5 6 7 8 9; do converted t a.raw -c --compression-level=$level -O qcow2 a.raw t; done
for level in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
    converted t a.raw -c --compression-level=$level -O qcow2 -o compression_type=zstd a.raw t
done
level_size() {
    level=$1
    shift
    rm -f t
    img convert -c "--compression-level=$level" -O qcow2 -o cluster_size=4k "$@" "$IMG" t && stat -c %b t
}
check "zlib's level 9 makes less than level 1" [ "$(level_size 9)" -lt "$(level_size 1)" ]
check "so does zstd's 19" [ "$(level_size 19 -o compression_type=zstd)" -lt "$(level_size 1 -o compression_type=zstd)" ]
img convert -c -O qcow2 "$IMG" t
img convert -c --compression-level=3 -O qcow2 "$IMG" t3
check "the default is level 3" cmp t t3
rm -f t t3
# refused LEVEL MESSAGE ARGUMENT...: with one sentence, and nothing is left
refused() {
    level=$1
    message=$2
    shift 2
    run img convert "--compression-level=$level" "$@" a.raw t
    is "$status:$err" "1:img: $message" "level $level is refused ($*)"
    check "  and nothing is left" test ! -e t
}
range='t: error while converting qcow2: compression level %d is out of range: %s has levels 1 to %d'
# shellcheck disable=SC2059 # the format is meant as one
{
    refused 10 "$(printf "$range" 10 zlib 9)" -c -O qcow2
    refused 2147483647 "$(printf "$range" 2147483647 zlib 9)" -c -O qcow2
    refused 20 "$(printf "$range" 20 zstd 19)" -c -O qcow2 -o compression_type=zstd
}
for level in 0 -1 abc '' 3x 99999999999999999999; do
    refused "$level" "Invalid compression level '$level': it is a number from 1 on" -c -O qcow2
done
refused 3 "--compression-level requires use of -c flag" -O qcow2

# bytes do not depend on the threads
for n in 1 2 16; do img convert -m $n -O qcow2 a.qcow2 m$n; img convert -m $n -c -O qcow2 a.qcow2 c$n; done
check "1, 2 and 16 threads write the same bytes" sh -c 'cmp m1 m2 && cmp m1 m16'
check "compressed as well" sh -c 'cmp c1 c2 && cmp c1 c16'
rm m1 m2 m16 c1 c2 c16

# holes
img convert -O raw a.qcow2 t
check "zeroes become holes" [ "$(stat -c %b t)" -le $(($(stat -c %b a.raw) + 64)) ]
qemu-img create -q zeroes.raw 1M
dd if=/dev/zero of=zeroes.raw bs=1M count=1 conv=notrunc status=none
img convert -O qcow2 zeroes.raw t
check "zeroes that are stored as well" [ "$(stat -c %s t)" -lt 400000 ]
rm t
run img convert -S 0 -O raw a.qcow2 t
is "$status" 0 "-S 0"
check "it writes every byte" [ "$(stat -c %b t)" -ge 16384 ]
check "and the same ones" cmp t a.raw
rm t
img convert -S 0 -O qcow2 a.qcow2 t
check "-S 0 fills a qcow2 image too" [ "$(stat -c %b t)" -ge 16384 ]
check "with the same disk" qemu-img compare -q t a.raw
converted t a.raw -S 16M -O raw a.raw t
converted t a.raw -S 512 -O qcow2 a.raw t

# several sources
cat a.raw a.raw >twice.raw
converted t twice.raw -O raw a.raw a.qcow2 t
converted t twice.raw -O qcow2 a.raw packed.qcow2 t
cat odd.raw /dev/zero | head -c 700416 | cat - a.raw >odd-twice.raw
converted t odd-twice.raw -O qcow2 odd.raw a.raw t
converted t odd-twice.raw -c -O qcow2 odd.raw a.raw t
converted t odd-twice.raw -O raw odd.raw a.raw t

# snapshots
cp a.qcow2 snap.qcow2
qemu-img snapshot -c first snap.qcow2
io -c 'write -P 7 0 1M' -c 'write -z 2M 1M' snap.qcow2
qemu-img snapshot -c 1 snap.qcow2
io -c 'write -P 9 1M 1M' snap.qcow2
qemu-img convert -l 2 -O raw snap.qcow2 second.raw
for name in first snapshot.name=first snapshot.id=1 snapshot.id=1,snapshot.name=first 1; do
    converted t a.raw -l $name -O raw snap.qcow2 t
done
converted t second.raw -l snapshot.name=1 -O qcow2 snap.qcow2 t
converted t second.raw -l 2 -c -O qcow2 snap.qcow2 t

# into what exists
qemu-img create -q -f qcow2 exists.qcow2 9M
io -c 'write -P 5 0 9M' exists.qcow2
run img convert -n -O qcow2 a.raw exists.qcow2
is "$status" 0 "-n into a larger image"
qemu-img convert -O raw exists.qcow2 exists.raw
check "the source's bytes are there" cmp -n 8388608 exists.raw a.raw
is "$(tail -c 1 exists.raw | od -An -tx1 | tr -d ' ')" 05 "and what lies behind them stays"
truncate -s 8M zero.raw
run img convert -n --target-is-zero -O raw a.raw zero.raw
check "--target-is-zero" cmp zero.raw a.raw
dd if=/dev/urandom of=full.raw bs=1M count=8 status=none
run img convert -n -O raw a.qcow2 full.raw
check "-n writes zeroes too" cmp full.raw a.raw

# with a backing file
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 mid.qcow2 9M
io -c 'write -P 2 64k 100k' -c 'write -z 1M 64k' -c 'write -P 3 8500k 64k' mid.qcow2
qemu-img create -q -f qcow2 -o cluster_size=4k -b mid.qcow2 -F qcow2 top.qcow2 10M
io -c 'write -P 4 128k 8k' -c 'write -P 0 300k 8k' -c 'write -z 2M 4k' -c 'write -P 5 9500k 4k' top.qcow2
qemu-img convert -O raw top.qcow2 top.raw
for options in '' '-c' '-o cluster_size=4k' '-o cluster_size=2M' '-S 0'; do
    for backing in mid a; do
        # shellcheck disable=SC2086 # options are several words
        converted over.qcow2 top.raw $options -B $backing.qcow2 -F qcow2 -O qcow2 top.qcow2 over.qcow2
        is "$(qemu-img info --output=json over.qcow2 | grep -c "\"backing-filename\": \"$backing.qcow2\"")" 1 "  on top of $backing"
    done
done
img convert -B mid.qcow2 -F qcow2 -O qcow2 top.qcow2 over.qcow2
img convert -O qcow2 top.qcow2 flat.qcow2
check "only the layers above are copied" [ "$(stat -c %b over.qcow2)" -lt $(($(stat -c %b flat.qcow2) / 2)) ]
# a middle layer that is shorter than its backing file hides the rest of it
cp a.qcow2 long.qcow2
qemu-img create -q -f qcow2 -b long.qcow2 -F qcow2 short.qcow2 1M
qemu-img create -q -f qcow2 -b short.qcow2 -F qcow2 high.qcow2 8M
qemu-img convert -O raw high.qcow2 high.raw
converted over.qcow2 high.raw -B long.qcow2 -F qcow2 -O qcow2 high.qcow2 over.qcow2
# a file that is not in the chain may show anything
dd if=/dev/urandom of=other.raw bs=1M count=10 status=none
converted over.qcow2 top.raw -B other.raw -F raw -O qcow2 top.qcow2 over.qcow2
mkdir sub
converted sub/over.qcow2 top.raw -b ../mid.qcow2 -F qcow2 -O qcow2 top.qcow2 sub/over.qcow2

# JSON
run img convert --output=json -O qcow2 a.raw t
check "--output=json is one JSON value" valid_json .out
is "$(json_get .out filename) $(json_get .out virtual-size) $(json_get .out format)" "t 8388608 qcow2" "and tells what was made"

# refusals
rm -f t
same_as_qemu <<'LIST'
convert a.raw
convert -O nosuch a.raw t
convert -m 0 a.raw t
convert -m 17 a.raw t
convert -m abc a.raw t
convert -S 100 a.raw t
convert -S 17M a.raw t
convert -S abc a.raw t
convert -C -S 4k a.raw t
convert --target-is-zero a.raw t
convert -n -o size=3 a.raw t
convert -n -O raw a.raw nosuch
convert -n -O raw a.raw odd.raw
convert -t foo a.raw t
convert -T foo a.raw t
convert nosuch t
convert -f nosuch a.raw t
convert -O qcow2 -o bogus=1 a.raw t
convert -O qcow2 -o , a.raw t
convert -O qcow2 -o cluster_size=3 a.raw t
convert -c -O raw a.raw t
convert -c -O qcow2 -o preallocation=metadata a.raw t
convert -B a.qcow2 -O qcow2 a.qcow2 t
convert -B a.qcow2 -F qcow2 -O qcow2 a.qcow2 a.qcow2 t
convert -B a.qcow2 -F qcow2 -O raw a.qcow2 t
convert -F qcow2 -O qcow2 a.qcow2 t
convert -l nosuch -O raw snap.qcow2 t
convert -l snapshot.id=5 -O raw snap.qcow2 t
convert -l snapshot.id=1,snapshot.name=1 -O raw snap.qcow2 t
convert -l snapshot.foo=5 -O raw snap.qcow2 t
convert -l first -O raw snap.qcow2 snap.qcow2 t
convert a.raw nosuch/t
convert -O raw -o help
LIST
check "nothing was left by all this" test ! -e t
run img convert -B nosuch -F qcow2 -O qcow2 a.qcow2 t
like "$status$err" "1*'nosuch'*No such file or directory*" "a backing file that is not there"

# the rate limit is for data
truncate -s 64G holes.raw
pattern part 64
dd if=part of=holes.raw bs=64K seek=1000 conv=notrunc status=none
run timeout 20 "$IMG" convert -r 64k -O qcow2 holes.raw holes.qcow2
is "$status" 0 "a rate limit does not slow holes down"
pattern data 2048
started=$(date +%s%N)
run img convert -r 2M -O qcow2 data data.qcow2
check "but data" [ $(($(date +%s%N) - started)) -ge 900000000 ]
truncate -s 4M r.raw
qemu-img create -q -f qcow2 q.qcow2 4M
same_as_qemu <<'LIST'
rm o: convert -l snapshot.bogus=1 q.qcow2 o
rm o: convert -l s1 q.qcow2 r.raw o
rm o: convert -l s1 r.raw o
rm o: convert -t bogus q.qcow2 o
rm o: convert -T bogus q.qcow2 o
rm o: convert -r abc q.qcow2 o
rm o: convert -m 0 q.qcow2 o
rm o: convert -n -B x -F raw q.qcow2 r.raw
rm o: convert -F raw -O qcow2 q.qcow2 o
rm o: convert -B r.raw -O qcow2 q.qcow2 o
rm o: convert -n q.qcow2 nosuch
rm o: convert -n -O qcow2 q.qcow2 r.raw
rm o: convert -n -O bogus q.qcow2 r.raw
rm o: convert -n -o size=3M -O qcow2 q.qcow2 r.raw
rm o: convert --target-is-zero q.qcow2 r.raw
rm o: convert -c -O qcow2 -o preallocation=full q.qcow2 o
rm o: convert -n -c -O raw q.qcow2 r.raw
rm o: convert q.qcow2 r.raw -B r.raw -F raw -O qcow2 o
LIST
done_testing
