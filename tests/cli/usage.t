#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Help, versions, wrong command lines, and the names under which the tool can be started.
. "$(dirname "$0")/lib.sh"

qemu-img create -q -f qcow2 q.qcow2 1M
qemu-img create -q r.raw 1M

run img --version
is "$status" 0 "--version succeeds"
like "$out" "img version [0-9]*" "--version names tool and version"
run img
is "$status" 1 "no command: status 1"
is "$err" "img: Not enough arguments
Try 'img --help' for more information" "no command: a pointer to the help"

for help in --help -h help; do
    run img "$help"
    is "$status" 0 "img $help succeeds"
    for command in create info check map compare convert io measure dd bench snapshot commit rebase amend; do
        like "$out" "*  $command *" "img $help lists $command"
    done
done
for command in create info check map compare convert io measure dd bench snapshot commit rebase amend; do
    run img help "$command"
    by_help=$out
    is "$status" 0 "help $command succeeds"
    like "$out" "usage: img $command *" "help $command begins with the usage"
    for option in --help -h; do
        run img "$command" "$option" extra
        is "$status-$out" "0-$by_help" "$command $option is the same help"
    done
done
run img help nosuch
is "$status" 1 "help for no command fails"
run img --nosuch
is "$status" 1 "an unknown global option fails"

# what is wrong in itself
{
    echo nosuch
    printf '%s\n' dd 'dd --nosuch' 'dd -Z' 'dd -f' bench 'bench --nosuch' 'bench -Z' 'bench -c'
    for command in create info check map compare convert commit rebase amend; do
        printf '%s\n' "$command" "$command --nosuch" "$command -Z" "$command -f"
    done
    printf '%s\n' snapshot 'snapshot --nosuch' 'snapshot -Z'
    for command in info check map; do
        printf "$command %s\n" --output '--output=xml q.qcow2' 'q.qcow2 r.raw' nosuch '-f nosuch q.qcow2' '-f qcow2 r.raw'
    done
    for size in abc -1 1.3 5MB "''" 1MiB 99999999999999999999 8E; do
        printf 'map %s q.qcow2\n' "--start-offset=$size" "--max-length=$size"
    done
    cat <<'LIST'
check -r some q.qcow2
check -T some q.qcow2
check -U -r all q.qcow2
compare q.qcow2
compare q.qcow2 q.qcow2 q.qcow2
compare -T some q.qcow2 q.qcow2
compare -f nosuch q.qcow2 q.qcow2
compare -F nosuch q.qcow2 q.qcow2
compare nosuch q.qcow2
compare q.qcow2 nosuch
LIST
} | grep . >list
same_as_qemu <list
run img info -UZ q.qcow2
is "$err" "img: unrecognized option '-Z'
Try 'img --help' for more information" "the wrong letter of a bundle is named"
run img info --force-share=3 q.qcow2
is "$status" 1 "an argument for an option that takes none fails"
run img create -f raw -q s.raw 0x10k
is "$err" "img: warning: Using a multiplier suffix on hex numbers is deprecated: 0x10k" "a suffix behind hex is warned of"

# names of one letter and long ones mean the same
for pair in '-f --format=' '-o --options=' '-b --backing=' '-F --backing-format='; do
    run img help create
    like "$out" "*${pair%% *}, *${pair#* }*" "create knows $pair"
done
run img info --form=qcow2 q.qcow2
is "$status" 0 "a long option may be cut short"
run img info q.qcow2 --output=json
is "$status" 0 "options may stand behind the file"
run img info -- q.qcow2
is "$status" 0 "-- ends the options"

# started by another name
mkdir bin
for command in create info check map compare convert io commit rebase amend; do ln -s "$IMG" "bin/img-$command"; done
ln -s "$IMG" bin/img-nosuch
ln -s "$IMG" bin/disks
run bin/img-info q.qcow2
by_link=$out
run img info q.qcow2
is "$by_link" "$out" "img-info is img info"
run bin/img-info
is "$err" "img-info: Expecting one image file name
Try 'img-info --help' for more information" "the prefix of messages is the name it was started by"
run bin/img-create -f qcow2 linked.qcow2 1M
is "$status" 0 "img-create creates"
run bin/img-convert -O qcow2 r.raw linked2.qcow2
is "$status" 0 "img-convert converts"
run bin/img-compare linked.qcow2 linked2.qcow2
is "$out" "Images are identical." "img-compare compares"
run bin/img-check --output=json linked.qcow2
is "$status" 0 "img-check checks"
run bin/img-map linked.qcow2
is "$status" 0 "img-map maps"
run bin/img-map --help
like "$out" "usage: img-map *" "the help of a link shows the link"
run bin/img-map --version
like "$out" "img-map version *" "a link knows its version"
run bin/img-nosuch
is "$status" 1 "a link to no command needs one"
run bin/disks info q.qcow2
is "$out" "$by_link" "under any other name the command is an argument"
run env -i "$IMG" info q.qcow2
is "$status" 0 "no environment is needed"

# output that cannot be written
if [ -w /dev/full ]; then
    "$IMG" info q.qcow2 >/dev/full 2>full
    is "$?" 1 "a full disk under the output is an error"
    is "$(cat full)" "img: Could not write the output" "and is reported"
fi

# "file:NAME" is NAME
mkdir -p dir
run img create -f qcow2 file:dir/u.qcow2 1M
has "$out" "Formatting 'file:dir/u.qcow2'" "create says the name as it was given"
check "and means the file" qemu-img check -q dir/u.qcow2
run img create -f qcow2 -b file:u.qcow2 -F qcow2 file:dir/over.qcow2
is "$status" 0 "a backing file beside it"
same_as_qemu <<'LIST'
info file:dir/u.qcow2
info --output=json file:dir/u.qcow2
map file:dir/u.qcow2
check file:dir/u.qcow2
compare file:dir/u.qcow2 file:dir/../dir/u.qcow2
info file:nosuch
LIST
run img convert -O raw file:dir/u.qcow2 file:dir/u.raw
is "$status" 0 "convert"
check "reads and makes the files" qemu-img compare -q dir/u.qcow2 dir/u.raw
run img convert -U -O raw file:dir/u.raw file:dir/u.raw
is "$status" 1 "the source as target is found by it"
run img convert -n -O raw file:dir/u.qcow2 file:dir/u.raw
is "$status" 0 "convert -n"
cp dir/u.raw 'with:colon'
run img info with:colon
is "$status" 0 "any other colon is part of a name"

# closed standard descriptors: no file that is opened gets their numbers
pattern closed.raw 3072
"$IMG" convert --progress=json -r 8M -O raw closed.raw copy.raw >&- 2>&-
is "$?" 0 "convert works without the outputs"
check "and no message lands in an image that got their numbers" cmp closed.raw copy.raw
"$IMG" info closed.raw >&- 2>closed
is "$?" 1 "an output that is closed is an error"
is "$(cat closed)" "img: Could not write the output" "and is reported"
done_testing
