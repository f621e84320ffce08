"""Texts for runs: prepared with a progress bar, and checked against the budgets that will read them."""

from __future__ import annotations

from fairstep.cli.shared import screen
from fairstep.data import Corpus, DataError, check_budget, prepare
from fairstep.runs import DataSpec
from fairstep.study.file.cells import Text
from fairstep.study.file.schema import DataTable
from fairstep.study.file.study import AnyStudy, CommandStudy


def corpus_of(table: DataTable, name: str = "the text") -> Corpus:
    """The corpus from the cache, or made now. Raises ValueError (DataError) or OSError."""
    with screen.stages(f"preparing {name}") as report:
        return prepare(
            table.source or None,
            vocabulary=table.vocabulary,
            tokenizer=table.tokenizer,
            validation=dict(table.validation),
            progress=report,
        )


def text_of(corpus: Corpus, table: DataTable, tokens: int, context: int) -> Text:
    """The corpus as runs of up to ``tokens`` tokens read it; says when they read it more than once.

    Raises DataError for a text that is too short, or that is not the one whose fingerprint the table holds.
    """
    if table.fingerprint not in ("", corpus.fingerprint):
        raise DataError(
            f"the text {corpus.name} has the fingerprint {corpus.fingerprint[:16]}..., and the study is of the text "
            f"{table.fingerprint[:16]}...; give that text, or leave the fingerprint out"
        )
    identity = DataSpec(
        name=corpus.name, fingerprint=corpus.fingerprint, vocabulary=corpus.vocabulary, source=tuple(table.source)
    )
    text = Text(identity, corpus.validation_tokens)
    epochs = check_budget(corpus, tokens, context, text.evaluable(context), max_epochs=table.epochs)
    if epochs > 1:
        screen.say(f"{tokens:,} tokens read {corpus.name} {epochs:.2f} times")
    return text


def texts_of(study: AnyStudy) -> dict[str, Text]:
    """All texts of a study by their names in it; a trainer has its own. Raises StudyError with the line of the text."""
    if isinstance(study, CommandStudy):
        return {}
    assumed = study.contest()
    longest = max((1.0, *assumed.budgets))
    texts = {}
    for name, table in study.texts.items():
        cells = [workload for workload in assumed.own_cells.values() if workload.data.name == name]
        if not cells:
            continue
        try:
            tokens = max(round(workload.tokens * longest) for workload in cells)
            context = max(workload.model.context for workload in cells)
            texts[name] = text_of(corpus_of(table, name), table, tokens, context)
        except (DataError, ValueError, OSError) as error:
            raise study.lines.error(["data", name], str(error)) from None
    return texts
