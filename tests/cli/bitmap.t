#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# img bitmap: the messages of qemu-img, bitmaps that qemu reads as we do, and recording by what writes through us.
. "$(dirname "$0")/lib.sh"

# dirty FILE BITMAP: the dirty ranges as qemu exports them, one "start length" each
dirty() {
    qemu-nbd -r -f qcow2 -k "$work/nbd" -B "$2" --fork --pid-file "$work/nbd.pid" "$1" >&2 &&
        qemu-img map --output=json --image-opts \
            "driver=nbd,server.type=unix,server.path=$work/nbd,x-dirty-bitmap=qemu:dirty-bitmap:$2" |
        perl -MJSON::PP -e 'undef $/; print map { "$_->{start} $_->{length}\n" } grep { !$_->{data} } @{decode_json <STDIN>}'
}

# listed FILE BITMAP: the same by us
listed() {
    "$IMG" bitmap --list --output=json "$1" "$2" |
        perl -MJSON::PP -e 'undef $/; print map { "$_->{start} $_->{length}\n" } @{decode_json <STDIN>}'
}

# flags FILE FLAGS: overwrites the flags of the first bitmap of a version 3 image
flags() {
    perl -e '
        open my $f, "+<:raw", $ARGV[0] or die; read $f, my $d, 65536;
        my $p = unpack "N", substr $d, 100, 4;
        while ((my ($type, $length) = unpack "NN", substr $d, $p, 8)[0] != 0x23852875) { $p += 8 + ($length + 7 & ~7); }
        seek $f, unpack("Q>", substr $d, $p + 24, 8) + 12, 0; print $f pack "N", $ARGV[1]' "$1" "$2"
}

names() { json_get "$1" format-specific.data.bitmaps.0.name; }

qemu-img create -q -f qcow2 a.qcow2 10M
qemu-img create -q -f qcow2 big.qcow2 20M
qemu-img bitmap --add big.qcow2 b
qemu-img bitmap --add a.qcow2 there
qemu-img create -q -f qcow2 huge.qcow2 8T
qemu-img create -q -f qcow2 broken.qcow2 1M
qemu-img bitmap --add broken.qcow2 b
qemu-img bitmap --add broken.qcow2 fine
flags broken.qcow2 3
truncate -s 1M r.raw

same_as_qemu <<'LIST'
bitmap
bitmap a.qcow2
bitmap a.qcow2 b0
bitmap --add a.qcow2
bitmap --add a.qcow2 b0 c
bitmap --add -g 3 a.qcow2 b
bitmap --add -g 256 a.qcow2 b
bitmap --add -g x a.qcow2 b
bitmap --clear -g 64k a.qcow2
bitmap --clear -b x -F raw -g 5 a.qcow2 b
bitmap --add a.qcow2 ''
bitmap --add a.qcow2 there
bitmap --remove a.qcow2 nope
bitmap --clear a.qcow2 nope
bitmap --enable a.qcow2 nope
bitmap --disable a.qcow2 nope
bitmap --merge nope a.qcow2 there
bitmap --merge there a.qcow2 nope
bitmap --merge there -b nofile a.qcow2 there
bitmap --merge there -F qcow2 a.qcow2 there
bitmap --add -b a.qcow2 a.qcow2 b
bitmap --merge b -b big.qcow2 a.qcow2 there
bitmap --merge b -b big.qcow2 -F nosuch a.qcow2 there
bitmap --merge nope -b big.qcow2 -F qcow2 a.qcow2 there
bitmap --merge b -b big.qcow2 -F raw a.qcow2 there
bitmap --merge there -b a.qcow2 -F qcow2 a.qcow2 there
bitmap --remove -f raw r.raw b
bitmap --merge b -b big.qcow2 -f raw r.raw b
bitmap --add -f nosuch a.qcow2 b
bitmap --add nofile b
bitmap --nosuch a.qcow2 b
bitmap --add broken.qcow2 b
bitmap --clear broken.qcow2 b
bitmap --enable broken.qcow2 b
bitmap --disable broken.qcow2 b
bitmap --merge fine broken.qcow2 b
bitmap --merge b broken.qcow2 fine
LIST
qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 1M
run img bitmap --add v2.qcow2 b
is "$status $err" "1 img: Operation add on bitmap b failed: Can't make bitmap 'b' persistent in 'v2.qcow2': Cannot store dirty bitmaps in qcow2 v2 files" "none in version 2"
run img bitmap --add -g 512 huge.qcow2 b
has "$err" "Too much space will be occupied by the bitmap. Use larger granularity" "one that would be too large"
run img bitmap --add -g 4G a.qcow2 b
is "$status $err" "1 img: Operation add on bitmap b failed: Granularity must be power of 2 and at most 2147483648" "too coarse"
run img bitmap --add -f raw r.raw b
has "$err" "Can't store persistent bitmaps to" "none in a raw image"
run img bitmap --add a.qcow2 "$(printf '%01024d' 0)"
has "$err" "Name length exceeds maximum (1023 characters)" "a name that is too long"

