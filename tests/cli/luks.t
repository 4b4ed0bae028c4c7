#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Encrypted volumes inside disks: headers by cryptsetup, sectors by qemu-img or by OpenSSL alone; LVM in LUKS and LUKS in
# LVM; headers that must not be believed.
. "$(dirname "$0")/lib.sh"
volumes=${IMG_BUILD:-$top/build}/tests/tools/volumes
py=$top/tests/cli/volumes.py

new() { rm -f "$1" && truncate -s "$2" "$1"; }
ours() { "$volumes" -f raw "$@"; }
uuid=12345678-1234-4321-8765-123456789abc
opened=/dev/mapper/luks-$uuid
printf 'open sesame' >key
printf 'another' >key2
# format DISK OPTIONS...: fast on purpose
format() {
    disk=$1
    shift
    cryptsetup luksFormat -q --uuid $uuid --pbkdf-force-iterations "${iterations:-1000}" "$@" "$disk" key
}
pattern plain 3000

# ---- version 1, whose sectors qemu-img writes ----

patient qemu-img create -q -f luks --object secret,id=s,file=key -o key-secret=s,iter-time=10 q.luks 8M
patient qemu-img convert -n -f raw --object secret,id=s,file=key --target-image-opts plain \
    driver=luks,file.filename=q.luks,key-secret=s
ours -k 'open sesame' -c "/dev/mapper/luks-$(cryptsetup luksUUID q.luks)" q.luks | head -c 3072000 >g
check "LUKS1 by qemu-img" cmp plain g
size=$(($(stat -c %s q.luks) - 512 * $(cryptsetup luksDump q.luks | sed -n 's/Payload offset:[^0-9]*//p')))
has "$(ours -k 'open sesame' q.luks)" " crypt $size on=/dev/sda" "its size"

# ---- all kinds, whose sectors OpenSSL writes ----

# filled DISK CIPHER SECTOR: writes the plain text into the payload
filled() {
    cryptsetup luksDump -q --dump-volume-key --key-file key --volume-key-file vk "$1" >/dev/null
    cryptsetup luksDump "$1" >dump
    at=$(sed -n 's/Payload offset:[^0-9]*//p' dump)
    [ -n "$at" ] && at=$((at * 512)) || at=$(sed -n 's/^[[:space:]]*offset: \([0-9]*\) \[bytes\].*/\1/p' dump | head -n 1)
    "$py" encrypt vk "$2" "$3" <plain >sectors
    dd if=sectors of="$1" bs=4096 seek=$((at / 4096)) conv=notrunc status=none
    rm -f vk
}
kinds='luks1 aes-xts-plain64 512 -s 512
luks1 aes-cbc-essiv:sha256 512 -s 256
luks1 aes-cbc-plain64 512 -s 128
luks1 aes-xts-plain 512 -s 256
luks2 aes-xts-plain64 512 --pbkdf pbkdf2 --sector-size 512
luks2 aes-xts-plain64 4096 --pbkdf pbkdf2 --sector-size 4096
luks2 aes-cbc-essiv:sha256 2048 --pbkdf pbkdf2 --sector-size 2048 -s 256
luks2 aes-cbc-plain64 512 --pbkdf pbkdf2 --sector-size 512 -s 192'
echo "$kinds" | while read -r type cipher sector options; do
    n=$type-$cipher-$sector
    new l 24M
    # shellcheck disable=SC2086
    if ! format l --type "$type" -c "$cipher" $options 2>err; then
        echo "skip $n: cryptsetup does not make it here ($(head -n 1 err))"
        continue
    fi
    filled l "$cipher" "$sector" 2>/dev/null
    ours -k wrong -k 'open sesame' -c $opened l | head -c 3072000 >g
    if cmp -s plain g; then echo "good $n"; else echo "bad $n"; fi
    # in pieces that are not sectors
    ours -k 'open sesame' -w $opened l <key2
    ours -k 'open sesame' -c $opened l | head -c 3072000 >g
    { cat key2; tail -c +8 plain; } >w
    if cmp -s w g; then echo "good $n written"; else echo "bad $n written"; fi
done >results
while read -r word what; do
    case $word in
    skip) skip "a cipher" "$what" ;;
    *) is "$word" good "$what" ;;
    esac
