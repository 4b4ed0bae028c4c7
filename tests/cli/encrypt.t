#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Encrypted images in both directions with qemu-img, qemu-io and cryptsetup; secrets; headers that are wrong.
# CRYPTO_MATRIX=all (make crypto-matrix) takes every cipher, mode, hash and format instead of a sample.
. "$(dirname "$0")/lib.sh"

secret=--object=secret,id=s0,data=abc
printf abc >abc
printf abd >abd

# opts FILE FORMAT: how QEMU opens it
opts() {
    case $2 in
    luks) echo "driver=luks,key-secret=s0,file.filename=$1" ;;
    *) echo "driver=qcow2,encrypt.key-secret=s0,file.filename=$1" ;;
    esac
}

# both_ways FORMAT OPTIONS: what one tool makes the other reads
both_ways() {
    run img convert $secret -O "$1" -o "$2" a.raw ours
    is "$status$out$err" 0 "convert -O $1 -o $2"
    check "  qemu-img reads it" qemu-img compare -q $secret --image-opts "$(opts ours "$1")" driver=raw,file.filename=a.raw
    [ "$1" = luks ] || check "  and finds it clean" qemu-img check -q $secret --image-opts "$(opts ours "$1")"
    if patient qemu-img convert $secret -O "$1" -o "$2" a.raw theirs 2>/dev/null; then
        run img compare -q --key-file=abc theirs a.raw
        is "$status$out$err" 0 "  and qemu-img's is read here"
    fi
    qemu-io $secret -c 'write -q -P 7 5k 512' -c 'write -q -P 8 300k 100k' --image-opts "$(opts ours "$1")"
    run img convert --key-file=abc -O raw ours back
    cp a.raw wanted
    qemu-io -f raw -c 'write -q -P 7 5k 512' -c 'write -q -P 8 300k 100k' wanted
    check "  also what QEMU writes into it" cmp back wanted
}

pattern a.raw 700
truncate -s 2M a.raw

