#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Libraries that are loaded when they are needed: most commands start without them, and one that is missing is told by
# who needs it, and by nobody else. An empty file of its name is what stands in its place here.
. "$(dirname "$0")/lib.sh"

needed=$(ldd "$IMG")
has "$needed" libc.so "what is loaded at the start"
for library in libarchive libcryptsetup libxml2 libicu; do
    is "$(echo "$needed" | grep -c "$library")" 0 "... $library is not"
done

mkdir none d
for soname in libarchive.so.13 libcryptsetup.so.12 libxml2.so.2; do : >none/$soname; done
echo hello >d/motd
truncate -s 8M disk
mkfs.ext4 -q -d d disk
tar cf d.tar d
echo '<domain/>' >domain.xml
without() { LD_LIBRARY_PATH=$work/none "$IMG" "$@"; }

run without filesystems -a disk
is "$status $out $err" "0 /dev/sda " "img filesystems needs none of them"
# refused LIBRARY COMMAND...: one line
refused() {
    library=$1
    shift
    run without "$@" <domain.xml
    is "$status" 1 "img $1 without $library"
    has "$err" "img: A library cannot be used: " "... says so"
    has "$err" "$library" "... with its name"
    is "$(echo "$err" | grep -c "^img: ")" 1 "... in one line"
}
cp disk before
refused libarchive.so.13 copy-in -a disk d /
refused libarchive.so.13 tar-in -a disk d.tar /
check "nothing was changed" cmp disk before
refused libxml2.so.2 filesystems -d "$work/domain.xml"
refused libxml2.so.2 inspect --xpath /domain
refused libcryptsetup.so.12 filesystems -a disk --key all:key:x

done_testing
