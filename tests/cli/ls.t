#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# ls, find: what is no directory, and names that a terminal would obey. (What virt-ls prints is in samples.t.)
. "$(dirname "$0")/lib.sh"

mkdir -p tree/d
echo x >tree/f
ln -s f tree/to-file
ln -s d tree/to-directory
escape=$(printf '\033[31m')
echo x >"tree/d/$escape"
ln -s "$escape" tree/d/link
truncate -s 4M disk
mke2fs -q -t ext4 -d tree disk 2>/dev/null || { echo "1..0 # skip mke2fs cannot fill a filesystem here" && exit 0; }

# ---- no directory ----
for options in '' -l -R -lR; do
    # shellcheck disable=SC2086
    run img ls $options -a disk -m /dev/sda /to-file
    is "$status:$err" "1:img: /to-file: Not a directory" "ls $options of a file"
    # shellcheck disable=SC2086
    run img ls $options -a disk -m /dev/sda /to-directory
    is "$status:$err" "0:" "ls $options of a link to a directory"
done

# ---- a terminal does not obey names ----
terminal() { script -qec "$*" /dev/null </dev/null >.out 2>.err; }
if ! terminal true; then
    skip "a terminal" "script cannot make one here"
    done_testing
    exit
fi
ln -s "$IMG" virt-ls
for command in 'ls' 'ls -R' 'ls -l' 'ls -lR' 'find' 'find -ls' 'du --all'; do
    # shellcheck disable=SC2086
    set -- $command
    c=$1 && shift
    behind=
    [ "$*" != -ls ] || { behind=-ls && shift; }
    terminal "$IMG" "$c" "$@" -a disk -m /dev/sda /d $behind
    is "$(grep -cF "$escape" .out)" 0 "$command on a terminal"
    check "... shows the name" grep -qE '(\\x1b|\\033)\[31m' .out
    [ "$behind" ] || has "$("$IMG" "$c" "$@" -a disk -m /dev/sda /d)" "$escape" "... and programs get it as it is"
done
terminal ./virt-ls -a disk -m /dev/sda /d
has "$(cat .out)" "$escape" "virt-ls prints it as its namesake does"
done_testing
