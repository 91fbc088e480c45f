# Completes a line as a person's Tab does, and prints what it became. Arguments: the completion script, the line.
zmodload zsh/zpty
result=$(mktemp)
zpty shell zsh -f -i
zpty -w shell "PS1= RPS1=; autoload -Uz compinit; compinit -D -u; source ${(q)1}
show() { print -r -- \"\$BUFFER\" >| ${(q)result}; }; zle -N show; bindkey '^X' show; zstyle ':completion:*' menu no"
zpty -w -n shell "$2"$'\t\x18'
# The shell answers when it has completed.
repeat 300; do
    zpty -r -t shell ignored && continue
    [[ -s $result ]] && break
    zselect -t 10 2>/dev/null || sleep 0.1
done
cat $result
rm -f $result
zpty -d shell
