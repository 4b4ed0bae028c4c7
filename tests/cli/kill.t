#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Everything that changes an image, killed at every write: the image opens, both checks find nothing corrupt, the disk
# is as it was or as it is to be, and what must not change has not. KILLS=all (make kill) takes every moment of each,
# else there are a few. What a power cut leaves is tests/crash/.
. "$(dirname "$0")/lib.sh"

io() { qemu-io -f qcow2 "$@" >/dev/null || echo "# qemu-io failed: $*"; }
printf abc >abc
printf new >new
key='' snapshots='' goes='' # how `img` opens the image; the snapshots that it has; one that may be gone

# start OPTION...: the image x in a new folder `before`
start() {
    rm -rf before
    mkdir before
    (cd before && qemu-img create -q -f qcow2 "$@")
    key='' snapshots='' goes=''
}
loop() {
    rm -f before.raw after.raw
    killed_everywhere "$@"
}

# ---- what must hold; each says what does not ----

wrong() {
    echo "$*"
    return 1
}

sound() {
    for check in "$IMG" qemu-img; do
        status=0
        "$check" check -f qcow2 x >check.out 2>&1 || status=$?
        case $status in 0 | 3) ;; *) wrong "$check check ends with $status: $(head -n 3 check.out)" || return 1 ;; esac
    done
}

size() { "$IMG" info --output=json "$1" | sed -n 's/^    "virtual-size": \([0-9]*\).*/\1/p'; }
# same FOLDER: size and content are what they are there
same() {
    [ -e "../$1.raw" ] || (cd "../$1" && "$IMG" convert $key -O raw x "../$1.raw")
    [ "$(size x)" = "$(size "../$1/x")" ] && "$IMG" compare -q $key x -F raw "../$1.raw"
}
either() { same before || same after || wrong "the disk is neither as before nor as after"; }

old_snapshots() {
    for s in $snapshots; do
        if "$IMG" compare -q --snapshot="$s" x --b-snapshot="$s" ../before/x 2>compare.out; then continue; fi
        [ "$s" = "$goes" ] && ! "$IMG" snapshot info x "$s" >/dev/null 2>&1 && continue
        wrong "snapshot $s has changed: $(cat compare.out)" || return 1
    done
}

whole() { sound && either && old_snapshots; }

# What there is of bitmaps and all that they say.
bitmaps() {
    "$IMG" info --output=json "$1" | perl -MJSON::PP -e 'undef $/;
        print map { "$_->{name} $_->{granularity} @{$_->{flags}}\n" } @{decode_json(<STDIN>)->{"format-specific"}{data}{bitmaps}}' |
        while read -r name more; do
            echo "$name $more: $("$IMG" bitmap --list "$1" "$name" 2>&1 | tr '\n' ' ')"
        done
}
# The disk does not change; the bitmaps do as a whole.
bitmaps_whole() {
    sound && either || return 1
    now=$(bitmaps x)
    [ "$now" = "$(bitmaps ../before/x)" ] || [ "$now" = "$(bitmaps ../after/x)" ] || wrong "the bitmaps are $now"
}
# The disk changes, sector by sector; enabled bitmaps say so or are in use, others stay as they were.
bitmaps_honest() {
    sound && "$IMG" convert -O raw x ../now.raw && same before >/dev/null
    same after >/dev/null
    perl -e 'for (@ARGV) { open my $f, "<:raw", $_ or die; read $f, my $d, 1 << 30; push @d, $d; }
        for (my $i = 0; $i < length $d[0]; $i += 512) { my $s = substr $d[0], $i, 512;
            die "the sector at $i was never written\n" if $s ne substr($d[1], $i, 512) && $s ne substr($d[2], $i, 512); }' \
        ../now.raw ../before.raw ../after.raw 2>&1 || return 1
    bitmaps x >now
    bitmaps ../before/x >was
    bitmaps ../after/x >later
    [ "$(grep '^off' now)" = "$(grep '^off' was)" ] || wrong "$(grep '^off' now), although it is disabled" || return 1
    grep -q '^on.*in-use' now || { cmp -s now was && same before; } || { cmp -s now later && same after; } ||
        wrong "the bitmaps are valid and not complete: $(cat now)"
}

# Opens with the old or the new passphrase, and the slots in use are before's or after's.
opens() {
    [ "$format" = luks ] || sound || return 1
    for key in "--key-file=$work/abc" "--key-file=$work/new"; do
        "$IMG" compare -q $key -f "$format" x -F raw ../content.raw 2>compare.out && return 0
    done
    wrong "no passphrase opens it to the old content: $(cat compare.out)"
}

# ---- features ----

start -o compat=0.10,cluster_size=4k x 1M
io -c 'write -P 1 0 300k' before/x
qemu-img snapshot -c a before/x
io -c 'write -P 2 100k 300k' before/x
qemu-img snapshot -c another-name before/x
snapshots='a another-name'
loop "amend compat=1.1" whole "$IMG" amend -o compat=1.1 x
loop "amend compat=1.1, refcount_bits, lazy_refcounts" whole "$IMG" amend -o compat=1.1,refcount_bits=32,lazy_refcounts=on x
start -o cluster_size=4k x 1M
io -c 'write -P 1 0 300k' -c 'write -z 100k 50k' -c 'write -z 600k 64k' before/x
loop "amend compat=0.10" whole "$IMG" amend -o compat=0.10 x
loop "amend lazy_refcounts=on" whole "$IMG" amend -o lazy_refcounts=on x
loop "amend refcount_bits=1" whole "$IMG" amend -o refcount_bits=1 x
loop "amend size=2M" whole "$IMG" amend -o size=2M x
loop "amend size=256k" whole "$IMG" amend -o size=256k x
qemu-img snapshot -c a before/x
io -c 'write -P 2 50k 100k' before/x
snapshots=a
loop "amend refcount_bits=64 with a snapshot" whole "$IMG" amend -o refcount_bits=64 x
start -o lazy_refcounts=on,data_file=d.raw x 1M
(cd before && io -c 'write -P 1 0 300k' x && cp d.raw other.raw)
loop "amend lazy_refcounts=off" whole "$IMG" amend -o lazy_refcounts=off x
loop "amend data_file" whole "$IMG" amend -o data_file=other.raw x

