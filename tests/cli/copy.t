#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The copy engine behind convert: the same bytes for any number of threads, blocks shared where the file system can, little
# left in the page cache, and what it says when the disk is full or the source cannot be read.
. "$(dirname "$0")/lib.sh"

io() { qemu-io "$@" >/dev/null; }

# ---- any number of threads ----

# random_image NUMBER: o.N, of random clusters, in a random shape, over a backing file now and then
random_image() {
    perl -e '
        srand(my $n = shift);
        my $mib = 1 << 20;
        my $size = 512 * (1 + int rand 24 * 2048);
        my @cluster = (512, 4096, 16384, 65536, 262144);
        my @shape = ("cluster_size=$cluster[rand @cluster]", $n % 3 ? "compat=1.1" : "compat=0.10");
        push @shape, "extended_l2=on" if $n % 3 && $shape[0] =~ /65536|262144|16384/ && $n % 2;
        my @writes;
        for (1 .. 5 + rand 30) {
            my $at = 512 * int rand $size / 512;
            my $length = 512 * (1 + int rand(rand() < 0.2 ? 4096 : 200));
            $length = $size - $at if $length > $size - $at;
            my $kind = rand;
            my $byte = 1 + int rand 255;
            push @writes, "-c", $kind < 0.6 ? "write -q -P $byte $at $length"
                : $kind < 0.8 ? "write -q -z $at $length" : "write -q -P 0 $at $length" if $length;
        }
        my @base = $n % 4 ? () : ("-b", "o." . ($n - 1), "-F", "qcow2");
        print join "\n", $size, join(",", @shape), scalar @base ? join(" ", @base) : "", map { s/^-c$//r } grep { $_ ne "-c" } @writes;
    ' "$1" >recipe
    size=$(sed -n 1p recipe) options=$(sed -n 2p recipe) base=$(sed -n 3p recipe)
    # shellcheck disable=SC2086 # the backing file is two options or none
    qemu-img create -q -f qcow2 -o "$options" $base "o.$1" "$size" &&
        sed 1,3d recipe | sed 's/write -q/write/' | qemu-io "o.$1" >/dev/null
}

n=1
images=50
same=0
equal=0
while [ $n -le $images ]; do
    random_image $n || say "no image $n"
    case $((n % 5)) in
    0) target="-O raw" ;;
    1) target="-O qcow2 -c" ;;
    2) target="-O qcow2 -o extended_l2=on" ;;
    3) target="-O qcow2 -o cluster_size=4k" ;;
    4) target="-O qcow2" ;;
    esac
    for threads in 1 2 7; do
        # shellcheck disable=SC2086 # the options of a target
        img convert -m $threads $target o.$n t.$threads || say "convert -m $threads $target of image $n failed"
    done
    if cmp -s t.1 t.2 && cmp -s t.1 t.7; then same=$((same + 1)); else say "image $n ($target) differs between threads"; fi
    if qemu-img compare -q o.$n t.7; then equal=$((equal + 1)); else say "image $n ($target) is not what it was"; fi
    n=$((n + 1))
done
is "$same" "$images" "1, 2 and 7 threads write the same bytes, for $images images"
is "$equal" "$images" "  and what qemu-img finds equal"
rm -f o.* t.* recipe

# ---- copied by the host ----

pattern data 3000
truncate -s 16M a.raw
dd if=data of=a.raw bs=4k seek=3 conv=notrunc status=none
dd if=data of=a.raw bs=4k seek=2000 conv=notrunc status=none
cp a.raw odd.raw
truncate -s 15999488 odd.raw
for source in a.raw odd.raw; do
    for format in raw qcow2; do
        run img convert -C -O $format $source t
        is "$status$out$err" 0 "-C: $source to $format"
        check "  equal" qemu-img compare -q $source t
    done
done

# ---- blocks shared with the source ----

# shares FILE: how many of its extents it shares
shares() { filefrag -v "$1" | grep -c shared; }

# shared NAME SOURCE ARGUMENT...: the conversion shares blocks
shared() {
    what=$1
    source=$2
    shift 2
    run img convert "$@" "$source" t
    is "$status$out$err" 0 "$what"
    check "  shares blocks" test "$(shares t)" -gt 0
    check "  equal" qemu-img compare -q "$source" t
    case $* in *qcow2*) check "  clean" qemu-img check -q t ;; esac
    rm -f t
}

