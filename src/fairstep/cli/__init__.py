"""The verbs: the only room that knows the screen.

``fairstep VERB --help`` explains a verb. A verb's module is loaded when it is called, so that ``fairstep --help``
answers at once. Exit codes: 0 done, 1 the run or check failed, 2 bad input (one sentence on standard error),
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys

VERBS = {
    "demo": "a contest of four optimizers on this machine in minutes, ending in a verdict and a page",
    "compare": "tune contestants with equal effort, repeat the winners on fresh seeds, print the verdict",
    "study": "contestants in many cells, tuned by a protocol of the papers",
    "train": "one training run",
    "plan": "what a run would cost: parameters, FLOPs, memory by part, time",
    "data": "prepare, inspect and list corpora: text, Hugging Face datasets, token files, mixtures",
    "export": "a run's model as a folder that Hugging Face Transformers reads",
    "eval": "downstream tasks of a run through lm-eval",
    "report": "one self-contained HTML page from a store",
    "claims": "what the two papers claim, checked on their numbers and on your runs",
    "published": "the two papers' numbers",
    "recommend": "which optimizer for a workload, with hyperparameters, speedup, memory and the reasons",
    "optimizers": "the built-in optimizers and their hyperparameters",
    "doctor": "is an optimizer, ours or anyone's, fit to compete?",
}

HELP = """fairstep: fair benchmarks for language-model pretraining optimizers

usage: fairstep VERB [options]        fairstep VERB --help explains one

{verbs}

examples:
  fairstep demo
  fairstep compare adamw muon --data 'texts/*.txt' --store runs/mine
"""


def main(arguments: list[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:11}{text}" for verb, text in VERBS.items())), end="")
        return 0
    if arguments[0] == "--version":
        from fairstep import __version__

        print(f"fairstep {__version__}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(VERBS)}"
        return fail(f"unknown verb {verb!r}; {hint}")
    try:
        return int(importlib.import_module(f"fairstep.cli.{verb}").main(rest) or 0)
    except KeyboardInterrupt:
        return fail("stopped; no finished run is lost, and the same command does the rest", 130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if os.environ.get("FAIRSTEP_DEBUG"):
            raise
        return fail(_sentence(error))


def fail(sentence: str, code: int = 2) -> int:
    """Say on standard error what was wrong and return the exit code."""
    if os.environ.get("RANK", "0") == "0":  # of several processes under torchrun one speaks
        print(f"fairstep: {sentence}", file=sys.stderr)
    return code


def _sentence(error: ValueError | OSError) -> str:
    """Errors of our rooms are sentences already; pydantic's and the system's are made into one."""
    if type(error).__name__ == "ValidationError":
        from pydantic import ValidationError

        from fairstep.runs.frozen import explain

        assert isinstance(error, ValidationError)
        return explain(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        which = f" ({error.strerror})" if error.strerror != os.strerror(errno.ENOSPC) else ""
        return f"the disk is full{which}; nothing that was finished is lost, make room and run the same command again"
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split())
