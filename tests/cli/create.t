#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img create: the same line, the same image and the same refusals as qemu-img.
. "$(dirname "$0")/lib.sh"

# same_creation NAME ARGUMENT...: both tools make NAME; the line and what qemu-img says of the image are the same
same_creation() {
    file=$1
    shift
    rm -f "$file"
    run qemu-img create "$@"
    wanted="$status $out
$(qemu-img info --output=json "$file" | grep -v actual-size)"
    rm -f "$file"
    run img create "$@"
    is "$status $out
$(qemu-img info --output=json "$file" 2>&1 | grep -v actual-size)" "$wanted" "as qemu-img: create $*"
    case $* in
    *' -u '*) ;;
    *qcow2*) check "qemu-img finds it clean" qemu-img check -q "$file" ;;
    esac
}

qemu-img create -q -f qcow2 base.qcow2 64M
qemu-img create -q base.raw 3M

same_creation a a 1M
same_creation a -f raw a 100
same_creation a -f raw -o preallocation=off,size=3M a
same_creation a -f raw -o preallocation=falloc a 1M
same_creation a -f raw -o preallocation=full a 1M
for wish in nocow=on nocow=off extent_size_hint=0 extent_size_hint=64k,nocow=on; do
    same_creation a -f raw -o $wish a 1M
    same_creation a -f qcow2 -o $wish a 1M
done
run img create -f raw -o extent_size_hint=4G a 1M
is "$status $err" "1 img: a: Extent size hint is too large" "a hint has 32 bits"
same_creation a -f qcow2 a 64M
same_creation a -f qcow2 a 0
same_creation a -f qcow2 a 100
same_creation a -f qcow2 -o size=1.5G a
same_creation a -f qcow2 -o size=1M -o cluster_size=4k a
same_creation a -f qcow2 -o lazy_refcounts a 1M
same_creation a -f qcow2 -o lazy_refcounts=yes,extended_l2=true a 1M
for size in 512 1k 4k 2M; do same_creation a -f qcow2 -o cluster_size=$size a 3M; done
for bits in 1 2 4 8 32 64; do same_creation a -f qcow2 -o refcount_bits=$bits a 3M; done
same_creation a -f qcow2 -o compat=0.10 a 1M
same_creation a -f qcow2 -o compat=v2 a 1M
same_creation a -f qcow2 -o compat=v3,compression_type=zstd a 1M
for mode in off metadata falloc full; do same_creation a -f qcow2 -o preallocation=$mode a 1M; done
same_creation a -f qcow2 -b base.qcow2 -F qcow2 a
same_creation a -f qcow2 -b base.raw -F raw a
same_creation a -f qcow2 -b base.raw -F raw a 8M
same_creation a -f qcow2 -o backing_file=base.raw,backing_fmt=raw a
same_creation a -f qcow2 -u -b nosuch -F qcow2 a 1M
same_creation a -f qcow2 -o data_file=d,data_file_raw=on a 1M
rm -f d
same_creation a -f qcow2 -o data_file=d,,d a 1M
rm -f d,d

# sizes
for size in 1k 1.0k 1.3G 0x100000 10b +1M 0.1G; do same_creation a a $size; done

# refusals
rm -f a b
same_as_qemu <<'LIST'
create a abc
create a 5MB
create a ''
create a 1.3
create a 1e3
create a 1MiB
create a 8E
create a 16385P
create a 99999999999999999999
create a -5
create -f nosuch a 1M
create -f '' a 1M
create -f qcow2 a
create -f qcow2 -o bogus=1 a 1M
create -f raw -o cluster_size=4k a 1M
create -f qcow2 -o size=1M a 2M
create -f qcow2 -o , a 1M
create -f qcow2 -o cluster_size=4k, a 1M
create -f qcow2 -o cluster_size a 1M
create -f qcow2 -o cluster_size=abc a 1M
create -f qcow2 -o lazy_refcounts=maybe a 1M
create -f qcow2 -o refcount_bits=abc a 1M
create -f qcow2 -o size=-1 a
create -f qcow2 -o size=abc a
create -f qcow2 -o cluster_size=256 a 1M
create -f qcow2 -o cluster_size=4M a 1M
create -f qcow2 -o cluster_size=1000 a 1M
create -f qcow2 -o cluster_size=0 a 1M
create -f qcow2 -o refcount_bits=3 a 1M
create -f qcow2 -o compression_type=lz4 a 1M
create -f qcow2 -o preallocation=bogus a 1M
create -f qcow2 -o compat=9 a 1M
create -f qcow2 -o compat=0.10,refcount_bits=8 a 1M
create -f qcow2 -o compat=0.10,lazy_refcounts=on a 1M
create -f qcow2 -o compat=0.10,compression_type=zstd a 1M
create -f qcow2 -o extended_l2=on,cluster_size=8k a 1M
create -f qcow2 -o data_file_raw=on a 1M
create -f qcow2 -o cluster_size=512 a 129G
create -f qcow2 a 3P
create -f raw -o preallocation=metadata a 1M
create -f raw -o preallocation=bogus a 1M
create -f raw -b base.raw a 1M
create -f qcow2 -F qcow2 a 1M
create -f qcow2 -b a -F qcow2 a 1M
create -f qcow2 -u -b base.qcow2 a 1M
create -f qcow2 -u -b base.qcow2 -F qcow2 a
create -f qcow2 -b base.qcow2 -F nosuch a 1M
create -f raw -o help
create -f nosuch -o help
LIST
rm -f a
run img create -f qcow2 -b nosuch -F qcow2 a 1M
is "$status" 1 "a backing file that is not there is refused"
like "$err" "img: a: Could not open 'nosuch': No such file or directory*Could not open backing image." "with its name"
run img create -f qcow2 -b base.qcow2 a 1M
is "$err" "img: a: Backing file specified without backing format
Detected format of qcow2." "a backing file needs its format"
run img create -f qcow2 nosuch/a 1M
is "$status" 1 "a folder that is not there"
like "$err" "*No such file or directory" "is named as such"
run img create -f qcow2 . 1M
is "$status" 1 "a folder is not overwritten"
mkfifo fifo
run timeout 5 "$IMG" create -f qcow2 fifo 1M
is "$status" 1 "nor a FIFO"
check "nothing was left by all this" test ! -e a
is "$(find . -name '.*' -type f ! -name '.[a-z]*' | head -n 1)" "" "no temporary file either"

