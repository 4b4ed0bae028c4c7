#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img io: the same scripts through qemu-io and through ours, started by a link of that name. What both print (times
# masked), the exit status, and the image that they leave must be the same.
. "$(dirname "$0")/lib.sh"

mkdir ours
ln -s "$IMG" ours/qemu-io
mask() {
    sed -e 's/ops; [0-9:. sec]* ([^)]*)/ops; TIME/' -e 's/^\([0-9]*,1\),[0-9:.]*,[0-9.]*,[0-9.]*$/\1,TIME/' \
        -e 's/#block[0-9]*/NODE/'
}

# both IMAGE ARGUMENTS...: on a copy of the image each; the standard input is the file `script`
both() {
    base=$1
    shift
    for who in theirs mine; do
        rm -rf $who
        mkdir $who
        cp -- *.qcow2 *.raw $who/ 2>/dev/null
        case $who in theirs) tool=qemu-io ;; *) tool=$work/ours/qemu-io ;; esac
        st=0
        (cd $who && timeout 20 $tool "$@" <../script >../$who.out 2>../$who.err) || st=$?
        { mask <$who.out; echo "-- $st"; mask <$who.err; } >$who.all
    done
    what="$base: $*"
    cmp -s theirs.all mine.all && same=0 || same=1
    ok $same "$what" || diff theirs.all mine.all | sed 's/^/# /'
}

# content FILE: both left the same disk
content() {
    check "the disk is the same afterwards: $1" qemu-img compare "theirs/$1" "mine/$1"
    check "... and sound: $1" sh -c "case $1 in *.raw) ;; *) qemu-img check mine/$1 ;; esac"
}

: >script
printf 'hello' >pattern.raw
qemu-img create -q -f qcow2 a.qcow2 4M
qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=4k v2.qcow2 1M
qemu-img create -q -f qcow2 -o extended_l2=on sub.qcow2 3M
qemu-img create -q -f raw r.raw 1M
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2
qemu-img create -q -f qcow2 zero.qcow2 0

# ten commands a start; which of them fail is told by what they say
commands() {
    set --
    while read -r line; do
        case $line in
        aio_*)
            both alone -c "$line" a.qcow2 # when it ends is its own affair
            continue
            ;;
        esac
        set -- "$@" -c "$line"
        if [ $# -ge 20 ]; then
            both some "$@" a.qcow2
            set --
        fi
    done
    both some "$@" a.qcow2
}
for line in 'read 0 512' 'read -P 1 0 512' 'read 5M 1' 'aio_read 5M 1' 'read' 'write -z 0 64k' 'bogus' 'quit' 'sleep x'; do
    both status -c "$line" -c 'read -q 0 512' a.qcow2
done
commands <<'LIST'
read
read 0
read 0 512 3
read a 512
read 0 b
read -1 512
read 1 512
read -p 0 512
read -v 0 40
read -P 0 0 512
read -P 1 0 512
read -P 256 0 512
read -P x 0 512
read -s 10 0 512
read -P 1 -s 10 -l 20 0 512
read -P 0 -s 10 -l 600 0 512
read -P 1 -s 500 0 512
read -l x -P 0 0 512
read -b 100 200
read -q 0 512
read -C 0 512
read -Z 0 512
read 4M 512
read 4194000 512
read 0 0
read 0 2G
read 1.5k 0x200
read 8E 512
read 1Z 512
read -- -1 512
read "0" 512
rEad 0 512
read 0 -q 512
r 0 512
read 0 512
write
write 0 512 3
write -z -P 1 0 512
write -u 0 512
write -n 0 512
write -b -z 0 512
write -b 100 200
write -c 512 64k
write -c 0 512
write -f -b 0 512
write -c -f 0 64k
write -s nofile 0 512
write -s /dev/null 0 512
write -s pattern.raw -P 1 0 512
write 4M 512
write -z 5M 1M
write 0 3G
write -C 0 512
writev 0
writev 0 512 513
writev -z 0 512
writev 0 x
writev 4M 512
writev 0 3G
writev 0 0
readv -P 0 0 512 1k
readv -P 1 0 512 4
readv -v 0 16 10
readv 4M 1
aio_read 0
aio_read 0 512
aio_read -P 9 0 512 512
aio_read -v 0 16
aio_read 4M 16
aio_read -i 0 16
aio_write
aio_write 0 512
aio_write -z 0 64k 64k
aio_write -u 0 64k
aio_write -i 0 64k
aio_write 4M 5
aio_write -P x 5 5
aio_flush 1
flush 1
length 1
length
info
truncate
truncate x
truncate -m bar 4M
truncate -m
truncate -m full 4M
truncate 4000000
discard 0
discard 0 63k
discard x 1
discard 0 3G
discard 4M 1
discard 0 1 2
discard -C 0 1M
alloc
alloc 0
alloc 0 1M
alloc 5 10
alloc 4M 1
alloc 5M
alloc x
alloc 0 1 1
map
map 0
sleep
sleep x
sleep -5
sleep 10
sigraise
sigraise x
sigraise 99
sigraise 1 2
abort 1
break a b
resume x
remove_break x
open a.qcow2
reopen x
reopen -z
reopen -r -w
reopen -c foo
reopen -o foo=bar
reopen -r -o read-only=off
close 1
help
?
help quit
help bogus
help a b
bogus 1
quit 1
length
LIST