done <results
[ "$(grep -c good results)" -ge 8 ]
ok $? "most of them"

iterations=4
new argon 24M
format argon --type luks2 --pbkdf argon2id --pbkdf-memory 64 --pbkdf-parallel 2 --sector-size 512 --label root
filled argon aes-xts-plain64 512
iterations=
cryptsetup luksAddKey -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file key argon key2
for k in 'open sesame' another; do
    ours -k "$k" -c $opened argon | head -c 3072000 >g
    check "Argon2, a second slot: $k" cmp plain g
done
is "$(ours -k "$(cat key)" -n UUID=$uuid argon)" /dev/sda "the UUID is the container's"
is "$(ours argon)" "/dev/sda disk 25165824 type=crypto_LUKS label=root uuid=$uuid" "without a key it stays closed"
run ours -k wrong argon
has "$out" "note: No key that was given opens /dev/sda" "so it does with a wrong one"
cp argon before
ours -k 'open sesame' argon >/dev/null
check "nothing changes by looking" cmp argon before
cp argon second
poke second 600 '\377\377\377' # the first header's text
ours -k 'open sesame' -c $opened second | head -c 3072000 >g
check "the second header stands in for the first" cmp plain g
if [ "$(id -u)" = 0 ]; then
    chmod 644 argon
    cp "$volumes" tool
    chmod 755 tool
    setpriv --reuid=65534 --regid=65534 --clear-groups ./tool -f raw -k 'open sesame' -c $opened argon 2>err | head -c 3072000 >g
    check "an ordinary user can do it" cmp plain g
fi

# ---- in partitions, in and under LVM ----

