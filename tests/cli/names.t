#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Images that are named by what they consist of: json:{...}, --image-opts, null-co://. As in qemu-img.
. "$(dirname "$0")/lib.sh"

qemu-img create -q -f qcow2 q.qcow2 4M
qemu-io -f qcow2 -c 'write -P 1 64k 256k' q.qcow2 >/dev/null
qemu-img create -q -f raw r.raw 4M
qemu-io -f raw -c 'write -P 2 0 128k' r.raw >/dev/null
qemu-img create -q -f qcow2 -b q.qcow2 -F qcow2 over.qcow2
qemu-io -f qcow2 -c 'write -P 3 1M 64k' over.qcow2 >/dev/null
# a qcow2 image behind 64 KiB of something else
{ head -c 65536 r.raw; cat q.qcow2; } >behind.raw
# an image whose data file lies elsewhere by now
qemu-img create -q -f qcow2 -o data_file=d.raw d.qcow2 1M
qemu-io -f qcow2 -c 'write -P 5 64k 64k' d.qcow2 >/dev/null
mv d.raw moved.raw
named() { qemu-img create -q -f qcow2 -u -b "$2" -F "$3" "$1" 4M; }
named jb.qcow2 'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"}}' qcow2
named jjb.qcow2 'json:{"file.filename":"jb.qcow2","backing":{"driver":"raw","file.filename":"r.raw"}}' qcow2
named nb.qcow2 'json:{"driver":"null-co","size":4194304}' raw

