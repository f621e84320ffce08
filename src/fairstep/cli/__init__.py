"""The verbs: the only room that knows the screen.

``fairstep VERB --help`` explains a verb. Exit codes: 0 done, 1 the run or check failed, 2 bad input (one sentence on
standard error), 130 stopped by Ctrl-C. What decides or computes anything belongs to another room.
"""

from __future__ import annotations

import os
import sys

from fairstep.cli.shared.dispatch import Menu, Verb, fail
from fairstep.cli.shared.shown import harmless

MENU = Menu(
    title="fairstep: fair benchmarks for language-model pretraining optimizers",
    groups={
        "see it work": {
            "demo": Verb("a contest of four optimizers on this machine in minutes, ending in a verdict and a page"),
        },
        "compare optimizers": {
            "compare": Verb("tune contestants with equal effort, repeat the winners on fresh seeds, print the verdict"),
            "judge": Verb("a verdict on runs that you already have: tables, logs, trackers' files"),
            "study": Verb("contestants in many cells, tuned by a protocol of the papers", menu=True),
            "report": Verb("one self-contained HTML page from one store or several"),
            "store": Verb("check that the files of a store fit together; train some runs again", menu=True),
        },
        "decide before spending": {
            "recommend": Verb("which optimizer for a workload, with hyperparameters, speedup, memory and the reasons"),
            "design": Verb("how many seeds a difference needs, with the looks on the way, in tokens and hours"),
            "plan": Verb("what a run would cost: parameters, FLOPs, memory by part, time"),
        },
        "read the two papers": {
            "claims": Verb("what the two papers and a public track claim, checked on their numbers and on your runs"),
            "published": Verb("the two papers' numbers, and the track's results with our intervals"),
        },
        "train and use one model": {
            "data": Verb(
                "prepare, inspect, list and remove corpora: text, Hugging Face datasets, token files", menu=True
            ),
            "model": Verb("check a model, ours or anybody's, before it is trained", menu=True),
            "train": Verb("one training run"),
            "export": Verb("a run's model as a folder that Hugging Face Transformers reads"),
            "eval": Verb("downstream tasks of a run through lm-eval"),
        },
        "know the optimizers": {
            "optimizers": Verb("the built-in optimizers and their hyperparameters"),
            "doctor": Verb("is an optimizer, ours or anyone's, fit to compete?"),
        },
    },
    more="""\
FAIRSTEP_DEBUG=1 shows where in the code an error was raised.

examples:
  fairstep demo
  fairstep compare adamw muon --data 'texts/*.txt' --store runs/mine

completion of verbs and options in a shell (bash, zsh, fish):
  fairstep --print-completion bash > ~/.local/share/bash-completion/completions/fairstep
  fairstep --print-completion zsh > ~/.zfunc/_fairstep        with fpath+=~/.zfunc before compinit
""",
)

VERBS = MENU.verbs


def main(arguments: list[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] in (["--version"], ["-V"], ["version"]):
        from fairstep import __version__

        print(f"fairstep {__version__}")
        return 0
    try:
        with harmless():
            if arguments[:1] == ["--print-completion"]:
                return MENU.completion("".join(arguments[1:2]))
            return MENU.run(arguments)
    except KeyboardInterrupt:
        return fail("stopped; no finished run is lost, and the same command does the rest", 130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if os.environ.get("FAIRSTEP_DEBUG"):
            raise
        return fail(_sentence(error))
    except Exception as error:  # the last net: nobody's input may end in a traceback
        if os.environ.get("FAIRSTEP_DEBUG"):
            raise
        what = f"{type(error).__name__}: {_sentence(error)}" if str(error) else type(error).__name__
        return fail(f"this is a bug ({what}); FAIRSTEP_DEBUG=1 shows where, and finished runs are kept")


def _sentence(error: Exception) -> str:
    """Errors of our rooms are sentences already; pydantic's and the system's are made into one."""
    if type(error).__name__ == "ValidationError":
        from pydantic import ValidationError

        from fairstep.runs.frozen import explain

        assert isinstance(error, ValidationError)
        return explain(error)
    if isinstance(error, OSError) and error.errno:
        from fairstep.runs.files import sentence_of

        return sentence_of(error)
    return " ".join(str(error).split())