# what is written, in many ways. Where nothing lies below zeroes need no entry here, so only there maps are the same
fill() {
    both "$1" -d unmap -c 'write -P 5 1 512' -c 'write 64k 64k' -c 'write -z 65k 2k' -c 'write -z -u 128k 64k' \
        -c 'writev -P 4 300k 512 1k 3' -c 'write -f -P 8 400k 5k' -c 'aio_write -P 9 500k 1k 1k' -c aio_flush \
        -c 'aio_write -z 600k 64k' -c aio_flush -c 'write -s pattern.raw 10k 1000' -c 'discard 64k 64k' \
        -c 'write -q -P 1 960k 32k' -c flush -c 'read -v 10k 40' -c 'read -P 9 500k 2k' ${2--clength} "$1"
    content "$1"
}
fill a.qcow2
fill v2.qcow2
fill sub.qcow2
both allocated -c 'write -z 128k 64k' -c 'write 1M 1M' -c 'write -z 1M 64k' -c 'alloc 0 4M' -c 'alloc 1M' -c map over.qcow2
content over.qcow2
fill over.qcow2 -cmap
both compressed -c 'write -c 0 64k' -c 'write -c -P 7 64k 128k' -c 'write -P 1 70k 1k' -c 'read -P 7 71k 1k' \
    -c 'write -c -z 256k 64k' -c 'alloc 0 192k' a.qcow2
content a.qcow2
both raw -f raw -c 'write -P 3 64k 64k' -c map -c 'alloc 0 1M' -c info -c 'write -c 0 64k' -c 'read -b 0 512' \
    -c 'truncate 512k' -c length -c map r.raw
content r.raw
both probed -c 'write -P 3 64k 64k' -c length r.raw
both size -c 'truncate 8M' -c length -c 'write 7M 64k' -c 'truncate 512k' -c map -c 'truncate -m metadata 2M' -c length a.qcow2
content a.qcow2
both nothing -c map -c 'alloc 0' -c length -c info -c 'read 0 0' zero.qcow2
both 'no unmap' -d ignore -c 'write 0 1M' -c 'discard 0 64k' -c 'read -P 0xcd 0 64k' a.qcow2
both 'unmap by default' -c 'write 0 1M' -c 'discard 0 64k' -c 'read -P 0 0 64k' a.qcow2

# the state of a machine, behind the disk's end: what either wrote both read, and snapshots keep it
printf 'secret' >passphrase
qemu-img create -q -f qcow2 -o cluster_size=512 small.qcow2 100k
qemu-img create -q -f qcow2 -o data_file=data.raw data.qcow2 1M
qemu-img create -q -f qcow2 -o data_file=alone.raw,data_file_raw=on alone.qcow2 1M
# below is longer than over it, so that it shows behind the end
qemu-img create -q -f qcow2 -o cluster_size=4k below.qcow2 8M
qemu-io -c 'write -P 6 0 8M' below.qcow2 >/dev/null
qemu-img create -q -f qcow2 -o cluster_size=4k -b below.qcow2 -F qcow2 above.qcow2 1M
state() {
    both "state $1" -c 'write -P 2 0 100k' -c 'read -b -P 0 0 512' -c 'write -b -P 5 1k 70k' -c 'read -b -P 5 1k 70k' \
        -c 'read -b -v 0 1k' -c 'write -b -P 7 64k 512' -c 'read -b -v 65024 1536' -c 'write -b -q 3M 64k' \
        -c 'write -b -C 0 512' -c 'write -b -c -P 9 200k 1k' -c 'write -b 512 0' -c 'read -b 7M 64k' \
        -c 'read -b -P 1 -s 8 -l 8 0 512' -c 'read -P 2 0 100k' -c map -c length "$1"
    content "$1"
    is "$(img check --output=json "mine/$1" | sort)" "$(qemu-img check --output=json "mine/$1" | sort)" "... as both count"
    for who in theirs mine; do
        for tool in qemu-io "$work/ours/qemu-io"; do
            # shellcheck disable=SC2016 # the inner shell's
            check "$tool reads what $who is" sh -c 'cd "$1" && "$2" -r -c "read -b -P 5 1k 63k" -c "read -b -P 7 64k 512" \
                -c "read -b -P 5 66048 6144" -c "read -b -P 205 3M 64k" -c "read -b -P 9 200k 1k" "$3"' - $who "$tool" "$1"
        done
    done
}
for image in a.qcow2 v2.qcow2 sub.qcow2 small.qcow2 over.qcow2 above.qcow2 data.qcow2 alone.qcow2; do state $image; done
both 'far away' -c 'write -b 1T 512' -c 'read -b 1T 512' -c 'write -b 3000T 512' -c 'read -b 3000T 512' \
    -c 'write -b 8191P 512' -c 'read -b 8191P 512' -c 'write -b 9223372036854775296 512' \
    -c 'read -b 9223372036854775296 512' a.qcow2
