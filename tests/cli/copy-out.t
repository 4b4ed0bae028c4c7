#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# copy-out: what a tree on the host is, packed into a filesystem, is what comes out again; hostile names go nowhere.
. "$(dirname "$0")/lib.sh"

# all that is known of the files below a folder: types, modes, links, owners, sizes, times, targets, attributes, bytes
facts() {
    (
        cd "$1" || exit
        find . -mindepth 1 ! -type d -printf '%M %n %U:%G %s %T@ %p -> %l\n' | sort
        find . -mindepth 1 -type d -printf '%M %U:%G %T@ %p\n' | sort
        find . -print0 | sort -z | xargs -0 getfattr -hd -m - 2>/dev/null
        find . -type f -print0 | sort -z | xargs -0 sha256sum
    )
}

mkdir tree tree/d tree/d/e tree/closed tree/links
printf 'some text\n' >tree/d/text
: >tree/d/empty
head -c 700000 /dev/urandom >tree/d/e/random
truncate -s 50M tree/d/sparse
printf end | dd of=tree/d/sparse bs=1 seek=40000000 conv=notrunc status=none
ln tree/d/text tree/d/e/again
ln tree/d/text tree/links/third
ln -s text tree/links/relative
ln -s /etc/passwd tree/links/absolute
ln -s ../../../../../../tmp tree/links/up
mkfifo tree/fifo
touch "tree/with space" "tree/new
line" tree/-rf
setfattr -n user.note -v value tree/d/text 2>/dev/null
chmod 4755 tree/d/empty
chmod 640 tree/d/text
if [ "$(id -u)" = 0 ]; then
    mknod tree/null c 1 3
    mknod tree/block b 259 70000
    chown -h 1000:50 tree/d/text tree/links/relative
    setfattr -n trusted.t -v x tree/d/e
    setfattr -n security.selinux -v system_u:object_r:etc_t:s0 tree/d/text 2>/dev/null
    setfattr -n security.ima -v 0x0401 tree/d/text 2>/dev/null
    setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= tree/with\ space 2>/dev/null
    setfacl -m u:1000:rwx,d:u:42:r tree/d/e 2>/dev/null
fi
chmod 500 tree/closed
find tree -exec touch -h -d 2010-10-10 {} +
touch -d 1960-01-01 tree/d/empty
touch -d "2021-02-03 04:05:06" tree/d/text
truncate -s 40M disk
mke2fs -q -t ext4 -d tree disk 2>/dev/null || { echo "1..0 # skip mke2fs cannot fill a filesystem here" && exit 0; }
# mke2fs leaves the parts of seconds out
debugfs -w -R 'set_inode_field /d/text mtime_extra 493827156' disk 2>/dev/null
touch -d '2021-02-03 04:05:06.123456789' tree/d/text
facts tree >all
grep -vE '^(trusted|security\.(selinux|ima))' all | cat -s >want # these are orders to the kernel that has the file

mkdir out
run img copy-out -a disk -m /dev/sda / out
is "$status:$out:$err" "0::" "all of it"
rmdir out/lost+found
facts out | cat -s >got
check "is what it was" diff want got
holes=$(du -k out/d/sparse | cut -f1)
[ "$holes" -lt 1000 ]
ok $? "holes are holes"
run img copy-out -a disk -m /dev/sda / out
is "$status:$err" "0:" "copied over itself"
rmdir out/lost+found
facts out >got
check "it is the same" diff want got

mkdir two
run img copy-out -a disk -m /dev/sda /d/text /links two
is "$status" 0 "a file and a directory"
is "$(stat -c '%a %s %Y' two/text) $(stat -c %h two/text two/links/third | tr '\n' ' ')" "640 10 1612325106 2 2 " \
    "a file that is named itself keeps mode, time and links"
is "$(readlink two/links/up)" "../../../../../../tmp" "links say what they said"

# several names of one file that end alike
mkdir alike
run img copy-out -a disk -m /dev/sda /d/text /links /d/text alike
is "$status:$err:$(cat alike/text)" "0::some text" "a file named twice"
mkdir tree2 tree2/p tree2/q && echo one >tree2/p/x && ln tree2/p/x tree2/q/x && ln tree2/p/x tree2/q/y
truncate -s 8M twice && mke2fs -q -t ext4 -d tree2 twice
mkdir alike/y2 && echo old >alike/y
run img copy-out -a twice -m /dev/sda /p/x /q/x /q/y alike
is "$status:$err:$(cat alike/x):$(stat -c %h alike/x alike/y | tr '\n' ' ')" "0::one:2 2 " "two names of it that are alike, and a third"
is "$(find alike -name '.img-*')" "" "nothing else is left behind"

# names that are taken
mkdir taken outside taken/d
echo mine >taken/file
ln -s "$work/outside" taken/links
ln -s "$work/outside/x" taken/text
run img copy-out -a disk -m /dev/sda /d/text /links taken
is "$status" 0 "names that links have"
is "$(find outside | wc -l):$(test -L taken/links || echo replaced)" "1:replaced" "are replaced, and nothing goes through them"
run img copy-out -a disk -m /dev/sda /d/e/random taken/d
is "$status" 0 "another one"
mkdir taken/d/text
run img copy-out -a disk -m /dev/sda /d/text taken/d
is "$status" 1 "a directory is not replaced by a file"
has "$err" "text: Is a directory" "and that is said"

# errors
run img copy-out -a disk -m /dev/sda /nosuch out
is "$status" 1 "a file that is not there"
like "$err" "*/nosuch: No such file or directory*" "is named"
run img copy-out -a disk -m /dev/sda '/d/*' out
is "$status" 1 "patterns are names"
run img copy-out -a disk -m /dev/sda /d nosuchdir
is "$status" 1 "a target that is not there"
has "$err" "nosuchdir" "is named"
run img copy-out -a disk -m /dev/sda /d tree/d/text
is "$status" 1 "a target that is a file"
run img copy-out -a disk -m /dev/sda /d
is "$status" 1 "no target"
run img copy-out -a disk -m /dev/sda /d/.. out
is "$status" 1 "a path that does not end in a name"
run img copy-out -a nosuch /d out
is "$status" 1 "a disk that is not there"
run "$IMG" copy-out -a tree/d/e/random -m /dev/sda /d out
is "$status" 1 "a disk with nothing on it"

# a filesystem whose directories have names that are none
truncate -s 40M plain
mke2fs -q -t ext4 -O ^metadata_csum -d tree plain
for name in .. a/b . ''; do
    cp plain evil
    # the name in the directory block is overwritten in place, its length with it
    perl -e '
        my ($file, $name) = @ARGV;
        open my $f, "+<:raw", $file or die;
        local $/; my $all = <$f>;
        my $at = -1;
        while (($at = index($all, "\x09\x01absolute\x08", $at + 1)) >= 0) { last }
        $at = index($all, "absolute") if $at < 0;
        my $entry = $at - 8;
        substr($all, $entry + 6, 1) = chr length $name;
        substr($all, $at, length $name) = $name;
        seek $f, 0, 0; print $f $all;' evil "$name"
    rm -rf hostile
    mkdir hostile hostile/top
    run img copy-out -a evil -m /dev/sda /links hostile/top
    is "$(find hostile -maxdepth 1 | sort | tr '\n' ' ')" "hostile hostile/top " "'$name': nothing is made outside"
    case $name in
    . | ..) is "$status:$(find hostile -name absolute)" "0:" "'$name': it is passed over" ;;
    *)
        is "$status" 1 "'$name': it is an error"
        like "$err" "*directory of inode*" "'$name': and said"
        ;;
    esac
done
done_testing
