#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Internal snapshots: both tools make, apply, delete and read each other's, and both checks stay clean.
. "$(dirname "$0")/lib.sh"

# sum_of OPTION...: what qemu-img reads from s.qcow2
sum_of() { qemu-img convert -O raw "$@" s.qcow2 hash.raw && md5sum <hash.raw; }
io() { for c in "$@"; do set -- "$@" -c "$c" && shift; done && qemu-io -f qcow2 "$@" s.qcow2 >/dev/null; }
clean() { qemu-img check s.qcow2 >clean.out && "$IMG" check s.qcow2 >clean.out; }
# step NAME COMMAND...: a change after which both checks find nothing
step() {
    what=$1
    shift
    run "$@"
    [ "$status" -eq 0 ] && clean || { ok 1 "$what" && return; say "$err" "$(head -n 4 clean.out)"; }
    [ "$status" -ne 0 ] || ok 0 "$what"
}

# ---- the words of qemu-img ----
qemu-img create -q -f qcow2 q.qcow2 1M
qemu-img create -q -f qcow2 -o data_file=d.raw ext.qcow2 1M
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 1M
same_as_qemu <<'LIST'
snapshot
snapshot -c
snapshot -l -c x q.qcow2
snapshot -a x -d x q.qcow2
snapshot -l
snapshot -l q.qcow2 v2.qcow2
snapshot -l nosuch
snapshot -c x nosuch
snapshot -l q.qcow2
snapshot q.qcow2
snapshot -a nosuch q.qcow2
snapshot -d nosuch q.qcow2
snapshot -U -c x q.qcow2
snapshot -c x ext.qcow2
snapshot -q -c one q.qcow2
snapshot -c two q.qcow2
snapshot -d 2 q.qcow2
snapshot -d two q.qcow2
snapshot -a 1 q.qcow2
snapshot -a one q.qcow2
LIST
qemu-img snapshot -l q.qcow2 >theirs
img snapshot -l q.qcow2 >ours
check "the list is qemu-img's" cmp theirs ours
img snapshot --list q.qcow2 >ours
check "by its long name too" cmp theirs ours
img snapshot q.qcow2 >ours
check "and without any option" cmp theirs ours
qemu-img bitmap --add q.qcow2 b0
same_as_qemu <<'LIST'
snapshot -a one q.qcow2
LIST
run img snapshot -a one q.qcow2
is "$status" 1 "no state is applied under bitmaps"
check "but one is made" img snapshot -c under q.qcow2
is "$(qemu-img info --output=json q.qcow2 | grep -c in-use)" 0 "and the bitmap still holds"
qemu-img snapshot -c x v2.qcow2
hold q.qcow2
same_as_qemu <<'LIST'
snapshot -c x q.qcow2
snapshot -d one q.qcow2
snapshot -l q.qcow2
LIST
check "with -U it is listed although in use" img snapshot -l -U q.qcow2
release
qemu-img create -q -f raw r.raw 1M
same_as_qemu <<'LIST'
snapshot -l r.raw
snapshot -c x r.raw
snapshot -d x r.raw
LIST
run img snapshot -f raw -a x r.raw
is "$err" "img: Could not apply snapshot 'x': Block driver does not support snapshots" "raw has none"
run img snapshot -f raw -c x r.raw
is "$err" "img: Could not create snapshot 'x': -95 (Operation not supported)" "and takes none"

# counts of one bit cannot be shared; the file stays as it is
qemu-img create -q -f qcow2 -o refcount_bits=1 s.qcow2 1M
io 'write -P 1 0 64k'
cp s.qcow2 before.qcow2
run img snapshot -c x s.qcow2
is "$status" 1 "a count of one bit overflows"
like "$err" "img: Could not create snapshot 'x': -75 *1 bits*" "... and the sentence says so"
check "... and the file is untouched" cmp s.qcow2 before.qcow2