new disk 60M
printf 'label: gpt\nstart=2048, size=49152\nstart=51200, size=40960\n' | sfdisk -q disk
dd if=argon of=disk bs=1M seek=1 conv=notrunc status=none
is "$(ours -k 'open sesame' disk | awk '$2 == "crypt" { print $1, $4 }')" "$opened on=/dev/sda1" "in a partition"
l=$(losetup -f --show plain 2>/dev/null) && losetup -d "$l"
if [ -n "$l" ] && command -v pvcreate >/dev/null; then
    # a physical volume with one logical volume, written into LUKS
    new pv 8M
    l=$(losetup -f --show pv)
    device=$l
    mkdir locks
    conf="devices { dir=\"/dev\" scan=[\"/dev\"] filter=[\"a|^$l\$|\",\"r|.*|\"] use_devicesfile=0 }
        global { locking_dir=\"$work/locks\" } backup { backup=0 archive=0 } activation { udev_sync=0 udev_rules=0 }"
    lvm() {
        what=$1
        shift
        DM_DISABLE_UDEV=1 "$what" --config "$conf" --driverloaded n -q "$@" >/dev/null 2>&1
    }
    lvm pvcreate "$l"
    lvm vgcreate -s 512k inside "$l"
    lvm lvcreate -an -Zn -Wn -y -l 12 -n root inside
    losetup -d "$l"
    device=
    at=$(ours -f raw -c /dev/inside/root pv | wc -c)
    is "$at" 6291456 "LVM: the volume is there"
    new pv.swap 6M
    mkswap -q -U aaaaaaaa-0000-4000-8000-00000000000a pv.swap
    ours -w /dev/inside/root pv <pv.swap
    cp pv plain
    new ll 32M
    format ll --type luks2 --pbkdf pbkdf2 --sector-size 512
    filled ll aes-xts-plain64 512
    is "$(ours -k 'open sesame' ll | awk '{ print $1, $2, $4 }' | tail -n 3)" "$opened crypt on=/dev/sda
/dev/inside group on=$opened
/dev/inside/root logical on=/dev/inside" "LVM in LUKS"
    is "$(ours -k 'open sesame' -n UUID=aaaaaaaa-0000-4000-8000-00000000000a ll)" /dev/inside/root "down to what is in it"
    # and LUKS in a logical volume of it, in a group that is spread over both
    new inner 6M
    cryptsetup luksFormat -q --type luks1 -s 256 --uuid 99999999-1234-4321-8765-123456789abc --pbkdf-force-iterations 1000 inner key2
    ours -k 'open sesame' -w /dev/inside/root ll <inner
    is "$(ours -k 'open sesame' -k another ll | awk '{ print $1 }' | tail -n 1)" \
        /dev/mapper/luks-99999999-1234-4321-8765-123456789abc "LUKS in LVM in LUKS"
else
    skip "LVM in LUKS" "no loop devices, or no LVM, here"
fi

# ---- all the way: the tool, in its sandbox ----

mkdir d
echo hello >d/motd
new fs 8M
mkfs.ext4 -q -d d fs
ours -k 'open sesame' -w $opened disk <fs
run img cat -a disk --key "all:key:open sesame" -m $opened /motd
is "$out" hello "img cat opens it" || say "$err"
run img cat -a disk --key "$uuid:key:wrong" -m $opened /motd
is "$status" 1 "but not with another key"

# ---- what must not be believed ----

trouble() { ours -k 'open sesame' "$@" | sed -n 's/^\/dev\/sda .*trouble=//p' | sed 's/\\x20/ /g'; }
cp q.luks null
poke null 8 'cipher_null\000'
poke null 40 'ecb\000'
has "$(trouble null)" "Cipher 'cipher_null-" "a cipher that does not encrypt"
# changed NAME WANTED FROM TO: a version 2 header that says something else is refused with a word about it
new two 20M
format two --type luks2 --pbkdf pbkdf2 --sector-size 512
changed() {
    cp two odd
    "$py" luks2 odd "$3" "$4" || ok 1 "$1"
    run timeout 20 "$volumes" -f raw -k 'open sesame' odd
    has "$(echo "$out" | sed 's/\\x20/ /g')" "$2" "version 2: $1"
    is "$(echo "$out" | grep -c ' crypt ')" 0 "... and it stays closed"
}
segment='"offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512'
changed 'no cipher' "Cipher 'cipher_null" "$segment" "${segment%%aes*}cipher_null-ecb\",\"sector_size\":512"
changed 'a mode without initial vectors' "Cipher 'aes-512' in mode 'ecb'" "$segment" "${segment%%aes*}aes-ecb\",\"sector_size\":512"
changed 'data behind the end' 'The LUKS header' '"offset":"16777216"' '"offset":"99999744"'
changed 'more data than there is' 'The LUKS header has 5120000 bytes of data where there are' '"size":"dynamic"' '"size":"5120000"'
changed 'strange sectors' 'The LUKS header' '"sector_size":512' '"sector_size":768'
changed 'reencryption' "The LUKS header" '"config":{' \
    '"config":{"requirements":{"mandatory":["online-reencrypt-v2"]},'
changed 'what is not known' "The LUKS header requires 'new'" '"config":{' '"config":{"requirements":{"mandatory":["new"]},'
changed 'authentication' 'The LUKS header has segments of a kind' '"sector_size":512' \
    '"sector_size":512,"integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}'
changed 'another segment' 'The LUKS header' '"segments":{' '"segments":{"1":{"type":"linear","offset":"0","size":"512"},'
changed 'an endless digest' 'note: No key' '"hash":"sha256","iterations":' '"hash":"sha256","iterations":214748'
changed 'an endless slot' 'note: No key' '"type":"pbkdf2","hash":"sha256","iterations":' \
    '"type":"pbkdf2","hash":"sha256","iterations":214748'
changed 'too much memory' 'note: Key slot 0' '"type":"pbkdf2","hash":"sha256","iterations":1000,' \
    '"type":"argon2id","time":4,"memory":4000000,"cpus":4,'
changed 'other stripes' 'note: No key' '"stripes":4000' '"stripes":4001'
cp two odd
"$py" luks2 odd '"size":"dynamic"' '"size":"1048576"'
has "$(ours -k 'open sesame' odd)" "$opened crypt 1048576" "a size is kept to"
cp q.luks slow
for i in 0 1 2 3 4 5 6 7; do poke slow $((208 + 48 * i + 4)) '\177\377\377\377'; done
run timeout 20 "$volumes" -f raw -k 'open sesame' slow
is "$status" 0 "two milliards of iterations"
has "$out" "Key slot 0 of /dev/sda would take too long" "are not begun"
cp argon cut
truncate -s 16M cut
has "$(trouble cut)" "The LUKS header places the data at byte 16777216" "one that ends before its data"
done_testing