same_as_qemu <<'LIST'
info --image-opts driver=qcow2,file.driver=file,file.filename=q.qcow2
info --image-opts driver=qcow2,file=q.qcow2
info --image-opts file.filename=q.qcow2
info --image-opts filename=q.qcow2
info --image-opts q.qcow2
info --image-opts driver=raw,file.filename=r.raw,offset=64k,size=64k
info --output=json --image-opts driver=raw,file.filename=r.raw,offset=64k
info --image-opts driver=raw,file.filename=r.raw,size=8M
info --image-opts driver=raw,file.filename=r.raw,offset=8M
info --image-opts driver=raw,file.filename=r.raw,offset=abc
info --image-opts driver=raw,file.filename=r.raw,size=1000
info --image-opts driver=qcow2,file.driver=raw,file.file.filename=q.qcow2
info --image-opts driver=raw,file.driver=null-co,file.size=1M
info --image-opts driver=qcow2,file.filename=q.qcow2,bogus=1
info --image-opts driver=qcow2,file.filename=q.qcow2,file.bogus=1
info --image-opts driver=bogus,file.filename=q.qcow2
info --image-opts driver=qcow2
info --image-opts driver=qcow2,file.driver=file
info --image-opts driver=file
info --image-opts driver=raw,file.driver=host_device,file.filename=r.raw
info --image-opts driver=host_device,filename=r.raw
info --image-opts driver=qcow2,file.filename=over.qcow2,backing=
info --image-opts driver=qcow2,file.filename=q.qcow2,read-only=on
info --image-opts driver=qcow2,file.filename=q.qcow2,read-only=maybe
info --image-opts driver=qcow2,file.filename=q.qcow2,cache.direct=on,cache.no-flush=on
info --image-opts driver=qcow2,file.filename=q.qcow2,cache.bogus=on
info --image-opts driver=qcow2,file.filename=q.qcow2,l2-cache-size=1M,refcount-cache-size=256k
info --image-opts driver=qcow2,file.filename=q.qcow2,l2-cache-size=1M,refcount-cache-size=256k,cache-size=2M
info --image-opts driver=qcow2,file.filename=q.qcow2,cache-size=2M,l2-cache-size=4M
info --image-opts driver=qcow2,file.filename=q.qcow2,cache-size=2M,refcount-cache-size=4M
info --image-opts driver=qcow2,file.filename=q.qcow2,lazy-refcounts=on
info --image-opts driver=qcow2,file.filename=q.qcow2,lazy-refcounts=7
info --image-opts driver=qcow2,file.filename=q.qcow2,overlap-check=all
info --image-opts driver=qcow2,file.filename=q.qcow2,overlap-check=foo
info --image-opts driver=qcow2,file.filename=q.qcow2,overlap-check.template=constant,overlap-check.main-header=on
info --image-opts driver=qcow2,file.filename=q.qcow2,overlap-check=none,overlap-check.template=all
info --image-opts driver=qcow2,file.filename=q.qcow2,cache-clean-interval=10
info --image-opts driver=qcow2,file.filename=q.qcow2,pass-discard-request=on,pass-discard-snapshot=on,pass-discard-other=off
info --image-opts driver=qcow2,file.filename=q.qcow2,l2-cache-entry-size=4k
info --image-opts driver=qcow2,file.filename=q.qcow2,node-name=foo,discard=unmap,detect-zeroes=on
info --image-opts driver=qcow2,file.filename=q.qcow2,discard=bogus
info --image-opts driver=qcow2,file.filename=q.qcow2,force-share=on
info --image-opts driver=qcow2,file.filename=q.qcow2,auto-read-only=on
info --image-opts driver=qcow2,file.filename=q.qcow2,file.locking=off,file.aio=threads
info --image-opts driver=qcow2,file.filename=nosuch
info --image-opts driver=qcow2,file.filename=r.raw
info --image-opts driver=qcow2,file.filename=q.qcow2,driver=raw
info --image-opts ,
info --image-opts driver=
info --image-opts driver=qcow2,,x,file.filename=q.qcow2
info --image-opts help
info --image-opts ''
info --image-opts driver=raw,file=
info --image-opts driver=raw,file.filename=
info --image-opts driver=raw,file.filename=r.raw,file.driver=bogus
info -f qcow2 --image-opts driver=qcow2,file.filename=q.qcow2
info --image-opts json:{}
info 'json:{}'
info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"}}'
info 'json:{"driver":"qcow2","file.driver":"file","file.filename":"q.qcow2"}'
info 'json:{"driver":"qcow2","file.filename":"q.qcow2"}'
info 'json:{"file":{"filename":"q.qcow2"}}'
info 'json:{"driver":"qcow2","file":"q.qcow2"}'
info -f raw 'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"}}'
info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"over.qcow2"},"backing":null}'
info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"},"bogus":1}'
info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"},"bogus":{"a":1}}'
info 'json:{"driver":"raw","offset":65536,"size":65536,"file":{"driver":"file","filename":"r.raw"}}'
info 'json:{"driver":"raw","offset":"64k","size":"64k","file":{"driver":"file","filename":"r.raw"}}'
info 'json:{"driver":"raw","offset":-1,"file":{"driver":"file","filename":"r.raw"}}'
info 'json:{"driver":"qcow2","read-only":true,"file":{"driver":"file","filename":"q.qcow2"}}'
info 'json:{"driver":"qcow2","read-only":1,"file":{"driver":"file","filename":"q.qcow2"}}'
info 'json:[]'
info 'json:"x"'
info 'json:{"driver":null}'
info 'json:{"file.filename":"nosuch"}'
info null-co://
info --image-opts driver=qcow2,file.filename=d.qcow2,data-file.filename=moved.raw
info --output=json 'json:{"driver":"qcow2","file":{"driver":"file","filename":"d.qcow2"},"data-file":{"driver":"file","filename":"moved.raw"}}'
info --image-opts driver=qcow2,file.filename=q.qcow2,data-file.filename=moved.raw
info --image-opts driver=raw,file.filename=r.raw,data-file.filename=moved.raw
map --image-opts driver=qcow2,file.filename=d.qcow2,data-file=foo
map 'json:{"driver":"qcow2","file":{"driver":"file","filename":"d.qcow2"},"data-file":"foo"}'
map --image-opts driver=qcow2,file.filename=d.qcow2,data-file.driver=null-co,data-file.bogus=1
map --image-opts driver=qcow2,file.filename=d.qcow2,data-file.driver=bogus
map --image-opts driver=qcow2,file.filename=d.qcow2,data-file.driver=file
map --image-opts driver=qcow2,file.filename=d.qcow2,data-file.driver=raw
map --output=json --image-opts driver=qcow2,file.filename=q.qcow2,data-file.filename=moved.raw
map --image-opts driver=qcow2,file.filename=d.qcow2,data-file.filename=moved.raw
map --output=json 'json:{"driver":"qcow2","file":{"driver":"file","filename":"d.qcow2"},"data-file":{"driver":"file","filename":"moved.raw"}}'
map --output=json --image-opts driver=qcow2,file.filename=d.qcow2,data-file.driver=raw,data-file.file.filename=moved.raw
map --output=json --image-opts driver=qcow2,file.filename=d.qcow2,data-file.driver=null-co,data-file.size=1M
map --output=json --image-opts driver=qcow2,file.filename=d.qcow2,data-file.filename=nosuch
check --image-opts driver=qcow2,file.filename=d.qcow2,data-file.filename=moved.raw
info --backing-chain jb.qcow2
info --backing-chain --output=json jb.qcow2
map --output=json --image-opts driver=raw,file.driver=null-co,file.size=1M,file.read-zeroes=on
map --output=json --image-opts driver=raw,file.filename=r.raw,offset=64k
map --image-opts driver=raw,file.filename=r.raw,offset=64k,size=1M
map --image-opts driver=qcow2,file.filename=over.qcow2,l2-cache-size=1M
map --output=json --image-opts driver=qcow2,file.filename=over.qcow2,backing.driver=raw,backing.file.filename=r.raw
map --output=json 'json:{"driver":"qcow2","file":{"driver":"file","filename":"over.qcow2"},"backing":null}'
map jb.qcow2
map --output=json jb.qcow2
check --image-opts driver=qcow2,file.filename=q.qcow2
check --output=json --image-opts driver=qcow2,file.filename=q.qcow2
check -r all --image-opts driver=qcow2,file.filename=q.qcow2,read-only=on
compare --image-opts driver=qcow2,file.filename=q.qcow2 driver=raw,file.filename=r.raw
compare q.qcow2 'json:{"driver":"raw","offset":65536,"file.filename":"behind.raw"}'
compare jb.qcow2 q.qcow2
compare jjb.qcow2 r.raw
measure -O qcow2 --image-opts driver=raw,file.filename=r.raw,offset=64k
measure --image-opts --size 1
rm t: convert --image-opts driver=qcow2,file.filename=q.qcow2 t
rm t: convert --image-opts -f qcow2 driver=qcow2,file.filename=q.qcow2 t
rm t: convert --image-opts q.qcow2 t
rm t: convert q.qcow2 'json:{"driver":"raw","file":{"driver":"file","filename":"t"}}'
rm t: convert -n q.qcow2 'json:{"driver":"raw","file":{"driver":"file","filename":"t"}}'
rm t: convert -O raw q.qcow2 null-co://
rm t: convert -n -O raw q.qcow2 null-co://
rm t: convert --target-image-opts -O raw q.qcow2 t
rm t: convert -n --target-image-opts -O raw q.qcow2 driver=raw,file.filename=r.raw
rm t: convert -n --target-image-opts q.qcow2 driver=raw,file.driver=null-co,file.size=3M
rm t: convert -n --target-image-opts q.qcow2 driver=raw,file.driver=null-co,file.size=5M
rm t: convert -n --target-image-opts q.qcow2 driver=raw,file.filename=r.raw,read-only=on
rm t: convert -n --target-image-opts q.qcow2 driver=raw,file.filename=r.raw,file.read-only=on
rm t: convert --object secret,id=s,data=abc q.qcow2 t
rm t: convert --object bogus,id=s q.qcow2 t
rm t: dd --image-opts bs=64k if=driver=raw,file.filename=r.raw,offset=64k of=t
LIST