# ---- both tools on one image ----
trial() {
    rm -f s.qcow2
    # shellcheck disable=SC2086 # several options
    qemu-img create -q -f qcow2 $2 s.qcow2 $3
    size=$(img info --output=json s.qcow2 | sed -n 's/.*"cluster-size": \([0-9]*\).*/\1/p')
    io 'write -P 1 0 1M' "write -c -P 7 1M $size" "write -c -P 8 $((1048576 + size)) $size" 'write -P 2 1500k 300k'
    qemu-img snapshot -c theirs s.qcow2
    io 'write -P 3 100k 100k' 'discard 1536k 64k' 'write -z 10k 40k'
    active=$(sum_of) theirs=$(sum_of -l theirs)
    step "$1: create" img snapshot --create=ours s.qcow2
    step "$1: create another" img snapshot -c again s.qcow2
    is "$(sum_of)$(sum_of -l ours)$(sum_of -l again)$(sum_of -l theirs)" "$active$active$active$theirs" "$1: all read as before"
    io 'write -P 4 0 512' 'write -P 5 700k 200k'
    check "$1: clean after writes" clean
    is "$(sum_of -l ours)$(sum_of -l theirs)" "$active$theirs" "$1: which change no snapshot"
    step "$1: apply theirs" img snapshot -a theirs s.qcow2
    is "$(sum_of)" "$theirs" "$1: it is the active state"
    step "$1: they apply ours" qemu-img snapshot -a ours s.qcow2
    is "$(sum_of)" "$active" "$1: it is the active state"
    io 'write -P 6 300k 10k'
    last=$(sum_of)
    step "$1: delete theirs" img snapshot -d theirs s.qcow2
    step "$1: they delete ours" qemu-img snapshot -d ours s.qcow2
    step "$1: they make one" qemu-img snapshot -c more s.qcow2
    step "$1: apply ours" img snapshot --apply again s.qcow2
    is "$(sum_of)$(sum_of -l more)" "$active$last" "$1: contents"
    step "$1: delete the first" img snapshot --delete again s.qcow2
    step "$1: delete the last" img snapshot -d more s.qcow2
    is "$(sum_of)" "$active" "$1: contents in the end"
    is "$(img snapshot s.qcow2)" "" "$1: no snapshot is left"
}
trial v3 '' 3M
trial v2-4k '-o compat=0.10,cluster_size=4k' 2M
trial 512-byte-clusters-wide-counts '-o cluster_size=512,refcount_bits=64' 2M
trial narrow-counts '-o cluster_size=16k,refcount_bits=4' 2M
trial subclusters-zstd '-o cluster_size=16k,extended_l2=on,compression_type=zstd' 2M
trial large-clusters '-o cluster_size=2M' 8M
qemu-img create -q -f qcow2 base.qcow2 2M
qemu-io -f qcow2 -c 'write -P 9 0 2M' base.qcow2 >/dev/null
md5sum base.qcow2 >base.md5
trial backing '-b base.qcow2 -F qcow2' 2M
check "the backing file is untouched" md5sum -c base.md5

# ---- sizes, and the state of a machine ----
rm -f s.qcow2
qemu-img create -q -f qcow2 -o cluster_size=4k s.qcow2 1M
io 'write -P 1 0 1M'
img snapshot -c small s.qcow2
qemu-img resize -q s.qcow2 2M
io 'write -P 2 1M 1M'
step "a snapshot of the larger disk" img snapshot -c large s.qcow2
step "back to the smaller one" img snapshot -a small s.qcow2
is "$(img info --output=json s.qcow2 | sed -n 's/^    "virtual-size": \([0-9]*\).*/\1/p')" 1048576 "its size comes along"
step "they go to the larger one" qemu-img snapshot -a large s.qcow2
step "and we back" img snapshot -a small s.qcow2
step "delete the larger one" img snapshot -d large s.qcow2

# clusters behind the disk's end belong to the machine: the size of a snapshot is made smaller than what it holds
rm -f s.qcow2
qemu-img create -q -f qcow2 -o cluster_size=512 s.qcow2 1M
io 'write -P 1 0 1M'
qemu-img snapshot -c machine s.qcow2
table=$(od -An -tu8 --endian=big -j64 -N8 s.qcow2 | tr -d ' ')
poke s.qcow2 $((table + 40)) '\0\0\0\0\0\004\0\0' # vm_state_size_large: 256k
poke s.qcow2 $((table + 48)) '\0\0\0\0\0\014\0\0' # disk_size: 768k
before=$(img convert -l machine -O raw s.qcow2 hash.raw && md5sum <hash.raw)
check "the image with a machine's state is clean" clean
step "apply" img snapshot -a machine s.qcow2
is "$(img info --output=json s.qcow2 | sed -n 's/^    "virtual-size": \([0-9]*\).*/\1/p')" 786432 "the disk has the snapshot's size"
is "$(img convert -l machine -O raw s.qcow2 hash.raw && md5sum <hash.raw)" "$before" "and the snapshot what it had"
has "$(img snapshot -l s.qcow2)" "256 KiB" "the machine's state among it"
io 'write -P 5 0 100k'
step "delete it" img snapshot -d machine s.qcow2
is "$(qemu-img check --output=json s.qcow2 | sed -n 's/.*"allocated-clusters": \([0-9]*\).*/\1/p')" 1536 "what was behind the end is gone"

# ---- parents ----
rm -f s.qcow2
img create -q -f qcow2 -o cluster_size=4k s.qcow2 4M
is "$(img snapshot current s.qcow2)" none "a new image descends from nothing"
img snapshot -c a s.qcow2
img snapshot -c b s.qcow2
img snapshot -a a s.qcow2
img snapshot -c c s.qcow2
is "$(img snapshot tree s.qcow2)" "1 a
  2 b
  3 c
    * active state" "a tree"
