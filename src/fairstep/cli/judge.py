"""``fairstep judge``: a verdict on runs that fairstep did not train."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fairstep.cli.judging import Judgement, judge, sentences
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import check_written, parse

DROP = ("lr", "memory", "optimizer", "step time", "tokens", "trials")
"""Columns that a narrow terminal does not show, the first of them left out first."""


@dataclass(frozen=True)
class JudgeOptions:
    """Judge runs that you already have: which contestants are faster, slower or not separable from the baseline, with
    an interval, and how good the evidence is.

    Reads CSV, TSV, JSON lines and parquet (a row is a run, or an evaluation), W&B (exported CSVs, offline runs),
    trackio, TensorBoard, trainer_state.json of the Hugging Face Trainer, modded-nanogpt's logs, stores of fairstep, and
    other text by --pattern. Nothing is trained, and nothing is read but these files.

    Example: fairstep judge results.csv --baseline adamw

    Example: fairstep judge logs/ --baseline adamw --where 'lr == 0.003' --report verdict.html

    Example: fairstep judge track3/ --baseline muon --slope 0.0045/100steps --rule track3
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Files and folders with the runs."""
    baseline: str = ""
    """The contestant that the others are measured against. Default: adamw, if it is one."""
    loss: str = ""
    """Column of the validation loss, in nats per token. This and the next four are found by common names."""
    contestant: str = ""
    """Column of the contestant; several, with commas between, are joined. file and folder stand for the names."""
    seed: str = ""
    """Column of the seed. Contestants that share seeds are compared in pairs."""
    step: str = ""
    """Column of the step."""
    tokens: str = ""
    """Column of the tokens trained."""
    hyperparameters: str = ""
    """Columns that a search varied, with commas between; none: there are none. Default: found by common names."""
    where: str = ""
    """Only the runs, or rows, for which this holds: "lr == 0.003 and name != 'old'". step, tokens and loss are of the
    end of a run."""
    rows: Literal["", "run", "evaluation"] = ""
    """What a row of a table is. Default: found out."""
    slope: str = ""
    """Nats that the loss falls by for more steps or tokens: 0.0045/100steps, perhaps with ": source". Compares runs of
    different lengths and gives a speedup where the baseline was not trained at several lengths."""
    at: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Read the loss at this step and not at the end: a step, or CONTESTANT=STEP; may be given several times."""
    rule: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Beside our verdict, what another rule says: track3 or effective-speedup; may be given several times."""
    seeds: str = ""
    """The design of seeds that was declared before the runs, such as 3..8: looks were taken on the way. Default: one
    look at all of them."""
    format: str = ""
    """Read files of this format only: tables, modded_nanogpt, tensorboard, trainer_state, trackio, wandb_offline,
    stores."""
    pattern: str = ""
    """Regular expression for other text, with the groups step and loss: 'step (?P<step>\\d+).*val (?P<loss>\\S+)'.
    Further groups are columns."""
    report: Path | None = None
    """Where to write the page."""
    json: bool = False
    """Print the verdicts as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(JudgeOptions, "judge", arguments)
    check_written("--report", options.report)
    named = [name.strip() for name in options.hyperparameters.split(",") if name.strip()]
    tuned = None if not named else [] if named == ["none"] else named
    judged = judge(
        options.files,
        options.baseline,
        loss=options.loss,
        contestant=[name.strip() for name in options.contestant.split(",") if name.strip()],
        seed=options.seed,
        step=options.step,
        tokens=options.tokens,
        hyperparameters=tuned,
        where=options.where,
        rows=options.rows,
        slope=options.slope,
        rule=options.rule,
        at=options.at,
        seeds=options.seeds,
        format=options.format,
        pattern=options.pattern,
    )
    if not options.json:
        show(judged)  # first, for the page may have no room
    page = None if options.report is None else judged.report(options.report).absolute()
    if options.json:
        print(json.dumps(judged.result | ({"report": str(page)} if page else {})))
    elif page is not None:
        print(f"\nreport: {page}")
    return 0


def show(judged: Judgement) -> None:
    screen.out(f"{judged.headline}.\n")
    heads, rows = judged.table()
    screen.print_table("", heads, rows, drop=DROP)
    for line in sentences(judged.result):
        screen.out(line)
