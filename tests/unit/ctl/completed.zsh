# SPDX-License-Identifier: GPL-2.0-or-later
# The startup file of a zsh that writes to $COMPLETED what it offers for the last word of each of the $TYPED lines.

PROMPT=
fpath=($COMPLETIONS $fpath)
autoload -Uz compinit
compinit -D -u

compadd() {
    if [[ ${argv[(I)-[OAD]]} -eq 0 ]]; then
        local -a offered
        builtin compadd -A offered "$@"
        (( $#offered )) && print -rl -- $'\t'${^offered} >>$COMPLETED
    fi
    builtin compadd "$@"
}

zle-line-init() {
    local each
    for each in ${(f)TYPED}; do
        print -r -- $each >>$COMPLETED
        BUFFER=$each CURSOR=$#each
        zle complete-word
    done
    kill -KILL $$
}
zle -N zle-line-init