luks=encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=1
if [ "${CRYPTO_MATRIX:-}" = all ]; then
    for cipher in aes-128 aes-256; do # QEMU 7.2 asserts on the key slots of 192 bits
        for mode in xts-plain xts-plain64 cbc-plain cbc-plain64 cbc-essiv ctr-plain64 ecb-plain64; do
            for hash in sha1 sha224 sha256 sha384 sha512 ripemd160; do
                o=cipher-alg=$cipher,cipher-mode=${mode%-*},ivgen-alg=${mode#*-},hash-alg=$hash,iter-time=1
                both_ways luks "key-secret=s0,$o"
                both_ways qcow2 "encrypt.format=luks,encrypt.key-secret=s0,$(echo ",$o" | sed 's/,/,encrypt./g; s/^,//')"
            done
        done
    done
    for o in cluster_size=512 cluster_size=4k cluster_size=2M extended_l2=on compat=0.10 preallocation=metadata \
        preallocation=full refcount_bits=1; do
        both_ways qcow2 $luks,$o
        both_ways qcow2 encrypt.format=aes,encrypt.key-secret=s0,$o
    done
else
    both_ways luks key-secret=s0,iter-time=1
    both_ways luks key-secret=s0,iter-time=1,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha1
    both_ways luks key-secret=s0,iter-time=1,cipher-mode=ecb,hash-alg=ripemd160
    both_ways qcow2 $luks
    both_ways qcow2 $luks,cluster_size=512,encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain
    both_ways qcow2 $luks,extended_l2=on,encrypt.cipher-mode=ctr,encrypt.hash-alg=sha512
    both_ways qcow2 $luks,preallocation=metadata
    both_ways qcow2 encrypt.format=aes,encrypt.key-secret=s0,compat=0.10
fi

# ---- cryptsetup ----
# its_volume CIPHER BITS HASH: formatted by cryptsetup, filled by us, read by QEMU where it can
its_volume() {
    what="cryptsetup's $1 with $2 bits and $3"
    rm -f volume
    truncate -s 4M volume
    if ! cryptsetup luksFormat -q --type luks1 --offset 4096 --pbkdf-force-iterations 1000 --cipher "$1" -s "$2" -h "$3" volume abc \
        2>.cs; then
        skip "$what" "the kernel offers no such cipher to cryptsetup"
        return
    fi
    check "$what is filled" img convert -n -O luks --key-file=abc a.raw volume
    check "  and read" img compare -q --key-file=abc volume a.raw
    check "  and opened by cryptsetup still" cryptsetup open --test-passphrase --type luks1 -d abc volume
    run img info volume
    has "$out" "hash alg: $3" "  info tells its hash"
}
if command -v cryptsetup >/dev/null; then
    its_volume aes-xts-plain64 512 sha256
    its_volume aes-cbc-essiv:sha256 256 sha1
    its_volume aes-cbc-plain64 192 sha384
    if [ "${CRYPTO_MATRIX:-}" = all ]; then
        its_volume aes-xts-plain 256 sha512
        its_volume aes-cbc-plain 128 sha224
        its_volume aes-ctr-plain64 256 sha256
        its_volume aes-ecb 256 ripemd160
        its_volume camellia-cbc-plain64 256 sha256
        its_volume camellia-cbc-essiv:sha256 128 sha256
    fi
    img create -q -f luks $secret -o key-secret=s0,iter-time=1 mine.luks 1M
    check "cryptsetup opens what is made here" cryptsetup open --test-passphrase --type luks1 -d abc mine.luks
    run cryptsetup open --test-passphrase --type luks1 -d abd mine.luks
    is "$status" 2 "but not with another passphrase"
    cryptsetup luksDump mine.luks >dump
    uuid=$(sed -n 's/^UUID: *//p' dump | tr -d '[:space:]')
    run img info mine.luks
    has "$out" "uuid: $uuid" "both tell the same UUID"
    cryptsetup luksAddKey -q --pbkdf-force-iterations 1000 -d abc mine.luks abd
    run img compare --key-file=abd mine.luks mine.luks
    is "$status" 0 "a key that cryptsetup adds opens it here"
else
    skip "cryptsetup" "it is not installed"
fi

# ---- what is said about it ----
patient qemu-img create -q -f luks $secret -o key-secret=s0,iter-time=1 l.luks 1M
patient qemu-img create -q -f luks $secret -o key-secret=s0,iter-time=1,cipher-mode=cbc,ivgen-alg=essiv essiv.luks 1M
patient qemu-img create -q -f qcow2 $secret -o $luks l.qcow2 1M
patient qemu-img create -q -f qcow2 $secret -o encrypt.format=aes,encrypt.key-secret=s0 aes.qcow2 1M 2>.err
same_as_qemu <<'LIST'
info l.luks
info --output=json l.luks
info essiv.luks
info --output=json essiv.luks
info l.qcow2
info --output=json l.qcow2
info aes.qcow2
info -f luks aes.qcow2
map l.luks
map l.qcow2
compare l.luks l.luks
convert -O raw l.qcow2 x
create -f luks x.luks 1M
create -f luks -o key-secret=s1 x.luks 1M
create -f luks -o cipher-alg=rot13 --object secret,id=s0,data=abc -o key-secret=s0 x.luks 1M
create -f qcow2 -o encrypt.format=luks x.qcow2 1M
create -f qcow2 -o encrypt.format=rot13,encrypt.key-secret=s0 --object secret,id=s0,data=abc x.qcow2 1M
create -f qcow2 -o encrypt.key-secret=s0 --object secret,id=s0,data=abc x.qcow2 1M
create -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s0,encrypt.hash-alg=sha1 --object secret,id=s0,data=abc x.qcow2 1M
create -f qcow2 -o encryption=on --object secret,id=s0,data=abc x.qcow2 1M
create -f raw -o key-secret=s0 x.raw 1M
create -f luks -o help
create -f qcow2 -o help
convert -c -O qcow2 --object secret,id=s0,data=abc -o encrypt.format=luks,encrypt.key-secret=s0 a.raw x
convert -O luks a.raw x
measure -O qcow2 --size 1G --object secret,id=s0,data=abc -o encrypt.format=luks,encrypt.key-secret=s0
measure -O qcow2 --size 1G --object secret,id=s0,data=abc -o encrypt.format=luks,encrypt.key-secret=s0,cluster_size=2M
measure -O qcow2 --size 1G --object secret,id=s0,data=abc -o encrypt.format=aes,encrypt.key-secret=s0
measure -O luks --size 1G --object secret,id=s0,data=abc -o key-secret=s0,cipher-alg=aes-128
info --object secret,id=s0 l.luks
info --object secret,id=s0,data=a,file=b l.luks
info --object secret,data=a l.luks
info --object secret,id=s0,data=a,foo=b l.luks
info --object foo,id=a l.luks
info --object secret,id=s0,data=abc,format=hex l.luks
info --object secret,id=s0,file=/nonexistent l.luks
info --object secret,id=s0,data=YWJj,keyid=x l.luks
info --object secret,id=s0,data=a --object secret,id=s0,data=b l.luks
info --object id=s0,data=a l.luks
LIST

run img compare --key-file=abd l.luks l.luks
is "$status:$err" "2:img: Could not open 'l.luks': Invalid password, cannot unlock any keyslot" "a wrong key"
run img convert --key-file=abd -O raw l.qcow2 x
is "$status:$err" "1:img: Could not open 'l.qcow2': Invalid password, cannot unlock any keyslot" "of a qcow2 image too"

# ---- secrets ----
# opens NAME OPTIONS...: these options open the image
opens() {
    what=$1
    shift
    run img compare "$@" l.luks l.luks
    is "$status$err" 0 "$what"
}
opens "a secret of the command line" $secret --key=s0
opens "of a file" --object secret,id=k,file=abc --key k
opens "in base64" --object secret,id=k,data=YWJj,format=base64 --key k
opens "as JSON" --object '{"qom-type":"secret","id":"k","data":"abc"}' --key k
run sh -c '"$0" compare --key-file=- l.luks l.luks <abc' "$IMG"
is "$status$err" 0 "from the standard input"
head -c 32 a.raw >master
head -c 16 a.raw | base64 -w0 >iv
openssl enc -aes-256-cbc -K "$(od -An -tx1 master | tr -d ' \n')" -iv "$(head -c 16 a.raw | od -An -tx1 | tr -d ' \n')" \
    -in abc -out sealed
opens "encrypted under another secret" --object secret,id=m,file=master \
    --object "secret,id=k,keyid=m,iv=$(cat iv),file=sealed" --key k
opens "and that in base64" --object secret,id=m,file=master \
    --object "secret,id=k,keyid=m,iv=$(cat iv),format=base64,data=$(base64 -w0 sealed)" --key k
check "QEMU agrees" qemu-img compare -q --object secret,id=m,file=master \
    --object "secret,id=s0,keyid=m,iv=$(cat iv),format=base64,data=$(base64 -w0 sealed)" \
    --image-opts "$(opts l.luks luks)" "$(opts l.luks luks)"
run img info --object secret,id=m,file=abc --object "secret,id=k,keyid=m,iv=$(cat iv),file=sealed" l.luks
is "$status:$err" "1:img: Master key needs to be 32 bytes in length, not 3" "a master key of a wrong length"
run img info --key nobody l.luks
is "$status:$err" "1:img: No secret with id 'nobody'" "a key that is not there"
run img info --object '{bad' l.luks
is "$status" 1 "an object that is no JSON"
if command -v script >/dev/null; then
    (sleep 1 && printf 'abc\n') | script -qec "$IMG compare l.luks l.luks" /dev/null >typed 2>&1
    has "$(cat typed)" "Images are identical." "typed at the terminal"
    case $(cat typed) in *abc*abc*) ok 1 "without an echo" ;; *) ok 0 "without an echo" ;; esac
    (sleep 1 && printf '\032\003' && sleep 1) |
        script -qec "trap : INT; $IMG compare l.luks l.luks; echo status \$?; stty -a" /dev/null >typed 2>&1
    case $(cat typed) in
    *'status 130'*' -echo '*) ok 1 "the terminal is as before after an interrupt" ;;
    *'status 130'*) ok 0 "the terminal is as before after an interrupt" ;;
    *) ok 1 "an interrupt ends it" ;;
    esac
