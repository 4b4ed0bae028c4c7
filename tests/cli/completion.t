#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Completion in bash offers what the tool knows, and no more.
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/completions/img.bash
. "$top/scripts/completions/img.bash"

# complete_words WORD...: what is offered for the last word
complete_words() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    _img
    printf '%s ' "${COMPREPLY[@]}" | sed 's/ $//'
}

is "$(complete_words img '')" "$_img_commands --help --version" "the commands"
is "$(complete_words img com)" "commit compare" "those that begin so"
is "$(complete_words img help m)" "map measure" "behind help"
commands=$("$IMG" help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p' | sort | tr '\n' ' ')
is "$(echo "$_img_commands" | tr ' ' '\n' | sort | tr '\n' ' ')" "$commands" "the tool has the same ones"

for command in $commands; do
    [ "$command" != help ] || continue
    known=$("$IMG" "$command" --help | grep -oE '^ +(-[a-zA-Z], )*--[a-z-]+' | grep -oE -- '--[a-z-]+' | sort | tr '\n' ' ')
    is "$(_img_options "$command" | tr ' ' '\n' | sort | tr '\n' ' ')" "$known" "$command: the options of its help"
    for option in $(_img_options "$command"); do
        # an option that the tool does not know is called unrecognized, whatever else is wrong
        "$IMG" "$command" "$option" 2>err >/dev/null </dev/null
        grep -q unrecognized err && ok 1 "$command knows $option"
    done
done

is "$(complete_words img info --output '')" "human json" "values of --output"
is "$(complete_words img info --output = j)" "json" "written with ="
is "$(complete_words img check -r '')" "leaks all" "of -r"
is "$(complete_words img convert -O q)" "qcow2" "of -O"
is "$(complete_words img convert -t wr)" "writeback writethrough" "of -t"
is "$(complete_words img create -o clu)" "cluster_size=" "of -o"
is "$(complete_words img convert --no)" "--no-create" "options by their beginning"
is "$(complete_words img-convert --no)" "--no-create" "for the tool under a command's name"
is "$(complete_words img-convert -O '')" "raw qcow2 luks" "values too"
is "$(complete_words img snapshot t)" "tree" "verbs of snapshot"
is "$(complete_words img info disk)" "" "file names are left to bash"
# shellcheck disable=SC2086  # one word for each command
for name in img $(printf 'img-%s ' $commands); do
    [ "$name" != img-help ] || continue
    check "$name is completed" bash -c '. "$1" && complete -p "$2"' - "$top/scripts/completions/img.bash" "$name"
done
done_testing