# ---- snapshots ----

start -o cluster_size=1k x 1M
io -c 'write -P 1 0 300k' before/x
qemu-img snapshot -c a before/x
io -c 'write -P 2 100k 300k' before/x
qemu-img snapshot -c b before/x
io -c 'write -P 3 50k 100k' -c 'discard 200k 50k' before/x
snapshots='a b'
loop "snapshot -c" whole "$IMG" snapshot -c c x
loop "snapshot -a" whole "$IMG" snapshot -a a x
goes=a
loop "snapshot -d of the first" whole "$IMG" snapshot -d a x
goes=b
loop "snapshot -d of the last" whole "$IMG" snapshot -d b x
goes=
loop "resize up with snapshots" whole "$IMG" resize -q x 9M
loop "resize down with snapshots" whole "$IMG" resize -q --shrink x 200k

# ---- chains ----

start -o cluster_size=4k base 1M
(
    cd before || exit
    io -c 'write -P 1 0 600k' base
    qemu-img create -q -f qcow2 other 1M
    io -c 'write -P 1 0 300k' -c 'write -P 4 500k 300k' other
    qemu-img create -q -f qcow2 -o cluster_size=4k -b base -F qcow2 x
    io -c 'write -P 2 100k 100k' -c 'write -z 300k 50k' x
)
loop "rebase" whole "$IMG" rebase -b other -F qcow2 x
loop "rebase onto nothing" whole "$IMG" rebase -b '' x
base_sound() { whole && qemu-img check -q base >check.out 2>&1 || [ $? = 3 ] || wrong "the base: $(cat check.out)"; }
loop "commit" base_sound "$IMG" commit -q x
loop "resize up over a longer base" whole "$IMG" resize -q --shrink x 400k

# ---- bitmaps ----

start -o cluster_size=1k x 1M
qemu-img bitmap --add -g 1k before/x on
io -c 'write -P 1 0 300k' before/x
qemu-img bitmap --add -g 4k --disable before/x off
qemu-img bitmap --merge on before/x off
io -c 'write -P 2 700k 30k' before/x
loop "bitmap --add" bitmaps_whole "$IMG" bitmap --add -g 512 x new
loop "bitmap --remove" bitmaps_whole "$IMG" bitmap --remove x on
loop "bitmap --clear" bitmaps_whole "$IMG" bitmap --clear x on
loop "bitmap --enable" bitmaps_whole "$IMG" bitmap --enable x off
loop "bitmap --disable" bitmaps_whole "$IMG" bitmap --disable x on
loop "bitmap --merge" bitmaps_whole "$IMG" bitmap --merge on x off
loop "resize up with bitmaps" bitmaps_whole "$IMG" resize -q x 9M
loop "resize down with bitmaps" bitmaps_whole "$IMG" resize -q --shrink x 200k
qemu-img snapshot -c a before/x
snapshots=a
loop "resize up with bitmaps and a snapshot" bitmaps_whole "$IMG" resize -q x 9M
loop "a guest that writes under bitmaps" bitmaps_honest "$IMG" io \
    -c 'write -P 7 0 100k' -c 'write -z 200k 10k' -c flush -c 'write -P 8 500k 3k' -c 'discard 700k 10k' x

# ---- key slots ----

secrets="--object secret,id=s0,file=$work/abc --object secret,id=n,file=$work/new --key s0"
printf 'some content that is longer than nothing' >content.raw
truncate -s 256k content.raw
sound() {
    status=0
    "$IMG" check -f qcow2 x >check.out 2>&1 || status=$?
    case $status in 0 | 3) ;; *) wrong "the check ends with $status: $(head -n 3 check.out)" || return 1 ;; esac
    for file in abc new; do
        status=0
        qemu-img check --object "secret,id=s0,file=$work/$file" --image-opts \
            driver=qcow2,encrypt.key-secret=s0,file.filename=x >check.out 2>&1 || status=$?
        case $status in 0 | 3) return 0 ;; esac
    done
    wrong "qemu-img check ends with $status: $(head -n 3 check.out)"
}
for format in luks qcow2; do
    [ $format = luks ] && p='' || p=encrypt.
    start -o cluster_size=4k nothing 1M
    # shellcheck disable=SC2086 # several options
    img convert $secrets -O $format -o "${p:+encrypt.format=luks,}${p}key-secret=s0,${p}iter-time=1,${p}cipher-alg=aes-128" \
        content.raw before/x
    new="${p}state=active,${p}new-secret=n,${p}iter-time=1"
    # shellcheck disable=SC2086
    loop "a key is added ($format)" opens "$IMG" amend -f $format $secrets -o "$new,${p}keyslot=6" x
    # shellcheck disable=SC2086
    (cd before && img amend -f $format $secrets -o "$new" x)
    # shellcheck disable=SC2086
    loop "a key is removed ($format)" opens "$IMG" amend -f $format $secrets -o "${p}state=inactive,${p}old-secret=s0" x
    run img map --output=json -f $format --key-file=abc after/x
    is "$status" 1 "... and opens it no more"
    run img map --output=json -f $format --key-file=new after/x
    is "$status" 0 "... while the other does"
done
done_testing
