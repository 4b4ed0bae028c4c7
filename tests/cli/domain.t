#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Guests by the names of libvirt's domains, whose descriptions lie in a folder: here in that of a user's own domains.
. "$(dirname "$0")/lib.sh"

# domain FILE DISK [MORE]: a description with one disk
domain() {
    cat >"$1" <<XML
<domain type='kvm'><name>x</name><devices>
  <disk type='file' device='cdrom'><source file='/nosuch'/></disk>
  <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$2'/>${3:-}</disk>
</devices></domain>
XML
}

# ---- sectors ----
# an MBR by hand: type 83, 1000 sectors from sector 256
truncate -s 40M big
printf '\0\0\0\0\203\0\0\0\0\001\0\0\350\003\0\0' | dd of=big bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of=big bs=1 seek=510 conv=notrunc status=none
domain big.xml "$work/big" "<blockio logical_block_size='4096' physical_block_size='4096'/>"
run img filesystems --partitions --long -d "$work/big.xml"
is "$status:$err" "0:" "a disk with sectors of 4096 bytes"
is "$(awk 'NR > 1 { print $1, $4 }' .out)" "/dev/sda1 4096000" "its partition"

# ---- the old command lines of libguestfs' tools: disks, or a domain, without an option ----
disk=$top/tests/samples/debian-mbr.qcow2
cp "$disk" debian.qcow2
for name in virt-cat virt-ls virt-df virt-inspector; do
    ln -s "$IMG" $name
    case $name in
    virt-cat) last=/etc/hostname ;;
    virt-ls) last=/etc ;;
    *) last= ;;
    esac
    # shellcheck disable=SC2086
    ./$name -a debian.qcow2 $last >want
    # shellcheck disable=SC2086
    run ./$name debian.qcow2 $last
    is "$status:$err" "0:" "$name DISK"
    check "... as with -a" cmp want .out
done
run ./virt-cat nosuch /etc/hostname
has "$err" "domain 'nosuch'" "what is no file is a domain"
run img cat debian.qcow2 /etc/hostname
is "$status" 1 "img itself wants the option"

# ---- all domains ----
export XDG_CONFIG_HOME=$work
mkdir -p libvirt/qemu
qemu-img convert -O raw "$disk" raw
domain libvirt/qemu/one.xml "$work/raw"
domain libvirt/qemu/two.xml "$work/raw"
domain libvirt/qemu/three.xml "$work/nosuch"
run img df -c qemu:///session
is "$status" 1 "df of all domains, one of which has lost its disk"
has "$err" "nosuch" "which is said"
(img df -d one -c qemu:///session && img df -d two -c qemu:///session | tail -n +2) >want
check "the others are there" cmp want .out
img df -c qemu:///session --output=json 2>/dev/null | sed 's/"one"/"two"/' >.out
is "$(grep -c '"guest": "two"' .out)" "$(($(wc -l <want) - 1))" "and as JSON"
check "which is one list" python3 -m json.tool .out

# ---- options of guestfish ----
echo text >h1
mkdir out
run img copy-out --ro -i -a debian.qcow2 /etc/hostname out
is "$status:$err:$(ls out)" "0::hostname" "copy-out with --ro -i"
run img tar-out -r -a debian.qcow2 /etc t.tar
is "$status:$err" "0:" "tar-out with -r"
sum=$(sha256sum <debian.qcow2)
run img copy-in --ro -a debian.qcow2 h1 /root
is "$status:$err:$(sha256sum <debian.qcow2)" "1:img: --ro: the disks would have to be written:$sum" "copy-in with --ro"
run img copy-in -U -a debian.qcow2 h1 /root
is "$status:$(sha256sum <debian.qcow2)" "1:$sum" "copy-in with -U"
run img copy-in --rw -i -a debian.qcow2 h1 /root
is "$status:$err:$(img cat -a debian.qcow2 /root/h1)" "0::text" "copy-in with --rw -i"
done_testing
