#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Progress: percent lines as qemu-img prints them, JSON lines, a bar on a terminal and only there, SIGUSR1.
. "$(dirname "$0")/lib.sh"

pattern data 8192
cp data a.raw
esc=$(printf '\033')
cr=$(printf '\r')

run img convert -p -O qcow2 a.raw t
like "$out" "    (0.00/100%)$cr*    (100.00/100%)$cr" "percent lines on standard output"
is "$(tr -d '(0-9./%) \r\n' <.out)" "" "and nothing else"
is "$(tail -c 1 .out | od -An -c | tr -d ' ')" '\n' "with a newline at the end"
run img convert -O qcow2 a.raw t
is "$out$err" "" "without -p there are none"
run img convert -p -q -O qcow2 a.raw t
is "$out$err" "" "nor with -q"
run img convert --progress=percent -O qcow2 a.raw t
like "$out" "*(100.00/100%)*" "--progress=percent"
run img convert -p nosuch t
is "$out" "" "no line when nothing could be begun"

run img convert --progress=json -r 16M -O qcow2 a.raw t
is "$status$out" 0 "JSON lines are not on standard output"
check "each is an object with done, total, rate, eta" perl -MJSON::PP -e '
    my ($lines, $last) = (0, -1);
    while (<STDIN>) {
        my $o = decode_json($_);
        die "keys" if join(" ", sort keys %$o) ne "done eta rate total";
        die "order" if $o->{done} < $last || $o->{total} != 8388608;
        $last = $o->{done}; $lines++;
    }
    die "end" if $last != 8388608;
    die "$lines lines" if $lines < 2 || $lines > 20;' <.err
run img convert --progress=json --output=json -O qcow2 a.raw t
check "beside --output=json" valid_json .out
run img convert -p --output=json -O qcow2 a.raw t
check "percent lines do not mix with JSON" valid_json .out
run img convert --progress=slow -O qcow2 a.raw t
is "$status" 1 "--progress=slow is refused"

# on a terminal
on_terminal() { script -qec "stty cols $1; $2" /dev/null <log-input 2>&1; }
: >log-input
if command -v script >/dev/null && on_terminal 80 true >/dev/null; then
    on_terminal 80 "$IMG convert -p -r 16M -O qcow2 a.raw t" >bar
    text=$(cat bar)
    like "$text" "*%*\[*>*\]*/s*left*" "a bar with rate and time left"
    like "$text" "*100.0%*8 MiB in *" "and what was done in the end"
    case $text in *"$esc"*) ok 1 "no escape sequences" ;; *) ok 0 "no escape sequences" ;; esac
    check "no line is wider than the terminal" sh -c 'tr "\r" "\n" <bar | awk "length > 79 { exit 1 }"'
    for width in 10 20 30 41; do
        on_terminal $width "$IMG convert -p -r 32M -O qcow2 a.raw t" >bar
        check "nor than one of $width columns" sh -c "tr '\r' '\n' <bar | awk 'length > $width - 1 { exit 1 }'"
    done
    truncate -s 1T hole.raw
    start=$(date +%s)
    on_terminal 80 "$IMG convert -p -O qcow2 hole.raw hole.qcow2" >bar
    seconds=$(($(date +%s) - start + 1))
    check "drawn at most ten times a second" [ "$(tr '\r' '\n' <bar | grep -c '%')" -le $((seconds * 10 + 2)) ]
    on_terminal 80 "$IMG compare -p a.raw t" >bar
    like "$(cat bar)" "*100.0%*Images are identical.*" "compare has it too"
else
    skip "a bar" "no script(1) here"
fi

# SIGUSR1
"$IMG" convert -r 8M -O qcow2 a.raw t 2>usr1 &
slow=$!
sleep 0.4
kill -USR1 $slow
wait $slow
is "$?" 0 "SIGUSR1 does not end it"
like "$(cat usr1)" "    (*/100%)" "and prints a line on standard error"

# progress that nobody reads
pattern one 64
run sh -c '{ sleep 0.2; "$0" convert -p -O raw one two; echo $? >status; } | true' "$IMG"
is "$(cat status) $(cmp one two && echo same)" "0 same" "convert goes on when the reader of its progress has gone"
if [ -w /dev/full ]; then
    run sh -c '"$0" convert -p -O raw one two >/dev/full' "$IMG"
    is "$status $err" "0 " "progress on a full disk is no error"
    run sh -c '"$0" convert --progress=bar -O raw one two >/dev/full' "$IMG"
    is "$status $err" "0 " "nor is a bar"
fi
done_testing
