# SPDX-License-Identifier: GPL-3.0-or-later
# Completion for img(1) in bash, and for img-info, img-convert and so on. The words here follow the tables in cmd/*.c;
# tests/cli/completion.t compares them with what `img COMMAND --help` says.
# shellcheck shell=bash

_img_commands='amend bench bitmap cat check commit compare convert copy-in copy-out create dd df diff du edit filesystems find help info inspect io ls map measure rebase resize snapshot tar-in tar-out'
_img_keys='--object --key --key-file'
_img_names="$_img_keys --image-opts"
# Those of all commands that look inside a disk.
_img_guest='--add --domain --format --blocksize --key --keys-from-stdin --snapshot --force-share --sandbox --help'

# The options of a command.
_img_options() {
    case $1 in
    bench)
        echo --count --depth --format --buffer-size --step-size --offset --write --pattern --flush-interval --no-drain --aio \
            --native --cache --quiet --force-share --output "$_img_names" --help
        ;;
    bitmap)
        echo --add --remove --clear --enable --disable --merge --list --source-file --source-format --granularity \
            --format --output "$_img_names" --help
        ;;
    cat | copy-out) echo "$_img_guest" --mount ;;
    tar-out)
        echo "$_img_guest" --mount --compress --exclude --numeric-owner --xattrs --acls --selinux --nanoseconds --no-sparse
        ;;
    diff)
        echo "$_img_guest" --mount --a-snapshot --b-snapshot --checksum --atime --dir-times --dir-links --xattrs --uids \
            --times --time-t --time-relative --time-days --extra-stats --all --csv --human-readable
        ;;
    find) echo "$_img_guest" --mount --output ;;
    du)
        echo "$_img_guest" --mount --output --human-readable --summarize --max-depth --all --apparent-size --bytes --total
        ;;
    copy-in | tar-in) echo "$_img_guest" --mount --dry-run ;;
    edit) echo "$_img_guest" --mount --expr --backup ;;
    df) echo "$_img_guest" --output --human-readable --inodes --csv ;;
    filesystems)
        echo "$_img_guest" --output --filesystems --extra --partitions --block-devices --lvs --vgs --pvs --all --long --uuid \
            --human-readable --csv --no-title
        ;;
    inspect) echo "$_img_guest" --output --no-applications --no-icon --xpath ;;
    ls)
        echo "$_img_guest" --mount --output --long --recursive --human-readable --csv --checksum --uids --times --time-t \
            --time-relative --time-days --extra-stats
        ;;
    check) echo --format --output --repair --cache --progress --quiet --force-share "$_img_names" --help ;;
    compare) echo --a-format --b-format --strict --cache --snapshot --a-snapshot --b-snapshot --progress --quiet --force-share --output "$_img_names" --help ;;
    convert)
        echo --source-format --target-format --target-format-options --compress --compression-level --backing \
            --backing-format --snapshot --sparse-size --parallel --no-create --target-is-zero --target-cache --source-cache \
            --rate-limit --salvage --progress --quiet --bitmaps --skip-broken-bitmaps \
            --force-share --oob-writes --copy-range-offloading --output "$_img_names" \
            --target-image-opts --help
        ;;
    amend) echo --format --cache --options --force --progress --quiet --output "$_img_names" --help ;;
    commit) echo --format --cache --base --drop --rate-limit --progress --quiet --output "$_img_names" --help ;;
    rebase)
        echo --format --cache --backing-cache --backing --backing-format --backing-unsafe --force-share --progress --quiet \
            --output "$_img_names" --help
        ;;
    create) echo --format --options --backing --backing-format --backing-unsafe --quiet --output "$_img_keys" --help ;;
    io)
        echo --cmd --format --read-only --snapshot --force-share --nocache --cache --discard --aio --native-aio --version \
            "$_img_names" --help
        ;;
    info) echo --format --output --backing-chain --cache --snapshot --force-share "$_img_names" --help ;;
    dd) echo --format --target-format --force-share --progress --output "$_img_names" --help ;;
    map) echo --format --output --start-offset --max-length --cache --snapshot --force-share "$_img_names" --help ;;
    resize) echo --format --preallocation --shrink --quiet --output "$_img_names" --help ;;
    snapshot) echo --list --create --apply --delete --format --output --quiet --force-share "$_img_names" --help ;;
    measure) echo --target-format --options --size --format --snapshot --force-share --output "$_img_names" --help ;;
    esac
}

