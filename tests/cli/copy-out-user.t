#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# copy-out by an ordinary user: the copies are theirs, as with tar, and what they may not make is left out.
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
else
    as_user() { "$@"; }
    mkdir home
fi
run as_user "$IMG" --version
if [ "$status" != 0 ]; then
    echo "1..0 # skip an ordinary user cannot start the tool here: $err"
    exit 0
fi

mkdir -p tree/d/closed tree/nodes
echo text >tree/d/text
echo open >tree/d/open
chmod 666 tree/d/open
ln tree/d/text tree/d/closed/first
ln tree/d/text tree/later
chmod 4750 tree/d/text
touch -d 2011-11-11 tree/d/text
chmod 0 tree/d/closed
mkfifo tree/d/pipe
[ "$(id -u)" != 0 ] || mknod tree/nodes/null c 1 3
truncate -s 20M disk
mke2fs -q -t ext4 -d tree disk 2>/dev/null || { echo "1..0 # skip mke2fs cannot fill a filesystem here" && exit 0; }
debugfs -w -R 'set_inode_field /d/text uid 1234' disk 2>/dev/null
chmod 644 disk
cd home || exit 1

run as_user sh -c 'umask 022; mkdir out; exec "$@"' sh "$IMG" copy-out -a ../disk -m /dev/sda /d /later out
is "$status:$err" "0:" "a folder and a file"
is "$(stat -c '%a %h %Y' out/d/text)" "750 3 1320969600" "modes without set-user-ID, links, times"
is "$(find out ! -uid "$(as_user id -u)")" "" "all is the user's"
is "$(stat -c '%a' out/d/closed out/d/open | tr '\n' ' ')" "0 644 " "a closed folder is closed, and the umask counts"
is "$(stat -c %F out/d/pipe)" "fifo" "pipes can be made"
if [ "$(id -u)" = 0 ]; then
    run as_user "$IMG" copy-out -a ../disk -m /dev/sda /nodes out
    is "$status" 1 "device nodes cannot"
    has "$err" "nodes/null: Operation not permitted" "and that is said"
    check "the folder is there" test -d out/nodes
    mkdir theirs
    run as_user "$IMG" copy-out -a ../disk -m /dev/sda /d theirs
    is "$status:$(ls -A theirs)" "1:" "nothing is made in a folder that cannot be written"
    has "$err" "d: Permission denied" "and that is said"
fi
chmod 700 out/d/closed
run as_user "$IMG" tar-out -a ../disk -m /dev/sda /d d.tar
is "$status" 0 "tar-out needs no rights"
is "$(tar -tf d.tar | tr '\n' ' ')" "./ ./closed/ ./closed/first ./open ./pipe ./text " "all is in the archive"
done_testing