content a.qcow2
both 'state of raw' -f raw -c 'write -b 0 512' -c 'read -b 0 512' -c 'write -b 8191P 512' r.raw
both 'only reading' -r -c 'write -b 0 512' -c 'read -b 0 512' a.qcow2
rm small.qcow2 data.qcow2 data.raw alone.qcow2 alone.raw below.qcow2 above.qcow2
img create -q -f qcow2 --object secret,id=key,data=secret -o encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10 locked.qcow2 1M
both 'locked' --object secret,id=key,data=secret --image-opts -c 'write -b -P 4 10k 100k' -c 'read -b -P 4 10k 100k' \
    -c 'read -b -P 0 0 10k' driver=qcow2,encrypt.format=luks,encrypt.key-secret=key,file.filename=locked.qcow2
check "... as they wrote it" img io --object secret,id=key,data=secret --image-opts -c 'read -b -P 4 10k 100k' \
    driver=qcow2,encrypt.format=luks,encrypt.key-secret=key,file.filename=theirs/locked.qcow2
check "... and they read ours" qemu-io --object secret,id=key,data=secret --image-opts -c 'read -b -P 4 10k 100k' \
    driver=qcow2,encrypt.format=luks,encrypt.key-secret=key,file.filename=mine/locked.qcow2
rm locked.qcow2

# snapshots: QEMU's own test of it, with every choice of tools
for who in img qemu-img; do
    for then in img qemu-img; do
        qemu-img create -q -f qcow2 kept.qcow2 64M
        img io -c 'write -b -P 0x11 1T 4k' -c 'write -P 1 0 1M' kept.qcow2 >/dev/null
        $who snapshot -c foo kept.qcow2
        img io -c 'write -b -P 0x12 1T 4k' -c 'write -P 2 0 1M' kept.qcow2 >/dev/null
        check "the state changed after the snapshot" qemu-io -r -c 'read -b -P 0x12 1T 4k' -c 'read -P 2 0 1M' kept.qcow2
        $then snapshot -a foo kept.qcow2
        check "$who keeps the state, $then gets it back" qemu-io -r -c 'read -b -P 0x11 1T 4k' -c 'read -P 1 0 1M' kept.qcow2
        check "... soundly" qemu-img check kept.qcow2
        $then snapshot -d foo kept.qcow2
        check "... without the snapshot too" qemu-img check kept.qcow2
    done
done
qemu-img create -q -f qcow2 -o cluster_size=1k kept.qcow2 16M
img snapshot -c foo kept.qcow2
img io -c 'write -b 0 4M' kept.qcow2 >/dev/null
img snapshot -a foo kept.qcow2
check "a snapshot with a smaller L1 table comes back" qemu-img check kept.qcow2
# a larger disk shows nothing of it
for options in cluster_size=512 cluster_size=512,data_file=kept.raw cluster_size=512,data_file=kept.raw,data_file_raw=on; do
    qemu-img create -q -f qcow2 -o $options kept.qcow2 96k
    img io -c 'write -b -P 3 0 100k' -c 'truncate 1M' kept.qcow2 >/dev/null
    check "growth hides the state: $options" qemu-io -r -c 'read -P 0 0 1M' kept.qcow2
done
check "... in the data file too" qemu-io -r -f raw -c 'read -P 0 0 1M' kept.raw
rm -f kept.qcow2 kept.raw