# the same image in other words shows the same bytes
shows() {
    run img convert -O raw "$@" t
    is "$status$err" 0 "convert $*"
    check "  shows the same disk" qemu-img compare -q -f raw t wanted
}
qemu-img convert -O raw q.qcow2 wanted
shows --image-opts driver=raw,file.driver=qcow2,file.file.filename=q.qcow2
shows --image-opts driver=qcow2,file.driver=raw,file.offset=64k,file.file.filename=behind.raw
shows 'json:{"driver":"qcow2","file":{"driver":"raw","offset":"64k","file":{"driver":"file","filename":"behind.raw"}}}'
shows jb.qcow2
shows --image-opts driver=qcow2,file.filename=q.qcow2,cache.direct=on,cache-size=64k
qemu-img convert -O raw --image-opts driver=qcow2,file.filename=over.qcow2,backing.driver=raw,backing.file.filename=r.raw wanted
shows --image-opts driver=qcow2,file.filename=over.qcow2,backing.driver=raw,backing.file.filename=r.raw
shows 'json:{"file.filename":"over.qcow2","backing":{"driver":"raw","file.filename":"r.raw"}}'
qemu-img convert -O raw --image-opts driver=raw,file.filename=r.raw,offset=65024,size=131072 wanted
shows --image-opts driver=raw,file.filename=r.raw,offset=65024,size=131072

qemu-img convert -O raw moved.raw wanted
shows --image-opts driver=qcow2,file.filename=d.qcow2,data-file.filename=moved.raw
shows 'json:{"driver":"qcow2","file":{"driver":"file","filename":"d.qcow2"},"data-file":{"driver":"file","filename":"moved.raw"}}'
qemu-img create -q -f qcow2 packed.qcow2 1M
qemu-io -c 'write -P 6 64k 64k' packed.qcow2 >/dev/null
qemu-img convert -O raw packed.qcow2 wanted
shows --image-opts driver=qcow2,file.filename=d.qcow2,data-file.driver=qcow2,data-file.file.filename=packed.qcow2

