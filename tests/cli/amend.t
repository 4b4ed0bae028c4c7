#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img amend: beside qemu-img over copies of the same images: what both say, what qemu-img says of the image afterwards,
# that it shows the same disk and is sound.
. "$(dirname "$0")/lib.sh"

io() { qemu-io "$@" >/dev/null || echo "qemu-io failed: $*"; }

mkdir start
(
    cd start || exit 1
    create() { qemu-img create -q -f qcow2 "$@"; }
    create a 2M
    io -f qcow2 -c 'write -P 1 0 300k' -c 'write -z 512k 64k' -c 'write -P 2 1M 64k' -c 'write -z 1M 64k' a
    create -o compat=0.10 v2 2M
    io -f qcow2 -c 'write -P 1 0 300k' v2
    create -o compat=0.10 v2snap 2M
    io -f qcow2 -c 'write -P 1 0 300k' v2snap
    qemu-img snapshot -c one v2snap
    io -f qcow2 -c 'write -P 2 100k 300k' v2snap
    qemu-img snapshot -c two-with-a-longer-name v2snap
    create -o refcount_bits=8 narrow 2M
    create -o extended_l2=on sub 2M
    create -o compression_type=zstd zstd 2M
    create -o lazy_refcounts=on lazy 2M
    create -o data_file=d.raw data 2M
    io -f qcow2 -c 'write -P 1 0 300k' -c 'write -P 2 1900k 10k' data
    create -o data_file=e.raw,data_file_raw=on dataraw 2M
    io -f qcow2 -c 'write -P 1 0 300k' -c 'write -P 2 1M 64k' dataraw
    create -b a -F qcow2 over 2M
    io -f qcow2 -c 'write -z 0 128k' -c 'write -P 3 64k 1000' -c 'write -z 1900k 100k' over
    create snap 2M
    io -f qcow2 -c 'write -P 1 0 300k' snap
    qemu-img snapshot -c one snap
    io -f qcow2 -c 'write -P 2 100k 300k' snap
    create snapzero 2M
    io -f qcow2 snapzero -c 'write -P 1 0 300k' -c 'write -z 64k 128k' -c 'write -z -u 512k 64k'
    qemu-img snapshot -c one snapzero
    io -f qcow2 snapzero -c 'write -P 2 1M 64k' -c 'write -z 1M 64k'
    qemu-img snapshot -c two snapzero
    io -f qcow2 snapzero -c 'write -P 2 100k 300k'
    create -b snapzero -F qcow2 oversnap 2M
    io -f qcow2 oversnap -c 'write -z 0 128k' -c 'write -P 3 128k 64k' -c 'write -z 128k 64k' -c 'write -z 1900k 100k'
    qemu-img snapshot -c one oversnap
    qemu-img snapshot -c two oversnap
    io -f qcow2 oversnap -c 'write -P 3 64k 1000'
    qemu-img create -q -f raw r.raw 1M
)

# both IMAGE ARGUMENTS...
both() {
    image=$1
    shift
    for who in theirs mine; do
        rm -rf $who
        cp -r start $who
        case $who in theirs) tool=qemu-img ;; *) tool=$IMG ;; esac
        st=0
        (cd $who && "$tool" amend "$@" >../$who.out 2>../$who.err) || st=$?
        { echo "status $st"; cat $who.out
            sed -e 's/^[a-z-]*: /TOOL: /' -e "s/'[a-z-]* --help/'TOOL --help/" -e "s/'[a-z-]* rebase/'TOOL rebase/" $who.err
            (cd $who && qemu-img info -U "$image" 2>&1 | grep -v '^disk size'); } >$who.all
    done
    is "$(cat mine.all)" "$(cat theirs.all)" "amend $*"
}
# shows [SNAPSHOT]: the disk, or a snapshot of it, is as it was
shows() {
    check "... shows the same disk${1:+ in }${1-}" sh -c "cd mine && qemu-img convert ${1:+-l $1} -O raw $image ../is.raw && cd ../start && qemu-img convert ${1:+-l $1} -O raw $image ../was.raw && cmp ../is.raw ../was.raw"
    check "... and is sound" sh -c "cd mine && qemu-img check -q $image"
}

while read -r image options; do
    # shellcheck disable=SC2086 # words
    both "$image" -o $options "$image"
    shows
done <<'LIST'
a compat=0.10
a compat=1.1
over compat=v2
v2 compat=1.1
v2 compat=v3,lazy_refcounts=on
v2snap compat=1.1
snap compat=0.10
narrow compat=1.1
a lazy_refcounts=on
lazy lazy_refcounts=off
lazy compat=0.10
data data_file_raw=off
dataraw data_file_raw=off
data refcount_bits=64
a refcount_bits=1
a refcount_bits=64
snap refcount_bits=2
data refcount_bits=64
dataraw refcount_bits=1
v2 compat=1.1,refcount_bits=32
narrow refcount_bits=16,compat=0.10
LIST
image=v2snap
both v2snap -o compat=1.1 v2snap
shows one
shows two-with-a-longer-name
image=snap
both snap -o refcount_bits=64 snap
shows one
check "our check agrees" sh -c "cd mine && '$IMG' check -q snap"
run sh -c "cd mine && '$IMG' amend -o compat=0.10 snap"
is "$status $err" "1 img: compat=0.10 requires refcount_bits=16" "no other width in version 2"
for image in snapzero oversnap; do
    both $image -o compat=0.10 $image
    shows
    shows one
    shows two
    check "our check agrees" sh -c "cd mine && '$IMG' check -q $image"