# opening and closing
both close -c close -c close -c 'read 0 512' -c length -c 'sleep 1' -c 'sigraise 0' -c help -c quit -c length a.qcow2
both open -c close -c 'open v2.qcow2' -c length -c 'write 0 1k' -c close -c 'open -r v2.qcow2' -c 'write 0 1' \
    -c 'reopen -w' -c 'write -P 1 0 1' -c 'reopen -r' -c 'truncate 1' -c reopen -c 'discard 0 1' a.qcow2
content v2.qcow2
both 'open wrongly' -c 'open b' -c close -c 'open nofile' -c 'open v2.qcow2 a' -c open -c 'open -x v2.qcow2' \
    -c 'open -t foo v2.qcow2' -c 'open -d foo v2.qcow2' -c 'open -i foo v2.qcow2' -c 'open -U v2.qcow2' \
    -c 'open -o foo=bar v2.qcow2' -c length a.qcow2
both 'open with options' -c close -c 'open -o driver=raw v2.qcow2' -c close -c 'open -o driver=qcow2 v2.qcow2' -c length \
    -c 'reopen -o discard=unmap' -c 'write 0 64k' -c close -c 'open -rU sub.qcow2' -c length -c close \
    -c 'open -o file.filename=v2.qcow2' -c length -c 'reopen -c none' -c 'read 0 512' -c 'reopen -c foo' \
    -c 'reopen -c writeback -o cache.direct=on' a.qcow2
both 'cache modes' -n -c 'write -P 1 5 1000' -c 'read -P 1 5 1000' a.qcow2
both 'cache modes' -t none -d unmap -f qcow2 -c 'aio_write -q -P 1 5 1000' -c aio_flush -c 'read -P 1 5 1000' a.qcow2
both temporary -s -c 'write -P 1 0 1M' -c 'read -P 1 0 1M' a.qcow2
content a.qcow2
both 'only reading' -r -c 'write 0 512' -c 'aio_write 0 512' -c 'writev 0 512' -c 'discard 0 512' -c 'truncate 1M' \
    -c 'read 0 512' a.qcow2
for args in 'nofile' '-c length nofile' '-f foo a.qcow2' '-t foo a.qcow2' '-i foo a.qcow2' '-d foo a.qcow2' \
    '-U a.qcow2' '-r -U -c length a.qcow2' '-i native -c length a.qcow2' '-c length' '-m -c length a.qcow2'; do
    # shellcheck disable=SC2086 # words
    both start $args
done

run img io -f qcow2 r.raw
like "$status $err" "1 img: can't open device r.raw: Image is not in qcow2 format*" "not the format that was named"

# lines from a pipe, as scripts drive it
printf 'read 0 512\nbogus\n\n  write   -P 3 0   64k  \n' >script
cat >>script <<'LIST'
aio_write -q -P 4 64k 64k
aio_flush
write -z 32k 4k
discard 64k 64k
flush
length
quit
length
LIST
both pipe -d unmap -f qcow2 -t none a.qcow2
content a.qcow2
printf 'write -P 1 0 64k\nlength' >script
both 'end of input' a.qcow2
content a.qcow2
: >script
both 'no input' a.qcow2

# many at once, and others beside them
{
    for i in 0 1 2 3 4 5 6 7 8 9; do
        echo "aio_write -q -P $i ${i}k 1k"
        echo "write -q -P 9 $((100 + i))k 1k"
        echo "aio_read -q ${i}k 1k"
    done
    echo aio_flush
    for i in 0 1 2 3 4 5 6 7 8 9; do echo "read -P $i ${i}k 1k"; done
    echo 'alloc 0 1M'
} >script
both beside a.qcow2
content a.qcow2

# a crash: what was flushed is there
printf 'write -P 1 0 64k\nflush\nsigraise 9\n' >script
cp a.qcow2 killed.qcow2
st=0
(ours/qemu-io killed.qcow2 <script >/dev/null 2>&1) 2>/dev/null || st=$?
is "$st" 137 "sigraise ends the shell by that signal"
check "... and the image has what was flushed" qemu-io -r -c 'read -P 1 0 64k' killed.qcow2
printf 'abort\n' >script
st=0
(ours/qemu-io killed.qcow2 <script >/dev/null 2>&1) 2>/dev/null || st=$?
is "$st" 134 "abort is a crash"

# the lock is held while the shell runs
hold a.qcow2
both locked -c length a.qcow2
run img io -c length a.qcow2
is "$status" 1 "an image in use is refused"
like "$err" "*Failed to get \"write\" lock*" "... and it says why"
release

run img io --help
is "$status" 0 "--help is there"
run img io -c 'help write' a.qcow2
like "$out" "write \[-bcCfnquz\]*again and again*" "help of a command"
done_testing