# and can be written
run img io --image-opts -c 'write -P 7 128k 64k' driver=qcow2,file.filename=d.qcow2,data-file.filename=moved.raw
is "$status$err" 0 "a data file that is named is written"
check "  as they read it" qemu-io --image-opts -r -c 'read -P 7 128k 64k' driver=qcow2,file.filename=d.qcow2,data-file.filename=moved.raw
run img check d.qcow2
is "$status" 0 "  and the image is clean"
run img io -r --image-opts -c 'read 0 64k' driver=qcow2,file.filename=d.qcow2,data-file.filename=d.qcow2
is "$status" 1 "an image is not its own data file"
has "$err" "is the image itself" "  and it says so"
run img info --image-opts file.filename=r.raw,data-file.filename=moved.raw
has "$err" "Block format 'raw' does not support the option 'data-file'" "nor has a raw image one"
cp behind.raw before
run img convert -n --target-image-opts -f raw r.raw driver=qcow2,file.driver=raw,file.offset=64k,file.file.filename=behind.raw
is "$status" 1 "an image in a part of a file cannot grow"
has "$err" "no room for more clusters" "as it says"
qemu-img create -q -f qcow2 outer.qcow2 8M
img convert -n --target-image-opts q.qcow2 driver=raw,file.filename=outer.qcow2,size=4M 2>/dev/null
is "$?" 1 "a part behind the end of a file is refused"
run img convert -n --target-image-opts q.qcow2 driver=raw,file.driver=qcow2,file.file.filename=outer.qcow2,size=4M,offset=1M
is "$status$err" 0 "a part of an image inside an image is written"
check "  the outer one is clean" qemu-img check -q outer.qcow2
check "  and has it" qemu-img compare -q q.qcow2 'json:{"driver":"raw","offset":1048576,"size":4194304,"file":{"driver":"qcow2","file":{"driver":"file","filename":"outer.qcow2"}}}'
run img convert -n --target-image-opts r.raw driver=qcow2,file.filename=over.qcow2,backing.driver=null-co,backing.size=4M
is "$status$err" 0 "a layer on another backing file is written"
check "  clean" qemu-img check -q over.qcow2
check "  and shows it" qemu-img compare -q r.raw over.qcow2
run img bench -c 10 -w --image-opts driver=null-co,size=1M
is "$status" 0 "nothing is written to nothing"
run img compare --image-opts driver=null-co,size=1M,read-zeroes=on driver=null-co,size=1M
is "$out" "Images are identical." "and reads as zeroes"

cp q.qcow2 w.qcow2
run img resize --image-opts driver=qcow2,file.filename=w.qcow2 +1M
is "$status" 0 "resize"
run img snapshot -c one --image-opts driver=qcow2,file.filename=w.qcow2
is "$status" 0 "snapshot"
run img bitmap --add --image-opts driver=qcow2,file.filename=w.qcow2 marks
is "$status" 0 "and bitmap take such names"
check "  and do what they should" qemu-img check -q w.qcow2

# names inside images lead nowhere else
named evil.qcow2 'json:{"driver":"raw","file":{"driver":"qcow2","file":{"driver":"file","filename":"evil.qcow2"}}}' raw
named self.qcow2 'json:{"file.filename":"self.qcow2"}' qcow2
named net.qcow2 'json:{"driver":"nbd","host":"localhost"}' raw
named deep.qcow2 "json:{\"file.filename\":\"q.qcow2\",$(perl -e 'print "\"backing\":{\"file.filename\":\"q.qcow2\"," x 20, "\"driver\":\"qcow2\"", "}" x 20')}" qcow2
for name in evil self net deep; do
    run timeout 10 "$IMG" convert -O raw $name.qcow2 t
    is "$status" 1 "a backing file that is $name is refused"
    is "$(echo "$err" | wc -l)" 1 "  in one line: $err"
    run img info $name.qcow2
    is "$status" 0 "  info shows it"
done
run img info --image-opts driver=raw,file.driver=qcow2,file.file.filename=q.qcow2
like "$out" 'image: json:{"driver": "raw", "file": {"driver": "qcow2", *' "an image on an image has a name"
run img map --output=json nb.qcow2
is "$status" 0 "a backing file may be nothing"
run img map --image-opts driver=qcow2,file.filename=over.qcow2,backing.file.filename=nosuch
has "$err" "Could not open backing file of 'over.qcow2': Could not open 'nosuch': No such file or directory" "a backing file that is missing"
for name in 'json:{"driver":"qcow2",' 'json:' 'json:{"driver":"qcow2","file":{"driver":"file","filename":"q.qcow2"}} x' \
    'json:{"a":1e999}' "$(perl -e 'print "json:", "{\"a\":" x 70, "1", "}" x 70')"; do
    run img info "$name"
    is "$status" 1 "JSON that is broken is refused"
    like "$err" "img: Could not open 'json:*" "  with the name: $(echo "$err" | cut -c 1-100)"
done
done_testing
