#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img commit: beside qemu-img over copies of the same chains. What both say, the disks that all layers show afterwards,
# and what the overlay still holds.
. "$(dirname "$0")/lib.sh"

io() { qemu-io "$@" >/dev/null || echo "qemu-io failed: $*"; }

# chain BASE_OPTIONS MID_OPTIONS TOP_OPTIONS [BASE_SIZE MID_SIZE TOP_SIZE [BASE_FORMAT]]: three layers in chain/
chain() {
    rm -rf chain
    mkdir chain
    (
        cd chain || exit 1
        f=${7:-qcow2}
        if [ "$f" = raw ]; then qemu-img create -q -f raw base "${4:-2M}"; else qemu-img create -q -f qcow2 $1 base "${4:-2M}"; fi
        io -f "$f" -c 'write -P 1 0 1M' -c 'write -P 9 1800k 200k' base
        qemu-img create -q -f qcow2 $2 -b base -F "$f" mid "${5:-2M}"
        io -f qcow2 -c 'write -P 2 64k 128k' -c 'write -P 7 1500k 3k' -c 'write -z 1900k 20k' mid
        qemu-img create -q -f qcow2 $3 -b mid -F qcow2 top "${6:-2M}"
        io -f qcow2 -c 'write -P 3 128k 100k' -c 'write -z 0 64k' -c 'write -P 4 1700k 150k' -c 'write -P 5 700k 512' \
            -c 'write -z 300k 5k' top
    )
}

# both NAME ARGUMENTS...: both tools on copies of the chain
both() {
    name=$1
    shift
    for who in theirs mine; do
        rm -rf $who
        cp -r chain $who
        case $who in theirs) tool=qemu-img ;; *) tool=$IMG ;; esac
        st=0
        (cd $who && "$tool" commit "$@" >../$who.out 2>../$who.err) || st=$?
        { echo "status $st"; cat $who.out; sed -e 's/^[a-z-]*: /TOOL: /' -e "s/'[a-z-]* --help/'TOOL --help/" $who.err; } >$who.all
    done
    is "$(cat mine.all)" "$(cat theirs.all)" "$name: commit $*"
    for layer in base mid top; do
        [ -e chain/$layer ] || continue
        check "... $layer shows the same" qemu-img compare -q mine/$layer theirs/$layer
        case $layer$raw in base?*) ;; *) check "... and is sound" qemu-img check -q mine/$layer ;; esac
    done
}
# what a layer holds itself; zeroes with nothing below need no entry here
held() { qemu-img map --output=json "$1" | grep -c '"depth": 0, "present": true'; }
raw=

chain '' '' ''
cp chain/top top.before
both plain top
is "$(held mine/top)" "$(held theirs/top)" "the overlay holds nothing any more"
check "its file is shorter" test "$(stat -c %s mine/top)" -lt "$(stat -c %s top.before)"
check "the disk has not changed" sh -c "cd chain && '$IMG' compare -q top ../mine/top"
both drop -d top
check "-d keeps the overlay as it was" cmp mine/top chain/top
both deep -b base top
check "-b keeps the overlay as it was" cmp mine/top chain/top
check "... and what lies between" cmp mine/mid chain/mid
both near -b mid top
check "-b keeps it even if it is the next layer" cmp mine/top chain/top
both name -b ./base top
both name -b "nosuch" top
both itself -b top top
both quiet -q top
both quiet -q -p top
both uncached -t none top
both rate -r 100M top
both format -f qcow2 top
both mid mid
for line in '' 'a b' 'nosuch' 'base' '-r x top' '-t foo top' '-f foo top' '-f raw top'; do
    # shellcheck disable=SC2086 # words
    both wrong $line
done
run sh -c "cd mine && '$IMG' commit -p top"
like "$out" "    (0.00/100%)*(100.00/100%)*Image committed." "-p prints percent lines"

while IFS='|' read -r name base mid top sizes; do
    # shellcheck disable=SC2086 # words
    chain "$base" "$mid" "$top" $sizes
    both "$name" top
    both "$name" -b base top
done <<'LIST'
version 2|-o compat=0.10|-o compat=0.10|-o compat=0.10|
subclusters above|||-o extended_l2=on|
subclusters below|-o extended_l2=on|-o extended_l2=on||
small over large|-o cluster_size=64k|-o cluster_size=512k|-o cluster_size=4k|
large over small|-o cluster_size=4k|-o cluster_size=1k|-o cluster_size=2M|
top longer|||| 2M 2M 3M
base shorter|||| 2000k 2M 3M
middle shorter|||| 4M 2M 3M
top shorter|||| 4M 3M 2000k
LIST
chain '' '' '' 2M 2M 3M raw
raw=yes
both raw -b base top
raw=
chain '' "-o data_file=mid.raw" "-o data_file=top.raw"
for tool in qemu-img "$IMG"; do
    rm -rf mine
    cp -r chain mine
    check "${tool##*/} with data files" sh -c "cd mine && '$tool' commit top && qemu-img convert -O raw mid ../${tool##*/}.raw"
    check "... the overlay shows the same" sh -c "cd mine && qemu-img convert -O raw top ../top.raw && cd ../chain && qemu-img convert -O raw top ../was.raw && cmp ../top.raw ../was.raw"
done
check "... and what was below is the same" cmp qemu-img.raw img.raw

# bitmaps of the base, snapshots of the overlay
chain '' '' ''
qemu-img snapshot -c one chain/top
both snapshots top
is "$(qemu-img snapshot -l mine/top | tail -n 1 | cut -c11-13)" one "the overlay's snapshot stays"
check "... and shows what it did" sh -c "cd chain && qemu-img convert -l one -O raw top ../was && cd ../mine && '$IMG' convert -l one -O raw top ../is && cmp ../is ../was"
chain '' '' ''
qemu-img bitmap --add chain/top b0
both bitmaps top

# in use
chain '' '' ''
hold chain/mid
run sh -c "cd chain && '$IMG' commit top"
is "$status" 1 "a base in use is refused"
like "$err" "*lock*mid*" "... and named"
release
hold -r chain/mid
cp chain/mid mid.before
run sh -c "cd chain && '$IMG' commit top"
is "$status" 1 "a base that somebody reads is refused"
like "$err" "*Failed to get \"write\" lock*" "... and it says why"
check "... and has not changed" cmp chain/mid mid.before
release
run sh -c "cd chain && '$IMG' commit --output=json top"
check "JSON describes the overlay" valid_json .out
is "$(json_get .out backing-filename)" mid "... with its backing file"
done_testing