else
    skip "typed at the terminal" "there is no script(1)"
fi

# ---- over an encrypted image: making the overlay needs no key, reading it does ----
img create -q -f qcow2 $secret -o $luks below.qcow2 1M
img io $secret --key s0 -c 'write -q -P 5 0 64k' below.qcow2 >/dev/null
run img create -q -f qcow2 -b below.qcow2 -F qcow2 over.qcow2
is "$status$err" 0 "an overlay is made without a key"
run img io --key-file=abc -c 'read -P 5 0 64k' -c 'write -P 6 4k 1k' -c 'read -P 5 0 4k' -c 'read -P 6 4k 1k' over.qcow2
is "$status$err" 0 "its layers are read with one"
run img map over.qcow2
has "$err" "Parameter 'encrypt.key-secret' is required for cipher" "and not without"
img dd --key-file=abc -O luks if=over.qcow2 of=dd.luks
check "dd to LUKS" img compare -q --key-file=abc dd.luks over.qcow2
patient qemu-img create -q -f qcow2 $secret -o $luks,preallocation=metadata sparse.qcow2 1M
run img convert --key-file=abc -O raw sparse.qcow2 x
qemu-img convert $secret --image-opts "$(opts sparse.qcow2 qcow2)" -O raw y
check "what QEMU preallocates reads as QEMU reads it" cmp x y

