#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# find, du: what find(1) and du(1) say of the tree that was packed into a filesystem.
. "$(dirname "$0")/lib.sh"

mkdir -p tree/etc tree/d/e/f tree/empty
printf 'root:x:0:0::/:\nann:x:1000:50::/:\n' >tree/etc/passwd
printf 'staff:x:50:\n' >tree/etc/group
head -c 70000 /dev/urandom >tree/d/random
head -c 512 /dev/urandom >tree/d/sector
: >tree/d/e/nothing
truncate -s 3M tree/d/e/sparse
ln tree/d/random tree/d/e/linked
ln -s ../random tree/d/e/symlink
touch "tree/d/with space" tree/d/UPPER
chmod 4755 tree/d/sector
chmod 600 tree/d/random
mkfifo tree/d/e/f/pipe
find tree -exec touch -h -d '10 days ago' {} +
touch tree/d/e/nothing
touch -d '400 days ago' tree/d/UPPER
truncate -s 10M disk
mke2fs -q -t ext4 -b 4096 -d tree disk 2>/dev/null || { echo "1..0 # skip mke2fs cannot fill a filesystem here" && exit 0; }
debugfs -w -R 'set_inode_field /d/sector uid 1000' disk 2>/dev/null
debugfs -w -R 'set_inode_field /d/sector gid 50' disk 2>/dev/null

# same TEST...: both find the same below /d
same() {
    (cd tree && find d "$@" | sed 's,^,/,' | sort) >want
    run img find -a disk -m /dev/sda /d "$@"
    is "$status:$err:$(sort .out)" "0::$(cat want)" "find $*"
}
same
same -name '*o*'
same -iname 'upper'
same -path '*/e/*'
same -type f
same -type d,l
same -type p
same -size 1
same -size +1
same -size -2k
same -size 512c
same -size +2M
same -mtime +30
same -mtime -5
same -mtime 10
same -perm 600
same -perm -4000
same -perm /4022
same -links 2 -type f
same -links +1 ! -type d
same -empty
same -not -name '*a*' -mindepth 1 -maxdepth 2
is "$(img find -a disk -m /dev/sda / -user ann)" "/d/sector" "a user by the guest's name"
is "$(img find -a disk -m /dev/sda / -group 50)" "/d/sector" "a group by its number"
is "$(img find -a disk -m /dev/sda / -uid +999)" "/d/sector" "owners above"
is "$(img find -a disk -m /dev/sda /d -newer /d/random ! -name '*symlink')" "/d/e/nothing" "what is newer"
is "$(img find -a disk -m /dev/sda -maxdepth 0)" "/" "the root, without an argument"
is "$(img find -a disk -m /dev/sda /d/e -type f -print0 | tr '\0' '+')" "/d/e/linked+/d/e/nothing+/d/e/sparse+" "-print0"
like "$(img find -a disk -m /dev/sda / -name sector -ls)" "*4 -rwsr-xr-x   1 ann      staff         512 * /d/sector" "-ls"
img find -a disk -m /dev/sda --output=json / >j
check "JSON" valid_json j
run img find -a disk -m /dev/sda /d -size x
is "$status" 1 "a size that is none"
run img find -a disk -m /dev/sda /d -name
is "$status" 1 "a test without its argument"
run img find -a disk -m /dev/sda /d -name x y
is "$status" 1 "a word that is no test"
run img find -a disk -m /dev/sda /d -user nobody-here
is "$status" 1 "a user that the guest has not"
run img find -a disk -m /dev/sda /nosuch -type f
is "$status" 1 "a folder that is not there"
has "$err" "/nosuch" "is named"
run img find -a disk -m /dev/sda /d !
is "$status" 1 "nothing behind !"

# the space: as the kernel counts it is in the samples; lengths are the same everywhere but for folders
is "$(img du -a disk -m /dev/sda -b /d/random)" "70000	/d/random" "a file's length"
is "$(img du -a disk -m /dev/sda /d/random)" "72	/d/random" "what it takes"
is "$(img du -a disk -m /dev/sda -h /d/random /d/e/sparse)" "72K	/d/random
0	/d/e/sparse" "for people"
is "$(img du -a disk -m /dev/sda -s /d)" "$((72 + 4 + 3 * 4))	/d" "a folder: links once, holes not"
is "$(img du -a disk -m /dev/sda --max-depth=1 /d | cut -f2 | tr '\n' ' ')" "/d/e /d " "one level"
is "$(img du -a disk -m /dev/sda --total -s /d/e/f /empty)" "4	/d/e/f
4	/empty
8	total" "the sum"
is "$(img du -a disk -m /dev/sda --all /d/e/f | cut -f2 | tr '\n' ' ')" "/d/e/f/pipe /d/e/f " "files too"
img du -a disk -m /dev/sda --output=json / >j
check "JSON" valid_json j
run img du -a disk -m /dev/sda --max-depth=x /
is "$status" 1 "a depth that is none"
run img du -a disk -m /dev/sda /nosuch
is "$status" 1 "a file that is not there"
done_testing