# help on options
for form in qcow2 raw; do
    run img create -f $form -o help some
    is "$status" 0 "help on $form with a file succeeds"
    like "$out" "Supported options:*size=<size>            - Virtual disk size*" "and lists size"
done
run img create -f qcow2 -o help,size=3
like "$out" "Supported qcow2 options:*cluster_size=<size>    - qcow2 cluster size*" "help anywhere in the list"
check "each option that is listed is qemu-img's" sh -c '
    qemu-img create -f qcow2 -o help x >theirs; "$0" create -f qcow2 -o help >ours
    grep "^  " ours | grep -vxFf theirs | grep . && exit 1; exit 0' "$IMG"
check "help creates nothing" test ! -e some

# quiet, JSON
run img create -q -f qcow2 a 1M
is "$status$out$err" 0 "-q is quiet"
run img create --output=json -f qcow2 a 1M
check "--output=json is one JSON value" valid_json .out
is "$(json_get .out filename) $(json_get .out virtual-size) $(json_get .out format)" "a 1048576 qcow2" "and tells what was made"
run img create --output=xml -f qcow2 a 1M
is "$status" 1 "--output=xml is refused"

# what stands there already
echo kept >a
chmod 640 a
run img create -f qcow2 a 1M
is "$status" 0 "a file is replaced"
cp a before
hold a
run img create -f qcow2 a 2M
is "$status" 1 "an image in use is not"
like "$err" "*Is another process using the image*" "and that is said"
check "it is as it was" cmp a before
release

# another process writes to the backing file: the new image takes no part in that
img create -q -f qcow2 live.qcow2 1M
hold live.qcow2
run img create -q -f qcow2 -b live.qcow2 -F qcow2 over.qcow2
is "$status" 0 "a backing file that another program has open for writing"
check "is recorded" [ -e over.qcow2 ]
release
img create -q -f qcow2 -b over.qcow2 -F qcow2 third.qcow2
cp live.qcow2 before
for target in live.qcow2 ./live.qcow2 over.qcow2; do
    run img create -q -f qcow2 -b third.qcow2 -F qcow2 "$target"
    is "$status" 1 "a layer of the chain as target is refused ($target)"
    has "$err" "belongs to the backing chain of the new image" "as such"
done
run img create -q -f qcow2 -b third.qcow2 -F qcow2 -o data_file=live.qcow2 new.qcow2
is "$status" 1 "and as data file"
check "it is not touched" cmp live.qcow2 before

# small things
same_creation a -f raw a ' 1M'
same_creation a -f raw -o 'size= 1M' a
for backing in '-b ""' '-b "" -F qcow2' '-o backing_file='; do
    run sh -c "\"\$0\" create -f qcow2 $backing a 1M" "$IMG"
    is "$status $err" "1 img: a: Expected backing file name, got empty string" "no name in $backing"
done
run img create -q --output=json -f qcow2 a 1M
is "$status $out" "0 " "-q silences the JSON as well"
img create -q -f qcow2 -o data_file=gone a 1M
rm gone
run img map a
is "$err" "img: Could not open 'a': Could not open 'gone': No such file or directory" "what is wrong is named once"

# a backing file that is a tree of nodes
qemu-img create -q -f qcow2 tree-base 4M
qemu-img create -q -f raw tree-raw 2M
same_creation tree -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"tree-base"}}' -F qcow2 tree
same_creation tree2 -f qcow2 -b tree -F qcow2 tree2
same_creation part -f qcow2 -b 'json:{"driver":"raw","offset":512,"size":1048576,"file":{"driver":"file","filename":"tree-raw"}}' -F raw part
run img create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"tree-base"}}' -F qcow2 tree-base
has "$err" "belongs to the backing chain of the new image" "not over its own backing file"
run img create -f qcow2 -b 'json:{"driver":"raw","file":{"driver":"file","filename":"tree-base"}}' -F qcow2 tree2
is "$status" 1 "not of two formats"
run img rebase -b tree -F qcow2 part
is "$status $err" "0 " "rebase onto a chain with such a name"
check "... of which the shell reads" img io -r -c 'read 0 512' part

done_testing