is "$(img snapshot parent s.qcow2 b)" "1 a" "one's parent"
is "$(img snapshot parent s.qcow2 a)" none "the first one has none"
is "$(img snapshot current s.qcow2)" "3 c" "the active state's"
qemu-img snapshot -l s.qcow2 >/dev/null
qemu-img convert -O raw s.qcow2 hash.raw
is "$(img snapshot current s.qcow2)" "3 c" "who only reads changes nothing"
qemu-img snapshot -c d s.qcow2
is "$(img snapshot parent s.qcow2 c)" "1 a" "parents survive a foreign snapshot"
is "$(img snapshot parent s.qcow2 d)" unknown "of which nothing is known"
is "$(img snapshot current s.qcow2)" unknown "and no more of the active state"
qemu-img snapshot -a b s.qcow2
qemu-img snapshot -d d s.qcow2
is "$(img snapshot parent s.qcow2 b)" "1 a" "they survive foreign changes"
img snapshot -a b s.qcow2
img snapshot -d a s.qcow2
is "$(img snapshot tree s.qcow2)" "2 b
  * active state
3 c" "children of what is deleted go to its parent"
qemu-img snapshot -d b s.qcow2
is "$(img snapshot current s.qcow2)" unknown "of what they delete we know nothing"
check "all that is clean" clean
# 256 tables that were shared long ago still tell
rm -f s.qcow2
qemu-img create -q -f qcow2 -o cluster_size=512 s.qcow2 4M
io 'write -P 1 0 4M'
qemu-img snapshot -c x s.qcow2
io 'write -P 2 1M 512'
is "$(img snapshot current s.qcow2)" "1 x" "shared tables name the parent"
qemu-img snapshot -c y s.qcow2
is "$(img snapshot current s.qcow2)" "2 y" "the nearest"
qemu-img snapshot -c z s.qcow2
is "$(img snapshot current s.qcow2)" unknown "unless two have them all"

# ---- differences ----
rm -f s.qcow2
qemu-img create -q -f qcow2 -o cluster_size=4k s.qcow2 4M
io 'write -P 1 0 1M'
img snapshot -c a s.qcow2
is "$(img snapshot diff s.qcow2 a)" "Offset          Length" "nothing differs yet"
io 'write -P 2 100k 4k' 'write -P 2 104k 4k' 'write -P 3 3M 10k'
is "$(img snapshot diff s.qcow2 a)" "Offset          Length
0x19000         0x2000
0x300000        0x3000" "what was written differs"
img snapshot diff --output=json s.qcow2 a >diff.json
check "as JSON" valid_json diff.json
is "$(json_get diff.json 1.start)" 3145728 "with numbers"
img snapshot -c b s.qcow2
qemu-img resize -q s.qcow2 5M
is "$(img snapshot diff s.qcow2 b 2)" "Offset          Length" "one and the same"
is "$(img snapshot diff s.qcow2 b | tail -n 1)" "0x400000        0x100000" "the tail of a larger disk"
img snapshot diff --output=json s.qcow2 a b >other.json
check "two snapshots" cmp diff.json other.json

# ---- verbs ----
for verb in "info s.qcow2" "info s.qcow2 a" "current s.qcow2" "parent s.qcow2 b" "tree s.qcow2"; do
    # shellcheck disable=SC2086 # words
    img snapshot --output=json $verb >verb.json
    check "$verb: JSON" valid_json verb.json
done
is "$(img snapshot --output=json info s.qcow2 a | json_get /dev/stdin disk-size)" 4194304 "info: the disk's size"
is "$(img snapshot --output=json parent s.qcow2 b | json_get /dev/stdin kind)" "unknown" "parent: its kind"
for wrong in "parent s.qcow2" "tree s.qcow2 a" "diff s.qcow2 a b c" "nosuch s.qcow2" "info s.qcow2 nosuch" "info nosuch" \
    "diff s.qcow2 nosuch" "tree r.raw"; do
    # shellcheck disable=SC2086 # words
    run img snapshot $wrong
    is "$status" 1 "snapshot $wrong fails"
done
img snapshot --output=json -c c s.qcow2 >verb.json
is "$(json_get verb.json 2.name)" c "what is there after a change"

# ---- reading one without going back to it ----
qemu-img convert -O raw -l a s.qcow2 copy.raw
truncate -s 4M copy.raw # theirs has the active state's size
a=$(md5sum <copy.raw)
img convert --snapshot a -O raw s.qcow2 copy.raw
is "$(md5sum <copy.raw)" "$a" "convert --snapshot"
check "compare --snapshot" img compare -q --snapshot=a s.qcow2 -F raw copy.raw
check "compare --b-snapshot" img compare -q -f raw copy.raw --b-snapshot=a s.qcow2
run img compare -q s.qcow2 -F raw copy.raw
is "$status" 1 "the active state is another"
img map --output=json --snapshot=a s.qcow2 >map.json
is "$(json_get map.json 0.length)" 1048576 "map --snapshot"
has "$(img info --snapshot a s.qcow2)" "4194304 bytes" "info --snapshot: its size"
run img map --snapshot=nosuch s.qcow2
is "$status" 1 "none of that name"
like "$err" "img: Could not open 's.qcow2': *nosuch*" "... and it is named"
done_testing