# several actions, each of which stands by itself
run img bitmap --remove --clear a.qcow2 there
is "$status $err" "1 img: Operation clear on bitmap there failed: Dirty bitmap 'there' not found" "the second of two fails"
run img bitmap --remove a.qcow2 there
is "$status" 1 "the first is done"
img bitmap --add a.qcow2 name >/dev/null && img bitmap --add --disable a.qcow2 off
run img bitmap --add --clear --merge name --disable --enable -g 4k --output=json a.qcow2 many
is "$status $(echo "$out" >o; json_get o format-specific.data.bitmaps.2.name) $(json_get o format-specific.data.bitmaps.2.granularity)" \
    "0 many 4096" "several that go well, and the image as JSON"
is "$(qemu-img info a.qcow2 | grep -c auto)" 2 "qemu sees which are enabled"
check "qemu-img finds no fault" qemu-img check -q a.qcow2
check "nor do we" "$IMG" check a.qcow2
img bitmap --remove a.qcow2 name && img bitmap --remove a.qcow2 many && img bitmap --remove a.qcow2 off
is "$(qemu-img info a.qcow2 | grep -c bitmap) $(qemu-img check a.qcow2 2>&1 | wc -l)" "0 2" "the last one goes with its extension"

# a bitmap that a crash left behind
is "$(img bitmap --remove broken.qcow2 b; qemu-img info --output=json broken.qcow2 >o; names o)" fine "it can be removed"
check "without a leak" qemu-img check -q broken.qcow2

# a bitmap extension that the autoclear bit disowns
qemu-img create -q -f qcow2 left.qcow2 1M
qemu-img bitmap --add left.qcow2 old
poke left.qcow2 95 '\000'
check "add where disowned ones are" "$IMG" bitmap --add left.qcow2 new
qemu-img info --output=json left.qcow2 >o
is "$(names o)" new "they are gone"

# clusters and granularities; writes by us are recorded, and merged, and read alike
for cluster in 512 4k 64k 2M; do
    for granularity in 512 8k 1M; do
        qemu-img create -q -f qcow2 -o cluster_size=$cluster d.qcow2 9999872
        qemu-img create -q -f qcow2 -o cluster_size=64k other.qcow2 9999872
        img bitmap --add -g $granularity d.qcow2 rec
        img bitmap --add -g 4k other.qcow2 src
        qemu-io -f qcow2 other.qcow2 -c 'write 1M 5k' -c 'write 9999360 512' >/dev/null
        img convert -n -f raw -O qcow2 -S 4k r.raw d.qcow2 # zeroes over the first MiB
        a="$(dirty d.qcow2 rec) $(qemu-img check -q d.qcow2 2>&1)"
        is "$a" "0 1048576 " "cluster $cluster, granularity $granularity: what convert wrote is recorded"
        img bitmap --merge src -b other.qcow2 -F qcow2 d.qcow2 rec
        cp d.qcow2 q.qcow2
        qemu-img bitmap --clear q.qcow2 rec
        img convert -n -f raw -O qcow2 -S 4k r.raw q.qcow2
        qemu-img bitmap --merge src -b other.qcow2 -F qcow2 q.qcow2 rec
        theirs=$(dirty q.qcow2 rec)
        is "$(dirty d.qcow2 rec)" "$theirs" "... what is merged is dirty"
        is "$(listed d.qcow2 rec)" "$theirs" "... and listed"
        img bitmap --clear d.qcow2 rec
        is "$(listed d.qcow2 rec)$(dirty d.qcow2 rec)$(qemu-img check -q d.qcow2 2>&1)" "" "... nothing after --clear"
    done
done
run img bitmap --list q.qcow2 rec
like "$out" "Offset*Length
0 *0x200000*
0x900000 *" "the list for people"

# a disabled bitmap stays as it is; an enabled one of many closes does not lengthen the file
qemu-img create -q -f qcow2 e.qcow2 4M
img bitmap --add --disable e.qcow2 off
img bitmap --add e.qcow2 on
img convert -n -f raw -O qcow2 -S 0 r.raw e.qcow2
is "$(dirty e.qcow2 off)/$(dirty e.qcow2 on)" "/0 1048576" "only an enabled one records"
size=$(stat -c %s e.qcow2)
for _ in 1 2 3 4 5 6; do img convert -n -f raw -O qcow2 -S 0 r.raw e.qcow2; done
[ "$(stat -c %s e.qcow2)" -le $((size + 393216)) ]
ok $? "storing again and again needs no more room"
check "and leaks nothing" qemu-img check -q e.qcow2

