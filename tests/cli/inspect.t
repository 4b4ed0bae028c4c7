#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# img inspect, filesystems, df: guests of many kinds, made of small trees without root. What the real tools print of real
# systems is in tests/samples; here are the distributions, package databases and fstabs that those do not have.
. "$(dirname "$0")/lib.sh"

# root NAME: a tree with what a Linux root must have
root() {
    rm -rf "$1"
    mkdir -p "$1/etc" "$1/bin" "$1/usr/lib" "$1/boot" "$1/srv/with space"
    echo '127.0.0.1 localhost' >"$1/etc/hosts"
    printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\267\0\1\0\0\0' >"$1/bin/sh"
}

# disk NAME [OPTION...]: its filesystem, as a whole disk
disk() {
    name=$1
    shift
    truncate -s 16M "$name.raw"
    mke2fs -q -F -t ext4 -d "$name" "$@" "$name.raw"
}

# field XPATH: a text of the last answer
field() { printf '%s\n' "$out" | img inspect --xpath "string($1)"; }

root alpine
printf 'ID=alpine\nNAME="Alpine Linux"\nPRETTY_NAME="Alpine Linux v3.19"\nVERSION_ID=3.19.1\n' >alpine/etc/os-release
echo nodename >alpine/etc/hostname
mkdir -p alpine/lib/apk/db
printf 'P:musl\nV:1.2.4-r2\nA:x86_64\nT:the <c> library\nU:https://musl/\n\nP:busybox\nV:1.36.1-r15\n' >alpine/lib/apk/db/installed
disk alpine
run img inspect -a alpine.raw
is "$status-$err" 0- "Alpine Linux is inspected"
is "$(field //distro) $(field //major_version).$(field //minor_version) $(field //arch) $(field //hostname)" \
    "alpinelinux 3.19 aarch64 nodename" "... distribution, version, processor, name"
is "$(field '//application[1]/name') $(field '//application[2]/description') $(field '//application[2]/release')" \
    "busybox the <c> library 2" "... packages of apk, sorted"
is "$(field //package_format) $(field //package_management) $(field //osinfo)" "apk apk alpinelinux3.19" "... what follows"
run img inspect -a alpine.raw --output=json
check "the same as JSON" python3 - "$work/.out" <<'PYTHON'
import json, sys
(root,) = json.load(open(sys.argv[1]))
assert root['distro'] == 'alpinelinux' and root['major-version'] == 3 and root['minor-version'] == 19
assert [a['name'] for a in root['applications']] == ['busybox', 'musl']
assert root['mountpoints'] == [{'path': '/', 'device': '/dev/sda'}]
PYTHON

root arch
printf 'ID=arch\nPRETTY_NAME="Arch Linux"\nBUILD_ID=rolling\n' >arch/etc/os-release
: >arch/etc/arch-release
mkdir -p arch/var/lib/pacman/local/zlib-1
printf '%%NAME%%\nzlib\n\n%%VERSION%%\n1:1.3-2\n\n%%ARCH%%\nx86_64\n' >arch/var/lib/pacman/local/zlib-1/desc
echo 9 >arch/var/lib/pacman/local/ALPM_DB_VERSION
disk arch
run img inspect -a arch.raw
is "$(field //distro) $(field //osinfo) $(field //build_id) $(field //application/epoch):$(field //application/version)-$(field //application/release)" \
    "archlinux archlinux rolling 1:1.3-2" "Arch Linux, packages of pacman"

root suse
printf 'SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 3\n' >suse/etc/SuSE-release
disk suse
run img inspect -a suse.raw
is "$(field //distro) $(field //osinfo) $(field //package_management)" "sles sles11sp3 zypper" "SUSE by its old file"
is "$status" 0 "a guest without its package database is inspected"
has "$err" "There is no database of rpm" "... and that is said"