# The values that an option takes; "file" for a file's name. Fails when the option takes none.
_img_values() {
    case $1:$2 in
    *:--format | *:--source-format | *:--target-format | *:--a-format | *:--b-format | *:--backing-format | *:-F)
        echo raw qcow2 luks ;;
    *:-f) echo raw qcow2 luks ;;
    resize:--preallocation) echo off metadata falloc full ;;
    *:--source-file | bitmap:-b) echo file ;;
    *:--merge | *:--granularity | bitmap:-g) echo ;;
    rebase:-B) echo raw qcow2 luks ;;
    convert:-O | create:-B | dd:-O | measure:-O) echo raw qcow2 luks ;;
    *:--output) echo human json ;;
    *:--progress) echo auto bar percent json ;;
    *:--backing-cache | amend:-t | commit:-t | rebase:-t | *:--cache | *:--target-cache | *:--source-cache | *:-T | bench:-t | convert:-t | info:-t)
        echo none writeback writethrough directsync unsafe ;;
    io:-t) echo none writeback writethrough directsync unsafe ;;
    io:--discard | io:-d) echo unmap ignore ;;
    io:--aio | io:-i) echo threads native io_uring ;;
    io:--cmd | io:-c) echo ;;
    check:--repair | check:-r) echo leaks all ;;
    bench:--aio | bench:-i) echo threads native io_uring ;;
    amend:-o | amend:--options)
        echo help size= compat= lazy_refcounts= refcount_bits= data_file= data_file_raw= encrypt.state= encrypt.new-secret= \
            encrypt.old-secret= encrypt.keyslot= encrypt.iter-time= ;;
    *:--options | *:--target-format-options | convert:-o | create:-o | measure:-o)
        echo help size= preallocation= cluster_size= compat= compression_type= extended_l2= lazy_refcounts= \
            refcount_bits= backing_file= backing_fmt= data_file= data_file_raw= encrypt.format= \
            encrypt.key-secret= encrypt.iter-time= key-secret= iter-time= ;;
    *:--key-file | *:--backing | *:--base | commit:-b | rebase:-b | create:-b | convert:-b | convert:-B) echo file ;;
    *:--object) echo secret,id= ;;
    *:--compression-level | *:--snapshot | *:--a-snapshot | *:--b-snapshot | *:--sparse-size | *:--parallel | *:--rate-limit | *:--start-offset | *:--max-length) echo ;;
    bench:--count | bench:--depth | bench:--buffer-size | bench:--step-size | bench:--offset | bench:--pattern) echo ;;
    bench:--flush-interval | bench:-[cdosS] | measure:--size | measure:-[ls]) echo ;;
    *:--add | *:--domain) echo file ;;
    *:--blocksize) echo 512 4096 ;;
    tar-out:--compress) echo gzip zstd ;;
    tar-out:--exclude | du:--max-depth) echo ;;
    diff:-A | diff:-D) echo file ;;
    *:--sandbox) echo on off ;;
    ls:--checksum | diff:--checksum) echo crc md5 sha1 sha224 sha256 sha384 sha512 ;;
    *:--key | *:--mount | inspect:--xpath) echo ;;
    commit:-r | convert:-l | convert:-S | convert:-m | convert:-r | map:-s | map:-l) echo ;;
    snapshot:-[acd] | snapshot:--apply | snapshot:--create | snapshot:--delete) echo ;;
    *) return 1 ;;
    esac
}

# Fills COMPREPLY with those of the words in $1 that begin with $2.
_img_offer() {
    local word
    for word in $1; do
        [[ $word == "$2"* ]] && COMPREPLY+=("$word")
    done
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}

_img() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev='' command first=1 values
    COMPREPLY=()
    [[ $COMP_CWORD -gt 0 ]] && prev=${COMP_WORDS[COMP_CWORD - 1]}
    # bash splits --output=json into three words
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $prev == = && $COMP_CWORD -gt 1 ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    command=${COMP_WORDS[0]##*/}
    if [[ $command == img-* ]]; then
        command=${command#img-}
        first=0
    elif [[ $COMP_CWORD -gt 1 ]]; then
        command=${COMP_WORDS[1]}
    else
        _img_offer "$_img_commands --help --version" "$cur"
        return
    fi
    if [[ $command == help ]]; then
        _img_offer "$_img_commands" "$cur"
        return
    fi
    if [[ $COMP_CWORD -gt $first ]] && values=$(_img_values "$command" "$prev") && [[ $values != file ]]; then
        _img_offer "$values" "$cur"
    elif [[ $cur == -* ]]; then
        _img_offer "$(_img_options "$command")" "$cur"
    fi
    if [[ $command == snapshot && $COMP_CWORD -eq $((first + 1)) && $cur != -* ]]; then
        _img_offer 'info current parent tree diff' "$cur"
    fi
    # otherwise the default of `complete`: names of files
}

# shellcheck disable=SC2046,SC2086  # one word for each command
complete -o bashdefault -o default -F _img img $(printf 'img-%s ' $_img_commands)
complete -o bashdefault -o default -F _img img img-bench img-check img-commit img-compare img-convert img-create img-dd img-rebase \
complete -o bashdefault -o default -F _img img img-amend img-bench img-check img-commit img-compare img-convert img-create img-dd img-rebase \
    img-info img-io img-map img-measure img-snapshot
