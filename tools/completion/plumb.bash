# Bash completion for plumb(1): source it, or install it as /usr/share/bash-completion/completions/plumb.
# A test compares the tables below with `plumb --help` and `plumb COMMAND --help`.

_plumb_commands() {
  echo connect serve ping ls status explain rules reload confirm events metrics ca psk version
}

# The options of one command; without a command, those that may stand before it.
_plumb_options() {
  local own=
  case $1 in
    connect) own="--fdpass --networkd --timeout" ;;
    serve) own="--shared --max --idle" ;;
    ping) own="--networkd --timeout" ;;
    explain) own="--networkd --as --in --from" ;;
    reload) own="--confirm" ;;
    ca) own="--client --server --name --days --dir --force" ;;
    events) own="--since --count -f --follow" ;;
  esac
  echo $own --json --rundir -h --help
}

_plumb_actions() {
  case $1 in
    ca) echo init issue revoke ;;
    psk) echo new ;;
  esac
}

# Services that may be reached, asked of the same router.
_plumb_services() {
  plumb ls "$@" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_plumb() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local words=() where=() i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      --) # a program of the user's own follows
        COMPREPLY=($(compgen -A command -A file -- "$word"))
        return ;;
      --rundir) where=(--rundir "${COMP_WORDS[i + 1]}"); ((++i)) ;;
      --networkd | --timeout | --max | --idle | --as | --from | --confirm | --since | --count | --name | --days | --dir) ((++i)) ;;
      -*) ;;
      *) words+=("${COMP_WORDS[i]}") ;;
    esac
  done
  local command=${words[0]}
  case $previous in
    --rundir | --dir) COMPREPLY=($(compgen -d -- "$word")); return ;;
    --networkd | --timeout | --max | --idle | --as | --from | --confirm | --since | --count | --name | --days) return ;;
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$(_plumb_options "$command")" -- "$word"))
  elif [[ -z $command ]]; then
    COMPREPLY=($(compgen -W "$(_plumb_commands)" -- "$word"))
  elif [[ $command == connect || $command == ping || $command == explain ]]; then
    COMPREPLY=($(compgen -W "$(_plumb_services "${where[@]}")" -- "$word"))
  elif ((${#words[@]} == 1)); then
    COMPREPLY=($(compgen -W "$(_plumb_actions "$command")" -- "$word"))
  fi
}
complete -F _plumb plumb
