#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What reads a guest has given up its rights before; and an ordinary user, with nothing but the disk, can read one with
# every command, each of which leaves the disk as it was.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

samples=$top/tests/samples
cp "$samples/debian-mbr.qcow2" "$samples/centos-lvm.qcow2" .
chmod 644 ./*.qcow2
cp debian-mbr.qcow2 w.qcow2

# ---- the process while it reads an archive that does not come: the guest is open then ----
sandboxed=yes
case $IMG in */asan/*) sandboxed= ;; esac
# rights OPTION: what the kernel says of such a process
rights() {
    mkfifo archive
    "$IMG" tar-in "$1" -a w.qcow2 archive /root 2>err &
    pid=$!
    exec 3>archive
    for _ in $(seq 100); do
        grep -q '^Seccomp:.*2' "/proc/$pid/status" && break
        [ "$1" = --sandbox=on ] || break
        sleep 0.05
    done
    [ "$1" = --sandbox=on ] || sleep 0.3
    sed -n 's/^\(CapEff\|NoNewPrivs\|Seccomp\):[[:space:]]*/\1=/p' "/proc/$pid/status" | tr '\n' ' '
    exec 3>&-
    wait "$pid"
    rm archive
}
if [ -n "$sandboxed" ]; then
    like "$(rights --sandbox=on)" 'CapEff=0000000000000000 NoNewPrivs=1 Seccomp=2*' "no capabilities, no new ones, a filter"
    like "$(rights --sandbox=off)" '*NoNewPrivs=0 Seccomp=0*' "unless it is not wanted"
else
    skip "the process in the sandbox" "there is none under AddressSanitizer"
fi
run "$IMG" ls --sandbox=perhaps -a w.qcow2 /
is "$status" 1 "a wrong word for --sandbox"

# ---- an ordinary user ----
if [ "$(id -u)" = 0 ] && setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
    as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
    cp "$IMG" tool && chmod 755 tool
    IMG=$work/tool
    mkdir home && chown 65534:65534 home
    cp ./*.qcow2 home && chmod 444 home/*.qcow2
    cd home || exit 1
else
    as_user() { "$@"; }
fi
run as_user "$IMG" --version
if [ "$status" != 0 ]; then
    skip "an ordinary user" "cannot start the tool here: $err"
    done_testing
    exit
fi
sums=$(sha256sum ./*.qcow2)
reads() { # NAME COMMAND...: it works, and says nothing else
    what=$1
    shift
    run as_user "$IMG" "$@"
    is "$status:$err" 0: "a user: $what"
}
for disk in debian-mbr centos-lvm; do
    d=$disk.qcow2
    reads "$disk: ls" ls -lR --checksum=sha256 -a $d /
    reads "$disk: cat" cat -a $d /etc/fstab /etc/hostname
    reads "$disk: df" df -a $d
    reads "$disk: filesystems" filesystems --all --long -a $d
    reads "$disk: inspect" inspect -a $d
    reads "$disk: find" find -a $d / -name 'h*'
    reads "$disk: du" du -a $d /
    reads "$disk: tar-out" tar-out -a $d /etc etc.tar
    mkdir -p out && chmod 777 out
    reads "$disk: copy-out" copy-out -a $d /etc out
    rm -rf out
    reads "$disk: diff" diff -a $d -A $d
done
is "$(sha256sum ./*.qcow2)" "$sums" "no disk has changed by being read"
run as_user "$IMG" copy-in -a debian-mbr.qcow2 /etc/hostname /root
is "$status" 1 "what a user may not write is not written"
done_testing
