"""The command `completion`: a script by which a shell completes commands, agents and options.

    eval "$(jaxrl-pg completion bash)"      # in ~/.bashrc; zsh: in ~/.zshrc, with zsh

The script holds every word, so that the shell asks no Python while somebody types.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.cli import arguments, words
from jaxrl_pg.cli.options import Option

__all__ = ["CompletionFlags", "run_completion", "script"]

_SHELLS = ("bash", "zsh")
_ZSH = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n"
_SCRIPT = """\
_jaxrl_pg() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local section="${{COMP_WORDS[1]}}" words=""
    if ((COMP_CWORD == 1)); then
        words="{commands} --help --version"
    else
        if [[ $section == train ]]; then
            case "${{COMP_WORDS[2]}}" in
                -*) section="train {first}" ;;
                *) section="train ${{COMP_WORDS[2]}}" ;;
            esac
            ((COMP_CWORD == 2)) && words="{agents}"
        fi
        case "$section $previous" in
{choices}
            *)
                [[ $current == -* ]] && case "$section" in
{flags}
                esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o bashdefault -o default -F _jaxrl_pg jaxrl-pg
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionFlags:
    """Print a script that completes words for a shell: eval "$(jaxrl-pg completion bash)"."""


def run_completion(args: list[str]) -> int:
    """Print the script of a shell."""
    shells = arguments.Positional("SHELL", f"the shell: {' or '.join(_SHELLS)}")
    (shell,), _ = arguments.read("jaxrl-pg completion", args, [CompletionFlags], shells)
    if shell not in _SHELLS:
        hint = words.did_you_mean(shell, _SHELLS)
        raise ValueError(f"shell={shell!r}: {hint}give one of: {', '.join(_SHELLS)}")
    from jaxrl_pg.cli.commands import COMMANDS

    modules = {name: command.module for name, command in COMMANDS.items()}
    print(script(shell, modules), end="")
    return 0


def script(shell: str, modules: dict[str, str]) -> str:
    """Return the script.

    Args:
        shell: bash or zsh.
        modules: the module of each command.
    """
    from jaxrl_pg.envs import making

    sections = {
        name: _options_of(name, module, []) for name, module in modules.items() if name != "train"
    }
    for agent in AGENT_NAMES:
        sections[f"train {agent}"] = _options_of("train", modules["train"], [agent])
    # A shell splits words at the colon of a suite's names.
    known = " ".join(making.names())
    text = _SCRIPT.format(
        commands=" ".join(modules),
        agents=" ".join(AGENT_NAMES),
        first=AGENT_NAMES[0],
        choices="\n".join(_choices(*item, known) for item in sections.items() if item[1]),
        flags="\n".join(_flags(name, found) for name, found in sections.items()),
    )
    return (_ZSH if shell == "zsh" else "") + text


def _options_of(name: str, module: str, args: list[str]) -> Sequence[Option]:
    """Return the options that a command's help shows."""
    try:
        run = getattr(importlib.import_module(f"jaxrl_pg.cli.{module}"), f"run_{name}")
        run([*args, "--help"])
    except arguments.Help as shown:
        return shown.options
    return ()


def _choices(section: str, found: Sequence[Option], environments: str) -> str:
    """Return the cases in which one of a few words follows."""
    lines = []
    for option in found:
        if option.kind.choices:
            given = " ".join(option.kind.choices)
            lines.append(f'            "{section} {option.flag}") words="{given}" ;;')
        elif option.name == "env":
            lines.append(f'            "{section} {option.flag}") words="{environments}" ;;')
    return "\n".join(lines)


def _flags(section: str, found: Sequence[Option]) -> str:
    given = " ".join(flag for option in found for flag in option.flags)
    return f'                    "{section}") words="{given} --help --verbose" ;;'