truncate -s 400M xfs
if mkdir mnt && mkfs.xfs -q -m reflink=1 xfs && mount -o loop xfs mnt 2>/dev/null; then
    mounted=$work/mnt
    cp a.raw odd.raw data mnt
    cd mnt || exit 1
    sync
    shared "raw to qcow2" a.raw -O qcow2
    shared "raw to raw" a.raw -O raw
    shared "an odd size" odd.raw -O qcow2
    shared "an odd size, raw" odd.raw -O raw
    shared "large clusters" a.raw -O qcow2 -o cluster_size=2M
    shared "past the page cache" a.raw -O raw -t none
    img convert -S 4k -O qcow2 a.raw a.qcow2
    sync
    is "$(shares a.qcow2)" 0 "-S has every byte looked at: nothing is shared"
    shared "qcow2 to raw" a.qcow2 -O raw
    shared "qcow2 to qcow2" a.qcow2 -O qcow2
    shared "with small clusters" a.qcow2 -O qcow2 -o cluster_size=4k
    qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2
    io -c 'write -P 7 100k 1M' -c 'write -P 8 9M 300k' -c 'write -z 12M 64k' over.qcow2
    sync
    shared "a chain" over.qcow2 -O qcow2
    shared "a chain, raw" over.qcow2 -O raw
    img convert -c -O qcow2 a.raw packed.qcow2
    qemu-img create -q -f qcow2 -b packed.qcow2 -F qcow2 mixed.qcow2
    io -c 'write -P 7 100k 1M' mixed.qcow2
    sync
    shared "beside compressed clusters" mixed.qcow2 -O qcow2
    qemu-img create -q -f qcow2 old.qcow2 20M
    io -c 'write -P 9 0 20M' old.qcow2
    qemu-img snapshot -c before old.qcow2
    run img convert -n -O qcow2 a.raw old.qcow2
    is "$status$out$err" 0 "-n into an image with a snapshot"
    check "  equal, and behind it as before" sh -c 'qemu-img resize -q a.raw 20M && qemu-io -c "write -q -P 9 16M 4M" a.raw &&
        qemu-img compare -q a.raw old.qcow2 && qemu-img resize -q --shrink a.raw 16M'
    check "  clean" qemu-img check -q old.qcow2
    check "  the snapshot is as it was" sh -c 'qemu-img snapshot -a before "$1" && qemu-io -r -c "read -P 9 0 20M" "$1" |
        grep -q "read 20971520/20971520" && ! qemu-io -r -c "read -P 9 0 20M" "$1" | grep -q verification' - old.qcow2
    img convert -m 1 -O qcow2 a.raw t.1
    img convert -m 7 -O qcow2 a.raw t.7
    check "the same bytes for 1 and 7 threads" cmp t.1 t.7
    cd "$work" || exit 1
    umount mnt
    mounted=
else
    skip "shared blocks" "no XFS can be mounted here"
fi
rm -f xfs

# ---- a full disk ----

if mount -t tmpfs -o size=4m none mnt 2>/dev/null; then
    mounted=$work/mnt
    for options in '-O raw' '-O qcow2' '-n -O raw'; do
        case $options in -n*) truncate -s 16M mnt/t ;; esac
        # shellcheck disable=SC2086 # options
        run img convert $options a.raw mnt/t
        is "$status" 1 "a full disk: convert $options"
        like "$err" '*No space left on device (6144000 bytes of data were to be copied, *have been)' "  says how much was needed"
        is "$(printf '%s' "$err" | wc -l)" 0 "  in one line"
        case $options in
        -n*) ;;
        *) is "$(ls mnt)" "" "  and leaves nothing" ;;
        esac
    done
    umount mnt
    mounted=
else
    skip "a full disk" "no file system can be mounted here"
fi

# ---- a source that cannot be read ----

img convert -c -O qcow2 a.raw broken.qcow2
perl -e 'open F, "+<", "broken.qcow2"; seek F, 5 * 65536, 0; print F "\xff" x 30000'
rm -f t
run img convert -O raw broken.qcow2 t
is "$status" 1 "a cluster that cannot be read"
like "$err" '*of guest offset 0 of *' "  its guest offset is told"
check "  no target" test ! -e t

# ---- the page cache ----

# cached FILE: MiB of it in the page cache
cached() { fincore -b -n -o RES "$1" | awk '{ print int($1 / 1048576) }'; }

fs=$(stat -f -c %T .)
case $fs in
ext2/ext3 | xfs)
    dd if=/dev/urandom of=large.raw bs=1M count=256 status=none
    run img convert -t writeback -O qcow2 large.raw t
    is "$status$out$err" 0 "256 MiB, durable"
    check "  at most 112 MiB of them stay in the page cache ($(cached t))" test "$(cached t)" -le 112
    check "  equal" qemu-img compare -q large.raw t
    ;;
*) skip "the page cache" "the folder of temporary files is $fs" ;;
esac

done_testing