done
both data -o data_file=other.raw data
both a -o size=4M a
both a -o size=1M a
both a -o size=4M,compat=0.10,lazy_refcounts=off a
both a -o size=4M -o compat=1.1 a

# words
while read -r image options; do
    # shellcheck disable=SC2086 # words
    both "$image" $options
done <<'LIST'
a
a a
a -o compat=0.10
a -o compat=0.10 a b
a -o compat=2 a
a -o compat a
a -o compat=0.10,,x a
a -o ,, a
a -o lazy_refcounts=maybe a
a -o lazy_refcounts a
v2 -o lazy_refcounts=on v2
a -o compat=0.10,lazy_refcounts=on a
narrow -o compat=0.10 narrow
sub -o compat=0.10 sub
data -o compat=0.10 data
a -o data_file=x.raw a
a -o data_file_raw=on a
a -o data_file_raw=off a
a -o size=1000001 a
a -o size=x a
a -o refcount_bits=7 a
a -o refcount_bits=128 a
a -o backing_fmt=raw a
a -o cluster_size=64k a
a -o foo=bar a
a -o extended_l2=on a
a -o compression_type=zlib a
a -o preallocation=off a
a -o encryption=off a
a -o encrypt.format=luks a
a -o encrypt.state=active a
a -f raw -o size=4k r.raw
a -o size=4k r.raw
a -f foo -o size=4k a
a -t foo -o size=4M a
a -o help
a -o help a
a -f raw -o help
a -f qcow2 -o ? a
a -f foo -o help
a -o compat=0.10 nosuch
a -q -o compat=1.1 a
a --force -o compat=1.1 a
LIST
run sh -c "cd mine && '$IMG' amend -o backing_file=x a"
is "$err" "img: Cannot amend the backing file
You can use 'img rebase' instead." "the backing file is for rebase"
# qemu-img makes an image of it that nobody can read
run sh -c "cd mine && '$IMG' amend -o compat=0.10 zstd"
is "$status $err" "1 img: Cannot downgrade an image with incompatible features 0x8 set" "zstd needs version 3"

# key slots: each step by both tools, and both say the same
printf one >pw1
printf two >pw2
o1=secret,id=s1,file=pw1 o2=secret,id=s2,file=pw2
for who in theirs mine; do
    patient qemu-img create -q --object $o1 -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s1,encrypt.iter-time=10 $who.enc 1M
    patient qemu-img create -q --object $o1 -f luks -o key-secret=s1,iter-time=10 $who.luks 1M
done
slots() { qemu-img info "$1" | grep -A1 '\[[0-7]\]:' | grep -c 'active: true'; }
while read -r prefix options; do
    list=
    for option in $options; do list=$list,$prefix$option; done
    case $prefix in encrypt.) driver=qcow2 key=encrypt.key-secret file=enc ;; *) prefix='' driver=luks key=key-secret file=luks ;; esac
    list=$(echo "$list" | sed 's/luks://g')
    for who in theirs mine; do
        case $who in theirs) tool=qemu-img ;; *) tool=$IMG ;; esac
        st=0
        patient "$tool" amend --object $o1 --object $o2 -o "${list#,}" --image-opts driver=$driver,file.filename=$who.$file,$key=s1 >$who.out 2>$who.err || st=$?
        { echo "status $st"; sed -e 's/^[a-z-]*: //' -e 's/ $//' $who.err; slots $who.$file; } >$who.all
    done
    is "$(cat mine.all)" "$(cat theirs.all)" "$driver: ${list#,}"
done <<'LIST'
encrypt. state=active iter-time=10
encrypt. new-secret=s2
encrypt. state=inactive
encrypt. state=foo
encrypt. state=active new-secret=nope
encrypt. state=active new-secret=s2 keyslot=9
encrypt. state=active new-secret=s2 old-secret=s1
encrypt. state=active new-secret=s2 keyslot=5 iter-time=10
encrypt. state=inactive keyslot=3
encrypt. state=inactive old-secret=s2
encrypt. state=inactive keyslot=0
luks: state=active new-secret=s2 iter-time=10
luks: state=inactive old-secret=s2
luks: size=4M
LIST
check "the disk is there still" qemu-io --object $o1 -c 'read 0 1M' --image-opts driver=qcow2,file.filename=mine.enc,encrypt.key-secret=s1

run img amend -p -o compat=1.1 mine/a
like "$out" "    (0.00/100%)*(100.00/100%)*" "-p prints percent lines"
run img amend --output=json -o compat=0.10 mine/a
is "$(json_get .out format-specific.data.compat)" 0.10 "JSON describes the image"
hold mine/a
run img amend -o compat=1.1 mine/a
is "$status" 1 "an image in use is refused"
release
done_testing
