#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The same as an ordinary user: nothing needs root, and what a user may not do is refused and leaves no trace.
. "$(dirname "$0")/lib.sh"

if [ "$(id -u)" = 0 ]; then
    if ! setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
        echo "1..0 # skip cannot become an ordinary user"
        exit 0
    fi
    as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
    cp "$IMG" tool # its folder may not be open to others
    chmod 755 tool
    IMG=$work/tool
    mkdir home
    chown 65534:65534 home
    cd home || exit 1
else
    as_user() { "$@"; }
fi
user_img() { as_user "$IMG" "$@"; }
run as_user "$IMG" --version
if [ "$status" != 0 ]; then
    echo "1..0 # skip an ordinary user cannot start the tool here: $err"
    exit 0
fi

run user_img create -f qcow2 a.qcow2 8M
is "$status" 0 "create"
pattern data 1024
chmod 644 data
run user_img convert -O qcow2 data b.qcow2
is "$status" 0 "convert"
run user_img convert -c -O qcow2 data c.qcow2
is "$status" 0 "convert -c"
run user_img compare b.qcow2 c.qcow2
is "$out" "Images are identical." "compare"
run user_img info --output=json b.qcow2
is "$status" 0 "info"
run user_img map b.qcow2
is "$status" 0 "map"
run user_img check -r all b.qcow2
is "$status" 0 "check -r all"

# what belongs to others
mkdir closed
touch closed/t
chmod 444 closed/t
chmod 555 closed
[ "$(id -u)" = 0 ] && cp data theirs && chmod 600 theirs && cp data readable && chmod 644 readable
run user_img convert -O qcow2 data closed/t
is "$status" 1 "a file that cannot be written is not replaced"
has "$err" "Permission denied" "and that is said"
run user_img convert -O qcow2 data closed/new
is "$status" 1 "nor is one made in a folder that cannot be written"
run user_img create -f qcow2 closed/new 1M
is "$status" 1 "create neither"
is "$(ls -A closed)" t "nothing is left there"

# a file that may be written in a folder that may not
mkdir kept
head -c 3000000 data >kept/o
cp kept/o kept/d
[ "$(id -u)" != 0 ] || chown 65534 kept/o kept/d
chmod 640 kept/o kept/d
chmod 555 kept
run user_img convert -O qcow2 data kept/o
is "$status" 0 "it is overwritten"
check "with the whole disk" qemu-img compare -q kept/o data
run user_img convert -O qcow2 -o data_file=d,data_file_raw=on data kept/o
is "$status" 0 "and so is a data file"
check "which is the disk" cmp kept/d data
check "as the image is" img compare -q kept/o data
run user_img create -q -f qcow2 kept/o 1M
is "$status" 0 "create does it too"
check "and what was there is gone" qemu-img check -q kept/o
truncate -s 1M zeroes
check "so that zeroes show" qemu-img compare -q kept/o zeroes
cp data kept/o 2>/dev/null
run user_img convert -t writeback -O raw zeroes kept/o
check "raw as well" cmp kept/o zeroes
run user_img convert -O raw -U kept/o kept/o
is "$status" 1 "a source is refused all the same"
hold kept/o
cp kept/o before
run user_img convert -O qcow2 data kept/o
is "$status" 1 "and an image in use"
release
check "which is not touched" cmp kept/o before
is "$(ls -A kept | tr '\n' ' ')" "d o " "nothing else is there"
if [ "$(id -u)" = 0 ]; then
    run user_img info theirs
    is "$status" 1 "a file that cannot be read"
    has "$err" "Could not open 'theirs': Could not open 'theirs': Permission denied" "is named"
    run user_img check -r all -f raw readable
    is "$status" 1 "a file that can only be read is not repaired"
    run user_img info readable
    is "$status" 0 "but described"
    run user_img convert -n -O raw data readable
    is "$status" 1 "and not written to"
    check "it is as it was" cmp data readable
fi
done_testing