root centos
echo 'CentOS release 6.10 (Final)' >centos/etc/centos-release
ln -s centos-release centos/etc/redhat-release
printf 'NETWORKING=yes\nHOSTNAME="old.example.com"\n' >centos/etc/sysconfig-network
mkdir centos/etc/sysconfig && mv centos/etc/sysconfig-network centos/etc/sysconfig/network
disk centos
run img inspect -a centos.raw --no-applications
is "$(field //distro) $(field //osinfo) $(field //package_management) $(field //hostname)" \
    "centos centos6.10 yum old.example.com" "CentOS before os-release"
is "$err" "" "without applications nobody asks for them"

# ---- rpm's database in SQLite, its last transaction in the log alone ----
root fedora
printf 'ID=fedora\nPRETTY_NAME="Fedora Linux 39"\nVERSION_ID=39\n' >fedora/etc/os-release
mkdir -p fedora/usr/lib/sysimage/rpm
if python3 - fedora/usr/lib/sysimage/rpm/rpmdb.sqlite <<'PYTHON'
import os, shutil, sqlite3, struct, sys
def header(name, size):
    data = name.encode() + b'\0' + b'1.0\0' + b'2.fc39\0' + b'd' * size + b'\0'
    at, entries = 0, b''
    for tag, length in ((1000, len(name) + 1), (1001, 4), (1002, 7), (1005, size + 1)):
        entries += struct.pack('>4I', tag, 6, at, 1)
        at += length
    return struct.pack('>2I', 4, len(data)) + entries + data
path = sys.argv[1]
db = sqlite3.connect(path)
db.execute('PRAGMA journal_mode=WAL')
db.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
db.executemany('INSERT INTO Packages (blob) VALUES (?)', [(header('pkg%04d' % i, i * 37 % 20000),) for i in range(600)])
db.commit()
db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
db.execute('INSERT INTO Packages (blob) VALUES (?)', (header('logged', 30000),))
db.execute('DELETE FROM Packages WHERE hnum = 1')
db.commit()
for end in '', '-wal':                    # as a power cut leaves them
    shutil.copy(path + end, path + end + '.copy')
db.close()
for end in '', '-wal':
    os.replace(path + end + '.copy', path + end)
PYTHON
then
    rm -f fedora/usr/lib/sysimage/rpm/rpmdb.sqlite-shm
    truncate -s 64M fedora.raw
    mke2fs -q -F -t ext4 -d fedora fedora.raw
    run img inspect -a fedora.raw
    is "$status-$err" 0- "rpm's database in SQLite is read"
    is "$(field 'count(//application)') $(field '//application[1]/name') $(field 'string-length(//application[1]/description)')" \
        "600 logged 30000" "... all of it, with what is in its log"
    is "$(field '//application[2]/name') $(field '//application[2]/release')" "pkg0001 2.fc39" "... without what was removed"
else
    skip "rpm's database in SQLite" "python3 has no sqlite3"
fi

# ---- partitions: names in fstab ----
# two filesystems in a GPT, with these lines as fstab
partitioned() {
    root p
    printf 'ID=debian\nPRETTY_NAME=Debian\nVERSION_ID=13\n' >p/etc/os-release
    echo 13.1 >p/etc/debian_version
    cat >p/etc/fstab
    mkdir -p boot/grub2 && : >boot/grub2/grub.cfg
    rm -f p.raw part?.raw
    truncate -s 16M part1.raw
    truncate -s 4M part2.raw
    truncate -s 24M p.raw
    mke2fs -q -F -t ext4 -d p -U 11111111-0000-4000-8000-000000000001 -L the-root part1.raw
    mke2fs -q -F -t ext4 -d boot -U 11111111-0000-4000-8000-000000000002 part2.raw
    sfdisk -q p.raw <<'TABLE'
label: gpt
start=2048, size=32768, uuid=22222222-0000-4000-8000-000000000001, name="root part"
start=34816, size=8192, uuid=22222222-0000-4000-8000-000000000002, name=boot
TABLE
    dd if=part1.raw of=p.raw bs=1M seek=1 conv=notrunc status=none
    dd if=part2.raw of=p.raw bs=1M seek=17 conv=notrunc status=none
}
mounts() {
    img inspect --no-applications -a "$1" --output=json 2>/dev/null |
        python3 -c 'import json, sys; print(*(m["path"] + "=" + m["device"] for m in json.load(sys.stdin)[0]["mountpoints"]))'
}
names='UUID=11111111-0000-4000-8000-000000000002
UUID="11111111-0000-4000-8000-000000000002"
PARTUUID=22222222-0000-4000-8000-000000000002
PARTLABEL=boot
/dev/vda2
/dev/xvda2
/dev/sda2
/dev/disk/by-uuid/11111111-0000-4000-8000-000000000002
/dev/disk/by-partuuid/22222222-0000-4000-8000-000000000002
/dev/disk/by-partlabel/boot
/dev/disk/by-id/virtio-serial-part2
/dev/disk/by-path/pci-0000:00:04.0-part2'
number=0
for name in $names; do
    echo "$name /m$number ext4 defaults 0 2"
    number=$((number + 1))
