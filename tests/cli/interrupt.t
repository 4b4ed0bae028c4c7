#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Signals while space is made for a new image: it ends soon, its status tells why, and nothing stays.
. "$(dirname "$0")/lib.sh"

hidden() { find . -name '.*o.*' -o -name '.*d.*'; }
truncate -s 16G big.raw
qemu-img create -q -f qcow2 -o cluster_size=2M big.qcow2 16G

# start COMMAND...: in the background, with signals as a terminal's shell would have them; waits for a hidden file
start() {
    perl -e '$SIG{$_} = "DEFAULT" for qw(INT QUIT); exec @ARGV' "$IMG" "$@" >/dev/null 2>slow.err &
    slow=$!
    tries=0
    until [ -n "$(hidden)" ] || [ $tries -ge 200 ]; do tries=$((tries + 1)); sleep 0.02; done
    sleep 0.1
}

for signal in 'INT 2' 'TERM 15' 'HUP 1' 'QUIT 3' 'XCPU 24' 'ALRM 14'; do
    start create -f raw -o preallocation=full o 16G
    kill -"${signal% *}" $slow
    wait $slow 2>/dev/null
    is "$?" $((128 + ${signal#* })) "SIG${signal% *} ends img create, and the status tells so"
    is "$(hidden)" "" "it leaves nothing behind"
    check "nor under the name" [ ! -e o ]
done
start create -f qcow2 -o preallocation=full,data_file=d o 16G
kill -INT $slow
wait $slow 2>/dev/null
is "$? $(hidden)" "130 " "so with a data file"
check "neither is there" [ ! -e o -a ! -e d ]
is "$(cat slow.err)" "" "and no message is needed"

for source in raw qcow2; do
    for times in 1 2; do
        start convert -O $source -o preallocation=full big.$source o
        for _ in $(seq $times); do kill -INT $slow; done 2>/dev/null
        wait $slow 2>/dev/null
        is "$?" 130 "SIGINT ($times) ends img convert while it makes space ($source)"
        is "$(hidden)" "" "it leaves nothing behind"
        check "nor under the name" [ ! -e o ]
    done
done
start create -f raw -o preallocation=full o 16G
kill -INT $slow
kill -TERM $slow 2>/dev/null
wait $slow 2>/dev/null
is "$(hidden)" "" "a second signal of another kind leaves nothing either"
done_testing
