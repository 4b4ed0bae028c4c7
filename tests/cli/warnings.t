#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# What the reader of a filesystem should know is said once, on stderr, by every command that mounts it: a hibernated
# Windows whose files are not what it has in memory.
. "$(dirname "$0")/lib.sh"

truncate -s 8M n
mkntfs -q -F -Q -s 512 n >/dev/null 2>&1 || { echo "1..0 # skip mkntfs does not make a volume here" && exit 0; }
(printf hibr && head -c 9000 /dev/zero) >hibr
echo text >f
ntfscp -q -f n f f # before the volume is one that ntfscp leaves alone
ntfscp -q -f n hibr hiberfil.sys
cp n same
mkdir out

warns() { # COMMAND...
    run img "$@"
    is "$status" 0 "$1"
    is "$(grep -c 'hibernated' .err)" "${times:-1}" "$1 says it once"
    is "$(grep -c 'hibernated' .out)" 0 "... and not on stdout"
}
warns ls -a n -m /dev/sda /
like "$err" "img: /dev/sda: Windows is hibernated*" "which filesystem it is"
warns ls -a n -m /dev/sda -m '/dev/sda:/$Extend' /
warns cat -a n -m /dev/sda /f
warns df -a n
warns find -a n -m /dev/sda /
warns du -a n -m /dev/sda /
warns tar-out -a n -m /dev/sda / t.tar
warns copy-out -a n -m /dev/sda /f out
times=2 warns diff -a n -A same -m /dev/sda
done_testing