done | partitioned
found=" $(mounts p.raw) "
number=0
for name in $names; do
    has "$found" " /m$number=/dev/sda2 " "fstab: $name"
    number=$((number + 1))
done
printf 'LABEL=the-root / ext4\nPARTLABEL=boot /srv/with\\040space ext4\nUUID=no-such /boot ext4\n/dev/sr0 /srv iso9660\n' | partitioned
is "$(mounts p.raw)" "/=/dev/sda1 /srv/with space=/dev/sda2" "fstab: a blank in a path, what is not here"
run img ls -a p.raw '/srv/with space'
is "$status-$out" "0-grub2
lost+found" "a guest is mounted as its fstab says"
printf 'PARTLABEL=boot /no/such/folder ext4\n' | partitioned
run img ls -a p.raw /etc
is "$status" 0 "a mount point that is not there does no harm"
has "$err" "/no/such/folder" "... and is said"

# a mapping that only crypttab knows
root c
echo 'data UUID=33333333-0000-4000-8000-000000000001 none luks' >c/etc/crypttab
echo '/dev/mapper/data /srv ext4' >c/etc/fstab
disk c
qemu-img convert -O luks --object secret,id=s,data=open -o key-secret=s,iter-time=10 part2.raw luks.raw
cryptsetup luksUUID luks.raw --uuid 33333333-0000-4000-8000-000000000001 -q
run img ls --format=raw -a c.raw -a luks.raw --key all:key:open /srv
is "$status-$out" "0-grub2
lost+found" "fstab: a name of crypttab"

run img filesystems -a p.raw --all -l --uuid --output=json
check "img filesystems as JSON" python3 - "$work/.out" <<'PYTHON'
import json, sys
rows = json.load(open(sys.argv[1]))
assert [(r['name'], r['type']) for r in rows] == [('/dev/sda1', 'filesystem'), ('/dev/sda2', 'filesystem'),
                                                  ('/dev/sda1', 'partition'), ('/dev/sda2', 'partition'), ('/dev/sda', 'device')]
assert rows[0]['label'] == 'the-root' and rows[0]['vfs'] == 'ext4' and rows[2]['parent'] == '/dev/sda'
PYTHON
run img df -a p.raw --output=json
check "img df as JSON" python3 - "$work/.out" <<'PYTHON'
import json, sys
rows = json.load(open(sys.argv[1]))
assert [r['filesystem'] for r in rows] == ['/dev/sda1', '/dev/sda2'] and rows[0]['size'] > rows[0]['free'] > 0
PYTHON
cp p.raw a-name-that-is-longer-than-the-column.raw
run img df -a a-name-that-is-longer-than-the-column.raw
has "$out" "column.raw:/dev/sda1
                                    " "img df: a long name has a line of its own"

