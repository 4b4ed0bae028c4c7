#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The target of img convert: whole or not there, whatever comes between; mode, owner and links; what is refused.
. "$(dirname "$0")/lib.sh"

pattern data 4096
qemu-img convert -O qcow2 data a.qcow2
cp data a.raw
hidden() { find . -maxdepth 1 -name '.t.*'; }

# mode and owner of what is replaced
echo old >t
chmod 600 t
run img convert -O qcow2 a.raw t
is "$status $(stat -c %a t)" "0 600" "the mode is kept"
rm t
(umask 027 && img convert -O qcow2 a.raw t)
is "$(stat -c %a t)" 640 "a new file obeys the umask"
if [ "$(id -u)" = 0 ]; then
    chown 12:34 t
    chmod 660 t
    run img convert -O raw a.raw t
    is "$(stat -c '%u:%g %a' t)" "12:34 660" "the owner is kept"
else
    skip "the owner is kept" "only root may give files away"
fi
rm t

# links
mkdir dir
ln -s dir/real link
run img convert -O raw a.raw link
is "$status" 0 "a link to nothing is followed"
check "the file is where the link points" cmp a.raw dir/real
run img convert -O qcow2 a.raw link
check "the link is still one" test -L link
check "the file behind it is replaced" qemu-img compare -q dir/real a.raw
is "$(find dir -type f)" dir/real "and nothing else is there"
ln -s loop1 loop2
ln -s loop2 loop1
run timeout 10 "$IMG" convert -O raw a.raw loop1
is "$status" 1 "links in a circle are refused"
has "$err" "Too many levels of symbolic links" "as such"
rm -f loop1 loop2

# what cannot be a target
mkfifo fifo
for name in dir fifo /dev/null nosuch/t; do
    run timeout 5 "$IMG" convert -O raw a.raw $name
    is "$status" 1 "$name is refused"
    like "$err" "img: $name: error while converting raw: ?*" "with a reason: $err"
done
cp a.raw same.raw
ln same.raw other-name.raw
for name in same.raw other-name.raw; do
    run img convert -O qcow2 same.raw $name
    is "$status" 1 "the source as target ($name) is refused"
done
check "and not touched" cmp same.raw a.raw
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2
cp a.qcow2 before
run img convert -O qcow2 over.qcow2 a.qcow2
is "$status" 1 "so is the source's backing file"
run img convert -n -O qcow2 over.qcow2 a.qcow2
is "$status" 1 "with -n as well"
check "and not touched" cmp a.qcow2 before

# a target in use
qemu-img create -q -f qcow2 t 1M
cp t before
for mode in '' -r; do
    hold $mode t
    run img convert -O qcow2 a.raw t
    is "$status" 1 "a target in use is refused ($mode)"
    has "$err" "t: error while converting qcow2: Failed to get" "with the lock's name"
    run img convert -n -O qcow2 a.raw t
    is "$status" 1 "with -n as well"
    check "it is as it was" cmp t before
    release
done
is "$(hidden)" "" "no temporary file is left"

# while it is made: slow copies
start_slow() {
    "$IMG" convert -r 2M -O qcow2 a.raw t 2>slow.err &
    slow=$!
    tries=0
    until [ -n "$(hidden)" ] || [ $tries -ge 100 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
    sleep 0.1
}
rm -f t
start_slow
check "a new target is not there before it is complete" test ! -e t
check "but is made beside its name" [ -n "$(hidden)" ]
wait $slow
is "$? $(hidden)" "0 " "then it is there and nothing else"
check "whole" qemu-img compare -q t a.raw

cp t before
start_slow
check "an old target stays while the new one is made" cmp t before
run qemu-io -c 'write 0 512' t
has "$err$out" 'lock' "and nobody can start to use it"
wait $slow

for signal in 'INT 2' 'TERM 15' 'HUP 1'; do
    name=${signal% *}
    cp before t
    # a shell that does not do this for its background jobs would leave SIGINT ignored
    perl -e '$SIG{INT} = "DEFAULT"; exec @ARGV' "$IMG" convert -r 2M -O qcow2 a.raw t 2>slow.err &
    slow=$!
    tries=0
    until [ -n "$(hidden)" ] || [ $tries -ge 100 ]; do tries=$((tries + 1)); sleep 0.05; done
    kill -"$name" $slow
    wait $slow 2>/dev/null
    status=$?
    is "$status" $((128 + ${signal#* })) "SIG$name ends it, and the status tells so"
    is "$(hidden)" "" "SIG$name leaves nothing behind"
    check "the old target is as it was" cmp t before
done
rm t
start_slow
kill -KILL $slow
wait $slow 2>/dev/null
check "even SIGKILL leaves nothing under the name" test ! -e t
rm -f .t.*
perl -e '$SIG{HUP} = "IGNORE"; exec @ARGV' "$IMG" convert -r 8M -O qcow2 a.raw t 2>slow.err &
slow=$!
sleep 0.2
kill -HUP $slow
wait $slow
is "$?" 0 "an ignored SIGHUP stays ignored"
run img convert -n -O qcow2 a.raw t
check "-n leaves no temporary file" [ -z "$(hidden)" ]

# errors in the middle
rm -f t
head -c 3000000 a.qcow2 >cut.qcow2
run img convert -O raw cut.qcow2 t
is "$status" 1 "a source that cannot be read to its end fails"
check "and leaves no target" test ! -e t
is "$(hidden)" "" "nor a temporary file"
cp before t
run sh -c 'ulimit -f 1000; exec "$0" convert -O raw a.raw t' "$IMG"
is "$status" 1 "a file that may not grow fails"
run sh -c 'ulimit -f 1000; exec "$0" convert -O qcow2 a.raw t' "$IMG"
has "$err" "'t'" "and is named as the user knows it"
check "without the temporary name" [ "${err#*.t.}" = "$err" ]
check "the old target is as it was" cmp t before
is "$(hidden)" "" "no temporary file is left"
rm t
run img convert -O qcow2 -o data_file=t.data cut.qcow2 t
check "a data file does not stay either" [ "$status" = 1 -a ! -e t -a ! -e t.data ]
run sh -c '"$0" convert -p -O raw a.raw t | head -c 1 >/dev/null' "$IMG"
check "a reader of the progress that goes away does no harm" cmp a.raw t

# a name that is as long as names may be
long=$(printf '%0255d' 0)
run img convert -O raw a.raw "$long"
is "$status" 0 "a name of 255 bytes"
check "is there" cmp a.raw "$long"

# a block device
if [ "$(id -u)" = 0 ]; then
    truncate -s 6M disk
    device=$(losetup --find --show disk 2>/dev/null) || device=
fi
if [ -n "$device" ]; then
    dd if=/dev/urandom of=disk bs=1M count=6 conv=notrunc status=none
    run img convert -O qcow2 a.raw "$device"
    is "$status" 0 "qcow2 onto a block device"
    check "it shows the disk" qemu-img compare -q -f qcow2 "$device" a.raw
    run img convert -O raw a.raw "$device"
    is "$status" 0 "raw onto a block device"
    check "its beginning is the disk" cmp -n 4194304 "$device" a.raw
    losetup -d "$device"
    device=
else
    skip "block devices" "no loop device can be set up here"
fi
done_testing
