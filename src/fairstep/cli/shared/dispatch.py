"""From a word on the command line to the module that answers it: help, nearest names, shell completion.

A verb's module has ``main(arguments)`` and the dataclass of its options, which is named after it (``CompareOptions``).
Modules are loaded when they are called, so that help answers at once.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass

from fairstep.cli.shared.shown import drawing, shown

SHELLS = ("bash", "zsh", "fish")

Verb = namedtuple("Verb", ("text", "target", "menu"), defaults=("", False))
"""What a verb does, in one line. ``target``: module and function, for a module that answers several verbs; default:
``main`` of the module of that name. ``menu``: whether its words are verbs again."""


@dataclass
class Menu:
    """Verbs in groups, under the headings of the help. ``name``: of the verb whose words these are; empty: the words of
    the program itself. ``more`` is what the help says at its end."""

    title: str
    groups: Mapping[str, Mapping[str, Verb]]
    more: str
    name: str = ""

    @property
    def program(self) -> str:
        return f"fairstep {self.name}".strip()

    @property
    def word(self) -> str:
        """What a verb is called here."""
        return "action" if self.name else "verb"

    @property
    def verbs(self) -> dict[str, Verb]:
        return {name: verb for group in self.groups.values() for name, verb in group.items()}

    def run(self, arguments: list[str]) -> int:
        """Call the verb that is named first, or print the help. Returns the exit code."""
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(self.help(), end="")
            return 0
        name, *rest = arguments
        if name not in self.verbs:
            import difflib

            near = difflib.get_close_matches(name, self.verbs, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"the {self.word}s are {', '.join(self.verbs)}"
            of = f" of {self.name}" if self.name else ""
            return fail(f"unknown {self.word} {name!r}{of}; {hint}")
        module, function = self.target(name)
        loaded = importlib.import_module(module)
        return loaded.MENU.run(rest) if self.verbs[name].menu else getattr(loaded, function)(rest) or 0

    def target(self, name: str) -> tuple[str, str]:
        """The module and the function of a verb."""
        package = f"fairstep.cli.{self.name}".rstrip(".")
        module, _, function = (self.verbs[name].target or f"{package}.{name}:main").partition(":")
        return module, function

    def help(self) -> str:
        """All verbs, by group."""
        width = max(map(len, self.verbs)) + 2
        lines = [self.title, ""]
        word = self.word.upper()
        lines += [f"usage: {self.program} {word} [options]        {self.program} {word} --help explains one", ""]
        for heading, group in self.groups.items():
            lines += [f"{heading}:"] if heading else []
            lines += [f"  {name:{width}}{verb.text}" for name, verb in group.items()]
            lines.append("")
        return "\n".join([*lines, self.more])

    def options(self) -> type[object]:
        """The options of all verbs as one type, a union for tyro. Loads all modules."""
        from typing import Annotated, Any, Union

        import tyro

        kinds: list[Any] = []
        for name, verb in self.verbs.items():
            module = importlib.import_module(self.target(name)[0])
            kind = module.MENU.options() if verb.menu else getattr(module, f"{name.capitalize()}Options")
            kinds.append(Annotated[kind, tyro.conf.subcommand(name, description=verb.text)])
        union: Any = Union[tuple(kinds)]  # noqa: UP007  (as many as there are)
        return union

    def completion(self, shell: str) -> int:
        """Print the script that completes verbs and options in a shell. Returns the exit code."""
        if shell not in SHELLS:
            return fail(f"--print-completion takes {', '.join(SHELLS[:-1])} or {SHELLS[-1]}, not {shell!r}")
        import tyro

        with drawing(), contextlib.suppress(SystemExit):  # after printing
            tyro.cli(self.options(), prog=self.program, args=["--tyro-write-completion", shell, "-"])
        return 0


def fail(sentence: str, code: int = 2) -> int:
    """Say on standard error what was wrong and return the exit code."""
    print(shown(f"fairstep: {sentence}"), file=sys.stderr)
    return code
