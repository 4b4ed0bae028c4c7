#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img rebase: beside qemu-img over copies of the same chains: what both say, the disk before and after, the names in the
# header; and that it copies only what differs.
. "$(dirname "$0")/lib.sh"

io() { qemu-io "$@" >/dev/null || echo "qemu-io failed: $*"; }

# chain TOP_OPTIONS OTHER_OPTIONS [BASE_SIZE MID_SIZE TOP_SIZE OTHER_SIZE]: base <- mid <- top, and other on its own
chain() {
    rm -rf chain
    mkdir chain
    (
        cd chain || exit 1
        qemu-img create -q -f qcow2 base "${3:-2M}"
        io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 9 1800k 100k' base
        qemu-img create -q -f qcow2 -b base -F qcow2 mid "${4:-2M}"
        io -f qcow2 -c 'write -P 2 64k 128k' -c 'write -P 7 1500k 3k' -c 'write -z 1800k 20k' mid
        qemu-img create -q -f qcow2 $1 -b mid -F qcow2 top "${5:-2M}"
        io -f qcow2 -c 'write -P 3 128k 100k' -c 'write -z 0 64k' -c 'write -P 4 1700k 50k' -c 'write -P 5 700k 512' top
        qemu-img create -q -f qcow2 $2 other "${6:-2M}"
        io -f qcow2 -c 'write -P 1 0 300k' -c 'write -P 8 1200k 100k' -c 'write -P 1 512k 200k' -c 'write -P 6 1600k 1k' other
    )
}

# both NAME ARGUMENTS...: both tools on copies of the chain, in their own folders
both() {
    name=$1
    shift
    for who in theirs mine; do
        rm -rf $who
        cp -r chain $who
        case $who in theirs) tool=qemu-img ;; *) tool=$IMG ;; esac
        st=0
        (cd $who && "$tool" rebase "$@" >../$who.out 2>../$who.err) || st=$?
        { echo "status $st"; cat $who.out; sed -e 's/^[a-z-]*: /TOOL: /' -e "s/'[a-z-]* --help/'TOOL --help/" $who.err
            (cd $who && qemu-img info -U top 2>/dev/null | grep -a '^backing'); } >$who.all
    done
    is "$(cat mine.all)" "$(cat theirs.all)" "$name: rebase $*"
}
# the disk is as it was, and as qemu-img made it
same() {
    check "... shows the same disk" sh -c 'cd mine && qemu-img convert -O raw top ../is.raw && cd ../chain && qemu-img convert -O raw top ../was.raw && cmp ../is.raw ../was.raw'
    check "... and is sound" sh -c "cd mine && qemu-img check -q top"
}
allocated() { (cd "$1" && qemu-io -r -f qcow2 -c 'alloc 0 2M' top | cut -d/ -f1); }

while IFS='|' read -r name top other sizes; do
    # shellcheck disable=SC2086 # words
    chain "$top" "$other" $sizes
    both "$name" -b base -F qcow2 top
    same
    both "$name" -b other -F qcow2 top
    same
    both "$name" -b '' top
    same
    (cd chain && qemu-img rebase -b '' top)
    both "$name, from none" -b other -F qcow2 top
    same
done <<'LIST'
plain||
version 2|-o compat=0.10|-o compat=0.10
subclusters|-o extended_l2=on,cluster_size=32k|
small clusters|-o cluster_size=4k|-o cluster_size=64k
large clusters|-o cluster_size=1M|-o cluster_size=4k
top longer|||2M 2M 3M 2M
top shorter|||3M 3M 2000k 2500k
old shorter|||1990k 2M 3M 4M
new shorter|||2M 2M 2M 1700k
LIST

chain '' ''
both plain -b base -F qcow2 top
mine=$(allocated mine)
theirs=$(allocated theirs)
check "copies no more than qemu-img ($mine, $theirs)" test "$mine" -le "$theirs"
check "something was copied" test "$mine" -gt "$(allocated chain)"
(cd chain && qemu-img create -q -f qcow2 -b base -F qcow2 twin 2M)
both twin -b "$work/chain/base" -F qcow2 top
both raw -b mid -F raw top
same

