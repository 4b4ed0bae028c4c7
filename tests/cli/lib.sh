# SPDX-License-Identifier: GPL-3.0-or-later
# What the black-box tests share: a folder of their own, TAP, and a comparison with qemu-img to the byte.
#
#   . "$(dirname "$0")/lib.sh"
#   run img info x          sets $status, $out, $err
#   is "$out" "wanted" "what must hold"
#   same_as_qemu <<LIST     runs both tools with the command lines of a list and compares all that they say
#   done_testing
# shellcheck shell=sh disable=SC2034 # variables are for the tests

set -u
export LC_ALL=C.UTF-8 TZ=UTC
top=$(cd "$(dirname "$0")/../.." && pwd)
IMG=${IMG:-$top/build/img}
case $IMG in /*) ;; *) IMG=$PWD/$IMG ;; esac
PATH="$PATH:/usr/sbin:/sbin"

work=$(mktemp -d "${TMPDIR:-/tmp}/img-cli.XXXXXX") || exit 1
chmod 755 "$work"
holder=
device= # a loop device to be given back
mounted= # a file system to be unmounted
at_exit() {
    [ -z "$device" ] || losetup -d "$device"
    [ -z "$mounted" ] || umount -l "$mounted"
    [ -z "$holder" ] || kill "$holder" 2>/dev/null
    cd / && rm -rf "$work"
}
trap at_exit EXIT
trap 'exit 1' INT TERM HUP
cd "$work" || exit 1

tests=0
failures=0

img() { "$IMG" "$@"; }

# can_mount: can a file system in a file be mounted, on the folder mnt? Only root can, and not in every container.
can_mount() {
    rm -f probe && truncate -s 4M probe && mke2fs -q -F probe
    [ "$(id -u)" = 0 ] && mount -o loop,ro probe mnt 2>/dev/null && umount mnt
}

# ok STATUS NAME: a test that passes when STATUS is 0
ok() {
    tests=$((tests + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $tests - $2"
    else
        failures=$((failures + 1))
        echo "not ok $tests - $2"
        return 1
    fi
}

say() { printf '%s\n' "$*" | sed 's/^/# /'; }

# check NAME COMMAND...: passes when the command succeeds
check() {
    what=$1
    shift
    if "$@" >"$work/.check" 2>&1; then
        ok 0 "$what"
    else
        ok 1 "$what" || say "failed: $*" "$(head -n 5 "$work/.check")"
    fi
}

is() {
    if [ "$1" = "$2" ]; then
        ok 0 "$3"
    else
        ok 1 "$3" || say "got:    $1
wanted: $2"
    fi
}

# like TEXT PATTERN NAME: a shell pattern
like() {
    # shellcheck disable=SC2254 # the pattern is meant as one
    case $1 in
    $2) ok 0 "$3" ;;
    *) ok 1 "$3" || say "got:     $1
pattern: $2" ;;
    esac
}

# has TEXT PART NAME: PART is in TEXT as it stands
has() {
    case $1 in
    *"$2"*) ok 0 "$3" ;;
    *) ok 1 "$3" || say "got:    $1
wanted: $2" ;;
    esac
}

skip() {
    tests=$((tests + 1))
    echo "ok $tests - $1 # SKIP $2"
}

# run COMMAND...: keeps what it says and how it ends
run() {
    status=0
    "$@" >"$work/.out" 2>"$work/.err" || status=$?
    out=$(cat "$work/.out")
    err=$(cat "$work/.err")
}

# patient COMMAND...: tries again while QEMU cannot measure its key derivation, which happens on a busy machine
patient() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        patience=0
        "$@" 2>"$work/.patient" || patience=$?
        grep -q 'accurate CPU usage' "$work/.patient" || break
    done
    cat "$work/.patient" >&2
    return $patience
}

# same_as_qemu <LIST: each line is a command line that must do what it does in qemu-img (same.pl)
same_as_qemu() {
    perl "$top/tests/cli/same.pl" "$IMG" "$tests" "$work/.counts"
    read -r tests more <"$work/.counts"
    failures=$((failures + more))
}

# hold FILE [qemu-io options]: another program has the image open, for writing unless -r is given, until release
hold() {
    rm -f "$work/.hold"
    mkfifo "$work/.hold"
    qemu-io "$@" <"$work/.hold" >"$work/.holder" 2>&1 &
    holder=$!
    exec 9>"$work/.hold"
    tries=0
    echo 'read 0 512' >&9
    until grep -q '^read 512/512' "$work/.holder"; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || break
        sleep 0.05
    done
}

release() {
    echo quit >&9
    exec 9>&-
    wait "$holder" 2>/dev/null
    holder=
}

# valid_json FILE: exactly one JSON value, and UTF-8
valid_json() {
    perl -MJSON::PP -e 'undef $/; open my $in, "<:raw", $ARGV[0] or die; JSON::PP->new->utf8->allow_nonref->decode(<$in>)' "$1"
}

# json_get FILE PATH: what stands at a path such as format-specific.data.compat or 0.filename
json_get() {
    perl -MJSON::PP -e '
        undef $/; open my $in, "<:raw", $ARGV[0] or die;
        my $v = JSON::PP->new->utf8->decode(<$in>);
        for my $key (split /\./, $ARGV[1]) { $v = ref $v eq "ARRAY" ? $v->[$key] : $v->{$key}; }
        binmode STDOUT, ":utf8";
        print ref $v eq "JSON::PP::Boolean" ? ($v ? "true" : "false") : defined $v ? $v : "(none)";' "$1" "$2"
}

# poke FILE OFFSET BYTES: overwrites bytes, given as printf escapes
poke() {
    # shellcheck disable=SC2059 # the bytes are meant as a format
    printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# ---- killed at every write ----

# killed_everywhere NAME JUDGE COMMAND...: the command works on copies of the files in the folder `before`, in a folder
# of its own, and is killed at one of its writes after the other (tests/preload/killed_at.c). JUDGE is called in the
# folder `killed` each time and says what is wrong; the folder `after` has what the command leaves at its end. A sample
# of the moments; every one with KILLS=all (make kill).
killed_everywhere() {
    what=$1 judge=$2 bad=0
    shift 2
    : >.moments
    die_at -1 "$@" || bad=1
    rm -rf after
    mv killed after
    moments=$(cat .moments)
    step=$((moments / 6 + 1))
    [ "${KILLS:-}" != all ] || step=1
    at=$((tests % step))
    while [ "$bad" -eq 0 ] && [ "$at" -lt "${moments:-0}" ]; do
        die_at "$at" "$@"
        why=$(cd killed && "$judge") || { bad=1 && say "killed at moment $at of $moments: $why"; }
        at=$((at + step))
    done
    [ "$bad" -ne 0 ] || [ "${moments:-0}" -gt 0 ] || say "it wrote nothing: $(cat .killed)"
    ok "$((bad || ${moments:-0} == 0))" "killed at every write: $what"
}

# die_at MOMENT COMMAND...: in a fresh copy
die_at() {
    rm -rf killed
    cp -r --sparse=always before killed
    moment=$1
    shift
    (
        cd killed && env LD_PRELOAD="${IMG_BUILD:-$top/build}/tests/killed_at.so" KILLED_AT="$moment" \
            KILLED_COUNT="$work/.moments" ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0" \
            "$@" >"$work/.killed" 2>&1 || exit
    ) 2>/dev/null
}

# pattern FILE SIZE_IN_KIB: bytes that do not compress and are the same each time
pattern() {
    perl -e 'srand 7; print pack "L*", map { int rand 2**32 } 1 .. $ARGV[0] * 256' "$2" >"$1"
}

done_testing() {
    echo "1..$tests"
    [ "$failures" -eq 0 ]
    exit $?
}