# convert --bitmaps
qemu-img create -q -f qcow2 s.qcow2 4M
qemu-img bitmap --add -g 8k s.qcow2 on
qemu-img bitmap --add --disable -g 4k s.qcow2 off
qemu-io -f qcow2 s.qcow2 -c 'write 1M 5k' -c 'write 4095k 512' >/dev/null
qemu-img bitmap --merge on s.qcow2 off
cp s.qcow2 sb.qcow2
flags sb.qcow2 3
qemu-img create -q -f qcow2 one.qcow2 4M
qemu-img bitmap --add one.qcow2 on
qemu-img create -q -f qcow2 longer.qcow2 5M
qemu-img create -q -f qcow2 has.qcow2 4M
qemu-img bitmap --add has.qcow2 on
same_as_qemu <<'LIST'
convert --bitmaps -O raw s.qcow2 o.raw
convert --bitmaps -O raw sb.qcow2 o.raw
convert --bitmaps -O qcow2 -o compat=0.10 s.qcow2 o.qcow2
convert --skip-broken-bitmaps -O qcow2 s.qcow2 o.qcow2
convert --bitmaps -O qcow2 s.qcow2 s.qcow2 o.qcow2
convert --bitmaps -f raw -O qcow2 r.raw o.qcow2
convert --bitmaps -O qcow2 sb.qcow2 o.qcow2
convert -n --bitmaps -O qcow2 one.qcow2 longer.qcow2
convert -n --bitmaps -O qcow2 s.qcow2 has.qcow2
convert --bitmaps --skip-broken-bitmaps -O qcow2 sb.qcow2 skipped.qcow2
convert --bitmaps -O qcow2 -o cluster_size=4k s.qcow2 copy.qcow2
LIST
is "$(dirty copy.qcow2 on)/$(dirty copy.qcow2 off)" "$(dirty s.qcow2 on)/$(dirty s.qcow2 off)" "the copies say the same"
img convert -c --bitmaps -O qcow2 copy.qcow2 again.qcow2
is "$(dirty again.qcow2 off)" "$(dirty s.qcow2 off)" "compressed as well"
is "$(qemu-img info again.qcow2 | grep -c auto)$(qemu-img check -q again.qcow2)" 1 "the enabled one is enabled"
is "$(qemu-img info --output=json skipped.qcow2 >o; names o)" off "a broken one is left out"
is "$(qemu-img info longer.qcow2 | grep -c granularity)" 0 "what cannot be filled is not left behind"

# killed while writing: in use
qemu-img create -q -f qcow2 k.qcow2 64M
img bitmap --add k.qcow2 b
truncate -s 64M k.raw
"$IMG" convert -n -f raw -O qcow2 -S 0 -r 20M k.raw k.qcow2 &
victim=$!
tries=0
until qemu-img info -U k.qcow2 | grep -q in-use || [ $tries -gt 100 ]; do
    tries=$((tries + 1))
    sleep 0.05
done
kill -9 $victim
wait $victim 2>/dev/null
is "$(qemu-img info k.qcow2 | grep -c in-use)" 1 "killed: the bitmap stays in use"
run img bitmap --clear k.qcow2 b
has "$err" "Bitmap 'b' is inconsistent and cannot be used" "and is not believed"
img convert -n -f raw -O qcow2 -S 0 r.raw k.qcow2
is "$(qemu-img info k.qcow2 | grep -c in-use)" 1 "nor does a clean close make it valid"

# tables that say what they may not
for entry in 0000000000000003 0000000000000200 00ffffffffff0000 8000000000010000; do
    qemu-img create -q -f qcow2 h.qcow2 1M
    qemu-img bitmap --add h.qcow2 b
    table=$(perl -e '
        open my $f, "<:raw", "h.qcow2" or die; read $f, my $d, 65536;
        my $p = unpack "N", substr $d, 100, 4;
        while ((my ($type, $length) = unpack "NN", substr $d, $p, 8)[0] != 0x23852875) { $p += 8 + ($length + 7 & ~7); }
        seek $f, unpack("Q>", substr $d, $p + 24, 8), 0; read $f, $d, 8; print unpack "Q>", $d')
    poke h.qcow2 "$table" "$(echo $entry | sed 's/../\\x&/g')"
    run img bitmap --list h.qcow2 b
    has "$status $err" "1 img: Operation list on bitmap b failed: Bitmap 'b': table entry 0 (0x" "entry $entry is refused"
    check "and removed" "$IMG" bitmap --remove h.qcow2 b
    check "without harm" qemu-img check -q h.qcow2
done
done_testing