# data files: names are seen from the working directory
(cd chain && qemu-img create -q -f qcow2 -o data_file=d.raw -b mid -F qcow2 top 2M && io -f qcow2 -c 'write -P 3 1M 70k' top)
both 'data file' -b other -F qcow2 top
same
both 'data file' -u -b other -F qcow2 top
(cd chain && qemu-img create -q -f qcow2 -o data_file=d.raw,data_file_raw=on top 2M)
run sh -c "cd chain && '$IMG' rebase -b other -F qcow2 top"
is "$status" 1 "a raw data file goes with no backing file"

# only the name
chain '' ''
(cd chain && qemu-img convert -O raw top ../was.raw)
cp chain/top before
both unsafe -u -b foo -F qcow2 top
both unsafe -u -b foo -F raw top
both unsafe -u -b '' top
both unsafe -u top
both unsafe -u -F raw top
both unsafe -u -p -b base -F qcow2 top
(cd chain && qemu-img rebase -u -b foo -F qcow2 top)
run sh -c "cd chain && '$IMG' rebase -b base -F qcow2 top"
is "$status" 1 "an old backing file that is missing: there is nothing to compare"
like "$err" "img: Could not open 'top': Could not open backing file*'foo': No such file or directory" "... it is named"
both 'a way back' -u -b mid -F qcow2 top
check "... shows the same disk" sh -c 'cd mine && qemu-img compare top ../was.raw'

# words
chain '' ''
(cd chain && qemu-img create -q -f raw plain.raw 1M)
while read -r line; do
    # shellcheck disable=SC2086 # words
    both words $line
done <<'LIST'

top
-F raw top
-b base -F qcow2 a b
-b base -F qcow2 nosuch
-b nosuch -F qcow2 top
-b nosuch top
-b base top
-u -b base top
-b base -F nofmt top
-u -b base -F nofmt top
-t foo -b base -F qcow2 top
-T foo -b base -F qcow2 top
-f foo -b base -F qcow2 top
-q -b base -F qcow2 top
-T none -t none -b base -F qcow2 top
-U -b base -F qcow2 top
-f raw -b base -F qcow2 plain.raw
-u -f raw -b base -F qcow2 plain.raw
-b x plain.raw
LIST
run sh -c "cd chain && '$IMG' rebase -b top -F qcow2 top"
is "$status" 1 "an image cannot lie below itself"
like "$err" "img: Could not open new backing file 'top': *lock*" "... the lock says so"
(cd chain && qemu-img create -q -f qcow2 -b top -F qcow2 over)
run sh -c "cd chain && '$IMG' rebase -b over -F qcow2 top"
is "$status" 1 "nor below what lies on it"
check "nothing has changed" sh -c "cd chain && qemu-img info top | grep -q '^backing file: mid'"
long=$(printf %01100d 7)
run sh -c "cd chain && '$IMG' rebase -u -b $long -F qcow2 top"
is "$status" 1 "a name that is too long is refused"
check "... and nothing has changed" sh -c "cd chain && qemu-img info top | grep -q '^backing file: mid'"
run sh -c "cd chain && '$IMG' rebase -p -b base -F qcow2 top"
like "$out" "    (0.00/100%)*(100.00/100%)*" "-p prints percent lines"
run sh -c "cd chain && '$IMG' rebase --output=json -b mid -F qcow2 top"
is "$(json_get .out backing-filename)" mid "JSON describes the image"
hold chain/top
run sh -c "cd chain && '$IMG' rebase -b base -F qcow2 top"
is "$status" 1 "an image in use is refused"
release
hold chain/base
run sh -c "cd chain && '$IMG' rebase -U -u -b base -F qcow2 top"
is "$status" 0 "unsafe, it does not look at what is below"
release
# a hint stands on a line of its own
chain '' ''
run sh -c "cd chain && '$IMG' rebase -b top -F qcow2 top"
is "$status:$(printf '%s\n' "$err" | wc -l)" 1:2 "onto itself is refused"
has "$(printf '%s\n' "$err" | tail -n 1)" "Is another process using the image [top]?" "... with a hint"

# nor below itself, although -U lets it be read
cp chain/top before
for below in top over; do
    run sh -c "cd chain && qemu-img create -q -f qcow2 -b top -F qcow2 over && '$IMG' rebase -U -b $below -F qcow2 top"
    is "$status:$err" "1:img: Could not open new backing file '$below': the new backing chain of 'top' comes back to it" "below $below is refused"
    check "... and nothing was changed" cmp chain/top before
done
done_testing
