"""A published run (``--model semenov/124m/soap``) on the text and the machine that the options name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import (
    COURSE,
    WorkloadOptions,
    budget_of,
    data_table,
    execution,
    hyperparameters,
)
from fairstep.cli.shared.texts import corpus_of, text_of
from fairstep.cost.precision import auto_precision
from fairstep.runs import RunSpec, machine
from fairstep.study import layout
from fairstep.study.published_runs import Variant, run_preset


def published_run(options: WorkloadOptions, given: Mapping[str, Any], seed: int, variant: Variant) -> RunSpec:
    """The run, its text prepared if it was not yet; says what it does not repeat. Raises ValueError with one sentence.

    ``given`` replaces published hyperparameters.
    """
    defaults = {field.name: field.default for field in fields(options)}
    for name in COURSE:  # a published run brings them along
        if getattr(options, name) != defaults[name]:
            model = options.model.rpartition("/")[0]
            raise ValueError(
                f"--{name.replace('_', '-')} is part of {options.model}; to change it, train the model {model} "
                "with an optimizer of your choice"
            )
    published = run_preset(options.model, options.chinchilla or 1, variant)
    tokens = budget_of(options.tokens, options.chinchilla, published.model) or published.tokens
    complete = hyperparameters(published.optimizer, {**published.hyperparameters, **given})
    data, context = data_table(options), published.model.context
    corpus = corpus_of(data)
    text = text_of(corpus, data, tokens, context)
    wanted = options.evaluation_tokens
    wanted = published.final_tokens if wanted == defaults["evaluation_tokens"] else wanted
    here = machine()
    for remark in published.remarks:
        screen.say(f"{published.name}: {remark}")
    return published.spec(
        text.data,
        tokens=tokens,
        hyperparameters=complete,
        seed=seed,
        precision=auto_precision(here) if options.precision == "auto" else options.precision,
        batch_sequences=options.batch_sequences,
        validation_tokens=min(wanted, text.evaluable(context)),
        execution=execution(
            options, layout(here, published.model.parameters(corpus.vocabulary), threads=options.threads)
        ),
    )