# ---- a /usr of its own ----
root u
mv u/usr usr && mkdir u/usr
mkdir -p usr/bin usr/local usr/share usr/lib
printf 'ID=ubuntu\nPRETTY_NAME="Ubuntu 22.04"\nVERSION_ID="22.04"\n' >usr/lib/os-release
ln -s ../usr/lib/os-release u/etc/os-release
echo '/dev/vdb /usr ext4' >u/etc/fstab
disk u
disk usr
run img inspect --no-applications -a u.raw -a usr.raw
is "$(field 'count(//operatingsystem)') $(field //distro) $(field '//mountpoint[2]/@dev')" "1 ubuntu /dev/sdb" "a /usr of its own"

# ---- none, several, hostile ----
run img inspect -a usr.raw
is "$status-$out" '0-<?xml version="1.0"?>
<operatingsystems/>' "no system: an empty list"
run img inspect --no-applications -a alpine.raw -a arch.raw
is "$(field 'count(//operatingsystem)')" 2 "two systems are shown"
run img ls -a alpine.raw -a arch.raw /
is "$status" 1 "... but not mounted"
has "$err" "multi-boot operating systems are not supported" "... and why"

root evil
printf 'ID=debian\nVERSION_ID=99999999999999999999\nPRETTY_NAME="a\033[31m\001<&>\302\233\377"\n' >evil/etc/os-release
head -c 2000000 /dev/zero | tr '\0' x >evil/etc/hostname
ln -s evil evil/etc/crypttab
printf '/dev/sda\n\n\\999 \\ \n/dev/sda /x\n' >evil/etc/fstab
mkdir -p evil/var/lib/dpkg
printf 'Package: a\nStatus: install ok installed\nVersion: 1\nDescription: \033[31m\n \000\n' >evil/var/lib/dpkg/status
disk evil -L "$(printf 'l\033[31m')"
run img inspect -a evil.raw
is "$status" 0 "a hostile guest is inspected"
check "... as XML" img inspect --xpath '/' <"$work/.out"
is "$(printf %s "$out" | tr -d '\n\t -~' | od -An -tx1 | tr -d ' \n' | sed 's/efbfbd//g')" "" "... without what changes a terminal"
run img filesystems -a evil.raw -l
is "$(printf %s "$out" | tr -d '\n\t -~')" "" "... neither in the list of filesystems"

# ---- a file that ends in the middle, since a block of it is not on the disk ----
root cut
printf 'ID=debian\nVERSION_ID="12"\n' >cut/etc/os-release
{ echo '/dev/sda /srv ext2 defaults 0 0' && yes '# a line of an fstab' | head -n 200; } >cut/etc/fstab
disk cut -O '^has_journal,^extents,^64bit,^metadata_csum' -b 1024
debugfs -w -R 'set_inode_field /etc/fstab block[1] 99999999' cut.raw 2>/dev/null
run img inspect -a cut.raw
is "$status-$(field //distro)-$(field 'count(//mountpoint)')" 0-debian-1 "of a file that cannot be read in full nothing counts"

# ---- wrong command lines ----
for command in inspect filesystems df; do
    run img "$command"
    is "$status-$out" 1- "img $command alone fails"
    run img "$command" -a alpine.raw extra
    is "$status" 1 "img $command takes no argument"
    run img "$command" -a nosuch.raw
    is "$status-$out" 1- "img $command of no disk fails"
    run img "$command" -a alpine.raw --format=raw
    is "$status" 1 "img $command: --format comes before -a"
done
for command in filesystems df; do
    run img "$command" -a alpine.raw --csv -h
    is "$status-$out" 1- "img $command: not --csv and -h"
done
run img inspect --xpath '//[' <<<'<a/>'
is "$status" 1 "what is no XPath expression"
run img inspect --xpath / <<<'no XML'
is "$status" 1 "what is no XML"
run img inspect --xpath '//a | //@b' <<<'<x><a>1</a><c b="2"/></x>'
is "$out" "<a>1</a>
2" "nodes and attributes"
run img inspect --xpath 'string(/x)' <<<'<!DOCTYPE x [<!ENTITY e SYSTEM "/etc/passwd">]><x>&e;</x>'
is "$out" "" "no file of the host gets in"
done_testing
