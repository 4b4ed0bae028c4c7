#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# ls, find: what is no directory, and names that a terminal would obey. (What virt-ls prints is in samples.t.)
. "$(dirname "$0")/lib.sh"

mkdir -p tree/d
echo x >tree/f
ln -s f tree/to-file
ln -s d tree/to-directory
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
done_testing