# ---- key slots ----
# amended FORMAT OPTIONS: both tools say and do the same to volumes of their own
printf new >new
amended() {
    ours=$(img amend $secret --object secret,id=n,file=new --object secret,id=w,file=abd --key s0 -o "$2" "slots.$1" 2>&1)
    mine=$?
    theirs=$(patient qemu-img amend $secret --object secret,id=n,file=new --object secret,id=w,file=abd -o "$2" \
        --image-opts "$(opts "qslots.$1" "$1")" 2>&1)
    is "$mine:$ours" "$?:$(printf '%s\n' "$theirs" | sed 's/^qemu-img/img/')" "amend -o $2 of $1"
    img info "slots.$1" | grep -A1 '^ *\[' | grep active >.mine
    qemu-img info "qslots.$1" | grep -A1 '^ *\[' | grep active >.theirs
    check "  with the same slots in use" cmp .mine .theirs
}
img create -q -f luks $secret -o key-secret=s0,iter-time=1 slots.luks 1M
img create -q -f qcow2 $secret -o $luks slots.qcow2 1M
cp slots.luks qslots.luks
cp slots.qcow2 qslots.qcow2
for o in keyslot=1 state=active state=rot13 state=active,new-secret=n,keyslot=0 state=active,new-secret=n,keyslot=9 \
    state=active,new-secret=n,old-secret=s0 state=active,new-secret=zz state=inactive state=inactive,old-secret=w \
    state=inactive,keyslot=5 state=inactive,old-secret=s0 state=inactive,keyslot=0 state=inactive,new-secret=n,keyslot=3 \
    state=inactive,iter-time=4,keyslot=3 size=2M rot13=1 state=active,new-secret=n,iter-time=10 \
    state=active,new-secret=n,keyslot=6,iter-time=10 state=inactive,old-secret=n,keyslot=6 state=inactive,old-secret=n; do
    amended luks "$o"
done
amended qcow2 encrypt.state=active,encrypt.new-secret=n,encrypt.iter-time=10
check "QEMU opens it with the new key" qemu-img check -q --object secret,id=s0,file=new \
    --image-opts "$(opts slots.qcow2 qcow2)"
amended qcow2 encrypt.state=inactive,encrypt.old-secret=s0
run img map --key-file=abc --output=json slots.qcow2
is "$status" 1 "the old key is gone"
run img map --key-file=new --output=json slots.qcow2
is "$status" 0 "the new one opens it"

# ---- headers that are wrong: one line, and soon ----
# refused OFFSET BYTES WORDS
refused() {
    cp l.luks bad.luks
    poke bad.luks "$1" "$2"
    run timeout 20 "$IMG" map --output=json --key-file=abc -f luks bad.luks
    is "$status" 1 "$3 is refused"
    is "$(printf '%s\n' "$err" | wc -l)" 1 "  with one line"
    like "$err" "img: Could not open 'bad.luks': *$3*" "  that says it: $err"
}
refused 212 '\377\377\377\377' iterations
refused 164 '\377\377\377\377' iterations
refused 252 '\377\377\377\377' stripes
refused 248 '\0\0\0\0' 'Keyslot 0 is overlapping with the LUKS header'
refused 248 '\377\377\377\377' 'Keyslot 0 is overlapping with the encrypted payload'
refused 296 '\0\0\0\011' 'Keyslots 0 and 1 are overlapping'
refused 104 '\377\377\377\377' 'behind the end'
refused 104 '\0\0\0\0' 'overlapping with the header'
refused 108 '\0\0\0\1' key-bytes
refused 8 'cipher_null\0' "not available"
refused 40 'lrw-benbi\0\0' "not supported"
refused 72 'md4\0\0\0' "not available"
refused 208 '\0\0\0\0' "corrupted"
cp l.luks bad.luks
truncate -s 100k bad.luks
run img info bad.luks
is "$status" 1 "a file that ends in its key slot"
truncate -s 300 bad.luks
run img info -f luks bad.luks
is "$status" 1 "a file that ends in its header"

# ---- the old file stays when a key is missing ----
cp a.raw keep
run img convert -O luks a.raw keep
is "$status" 1 "no key, no image"
check "  and the file is as it was" cmp a.raw keep
run img create -f luks $secret -o key-secret=s0,iter-time=1 --output=json made.luks 1M
check "create --output=json" valid_json .out
rm -f x
run img convert $secret -O qcow2 -o $luks,preallocation=full a.raw x
check "a preallocated one reads as it should" qemu-img compare -q $secret --image-opts "$(opts x qcow2)" \
    driver=raw,file.filename=a.raw
done_testing
