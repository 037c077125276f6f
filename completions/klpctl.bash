# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What bash completes after klpctl.

__klpctl_in_force() { klpctl list --names 2>/dev/null; }

# Modules of livepatches that are loaded and no longer in force.
__klpctl_left_over() {
    local taint name
    for taint in /sys/module/*/taint; do
        name=${taint%/taint}
        name=${name##*/}
        if [[ ! -e /sys/kernel/livepatch/$name ]] && grep -qs K "$taint"; then
            printf '%s\n' "$name"
        fi
    done
}

__klpctl_jobs() { klpctl jobs 2>/dev/null | awk '$1 ~ /^[0-9]+$/ { print $1 }'; }

# compgen's output becomes $COMPREPLY; names of livepatches and jobs hold no blanks.
__klpctl_reply() { mapfile -t COMPREPLY < <(compgen "$@" -- "$cur"); }

_klpctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local -A OPTIONS=(
        [all]='--json --host -H --no-ask-password --debug --help -h'
        [top]='--version'
        [list]='--names'
        [revert]='--to --yes -y'
        [plan revert]='--to'
        [approve]='--for'
        [force]='--yes -y'
        [blockers]='--follow -f'
        [manifest new]='--output -o'
        [policy check]='--unsafe'
        [log]='--lines -n --follow -f --since'
    )
    local -A COMMANDS=(
        [top]='status list inspect diff check plan apply approve disable remove revert force blockers jobs wait log policy manifest reload guard'
        [plan]='apply disable remove revert force'
        [policy]='check cat'
        [manifest]='new check'
        [guard]='status open close'
    )

    COMPREPLY=()
    case $prev in
    --host | -H)
        __klpctl_reply -A hostname
        return
        ;;
    --to)
        __klpctl_reply -W "original $(__klpctl_in_force)"
        return
        ;;
    --since)
        __klpctl_reply -W 'today yesterday'
        return
        ;;
    --for)
        __klpctl_reply -W '10min 1h 0'
        return
        ;;
    --output | -o)
        compopt -o filenames
        __klpctl_reply -f
        return
        ;;
    --lines | -n)
        return
        ;;
    esac

    # The command is one word, or two in a group.
    local command='' word skip=''
    local -i index
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ $skip ]]; then
            skip=''
        elif [[ $word == --host || $word == -H ]]; then
            skip=yes
        elif [[ $word != -* && ! $command ]]; then
            command=$word
        elif [[ $word != -* && ${COMMANDS[$command]-} ]]; then
            command+=" $word"
            break
        fi
    done

    if [[ $cur == -* ]]; then
        __klpctl_reply -W "${OPTIONS[all]} ${OPTIONS[${command:-top}]-}"
    elif [[ ${COMMANDS[${command:-top}]-} ]]; then
        __klpctl_reply -W "${COMMANDS[${command:-top}]}"
    else
        case $command in
        apply | approve | check | diff | inspect | 'plan apply' | 'policy check' | 'manifest new' | 'manifest check')
            compopt -o filenames
            __klpctl_reply -f
            ;;
        disable | force | 'plan disable' | 'plan force')
            __klpctl_reply -W "$(__klpctl_in_force)"
            ;;
        remove | 'plan remove')
            __klpctl_reply -W "$(__klpctl_left_over)"
            ;;
        wait)
            __klpctl_reply -W "$(__klpctl_jobs)"
            ;;
        esac
    fi
}

complete -F _klpctl klpctl
