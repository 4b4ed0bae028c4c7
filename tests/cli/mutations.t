#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The tool and disks that were changed where it hurts (tests/mutate): it ends by itself and in time, with 0 or 1, and if
# it fails it says why in one line. MUTATIONS: how many of each type; MUTATE_BASES: a folder with the disks that
# tests/mutate/bases makes.
. "$(dirname "$0")/lib.sh"
mutate=${IMG_BUILD:-$top/build}/tests/mutate_test

mkdir disks
# shellcheck disable=SC2086 # nothing, or two words
(cd "$top" && "$mutate" ${MUTATE_BASES:+--bases} ${MUTATE_BASES:-} --keep "$work/disks" --count "${MUTATIONS:-4}") >made 2>&1
ok $? "disks are made" || say "$(tail -n 3 made)"

# attempt COMMAND...: notes what must not be
attempt() {
    timeout 20 "$IMG" "$@" >out 2>err </dev/null
    status=$?
    lines=$(grep -v -e '^img: Did you mean to mount' -e '^img: [^ ]*/dev/[^ ]* ([^ ]*)$' err) # volumes that could be meant
    if [ $status -gt 1 ]; then
        echo "ends with $status: img $*"
    elif [ $status -eq 1 ] && [ "$(printf '%s\n' "$lines" | wc -l)" -ne 1 ]; then
        echo "$(grep -c '' err) lines on stderr: img $*"
    elif [ $status -eq 0 ] && grep -v '^img: ' err; then
        echo "warns without its name: img $*"
    fi
}

: >wrong
for type in $(ls disks | sed 's/-.*//' | sort -u); do
    for disk in disks/"$type"-*; do
        case $disk in *.2) continue ;; esac
        size=512
        [ "$type" != gpt4096 ] || size=4096
        set -- --blocksize=$size -a "$disk"
        [ ! -e "$disk.2" ] || set -- "$@" -a "$disk.2"
        case $type in luks*) set -- "$@" --key all:key:mutant ;; esac
        attempt filesystems --all -l "$@" >>wrong
        attempt df "$@" >>wrong
        attempt inspect "$@" >>wrong
        case $type in
        gpt* | mbr) root=/dev/sda1 ;;
        lvm) root=/dev/g/lin ;;
        md) root=/dev/md127 ;;
        luks*) continue ;; # nothing in it
        *) root=/dev/sda ;;
        esac
        attempt ls -lR "$@" -m $root / >>wrong
        attempt ls -lR --csv --checksum --extra-stats --times "$@" -m $root / >>wrong
    done
    is "$(cat wrong)" "" "$type"
    : >wrong
done
done_testing
