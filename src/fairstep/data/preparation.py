"""From what the user names to a prepared corpus in the cache.

A source is text (files and globs, ``stdlib``, ``hf:...``, ``package:...``), token files of other trainers (``*.bin``),
a prepared corpus by name or folder, or a mixture: several sources, each with its weight behind an equals sign.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fairstep.data import bpe, hub, packages, tokenizer
from fairstep.data.build import VALIDATION_SHARE, Recipe, build
from fairstep.data.cache import check_name, corpora, find_corpus, give_name
from fairstep.data.corpus import Corpus
from fairstep.data.documents import STDLIB, Collection, find
from fairstep.data.errors import DataError
from fairstep.data.foreign import register
from fairstep.data.formats import COLUMN, Form
from fairstep.data.mixture import mix, weighted
from fairstep.data.survey import Progress


@dataclass(frozen=True)
class _Settings:
    """What `prepare` was asked for, for every part of a mixture alike."""

    vocabulary: int
    tokenizer: str
    form: Form
    validation_share: float
    limit: hub.Limit
    workers: int
    cache: Path | None
    report: Progress
    name: str = ""  # of a corpus that is made now


def prepare(
    source: str | Sequence[str] | None = None,
    *,
    vocabulary: int = 512,
    tokenizer: str = tokenizer.OWN,
    validation: Mapping[str, str] | None = None,
    validation_share: float = VALIDATION_SHARE,
    column: str = COLUMN,
    format: str = "auto",
    encoding: str = "utf-8",
    max_tokens: int = 0,
    max_bytes: int = 0,
    name: str = "",
    workers: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """The corpus of a source (default: the standard library), made unless the cache has it.

    `tokenizer` is "bpe" (trained on the text, with `vocabulary` tokens), "bytes", "gpt2", a tokenizer file or the name
    of a corpus. `validation` gives further validation sets by name; `validation_share` is the part of the text that is
    kept for the own one; `column` holds the text in JSON, CSV, parquet and Hugging Face data. `format` says what files
    hold whose names do not ("text", "json", "csv", "tsv", "parquet"), `encoding` their characters. `max_tokens` and
    `max_bytes` end a stream from Hugging Face (0: they do not). `workers` processes do the work (0: one a core; small
    texts take none). `name` is one by which the corpus is found later, and which no other corpus has.

    `progress` is called with a stage ("downloading", "reading", "copying", "training the tokenizer", "encoding") and
    the fraction of it that is done. Raises DataError with one sentence; work that was done by then is not lost.
    """
    if tokenizer == "bpe":
        bpe.check_vocabulary(vocabulary)
    if not 0 < validation_share < 1:
        raise DataError(f"the share of validation must be between 0 and 1, not {validation_share}")
    if workers < 0:
        raise DataError(f"the number of workers must be at least 0, not {workers}")
    form = Form(column, format, encoding)
    form.check()
    if name:
        check_name(name)
    report = progress or (lambda stage, fraction: None)
    limit = hub.Limit(max_tokens, max_bytes)
    settings = _Settings(vocabulary, tokenizer, form, validation_share, limit, workers, cache, report)
    sources = [STDLIB] if source is None else [source] if isinstance(source, str) else list(source)
    corpus = _mixture(sources, validation or {}, settings, name)
    if name:
        give_name(corpus, name, cache)
    return corpus


def _mixture(sources: list[str], validation: Mapping[str, str], settings: _Settings, name: str) -> Corpus:
    """One corpus of one source, or of several with weights; the first part's tokenizer is every part's."""
    parts = weighted(sources)
    if not parts:
        corpus = _single(sources, replace(settings, name=name))
        if not validation:
            return corpus
        made = [(corpus, 1.0)]
    else:
        made = [(_single([parts[0][0]], settings), parts[0][1])]
        settings = _with_tokenizer_of(made[0][0], settings)
        made += [(_single([source], settings), weight) for source, weight in parts[1:]]
    settings = replace(_with_tokenizer_of(made[0][0], settings), validation_share=1.0)
    further = {each: _single([source], replace(settings, name=each)) for each, source in validation.items()}
    return mix(made, further, settings.cache, name)


def _with_tokenizer_of(corpus: Corpus, settings: _Settings) -> _Settings:
    if settings.tokenizer != "bpe" or not corpus.has_tokenizer:
        return settings
    return replace(settings, tokenizer=str(corpus.directory))


def _single(sources: list[str], settings: _Settings) -> Corpus:
    """The corpus of sources that belong together."""
    cache = settings.cache
    sources = [
        str(packages.text_of(source, cache)) if source.startswith(packages.PREFIX) else source for source in sources
    ]
    if len(sources) == 1 and sources[0] != STDLIB:
        (source,) = sources
        if source.startswith(hub.PREFIX):
            made = _tokenizer(settings)
            collection = hub.download(source, settings.form.column, settings.limit, made, cache, settings.report)
            return _built(collection, settings)
        if not Path(source).expanduser().is_file() and (found := find_corpus(source, cache, settings.vocabulary)):
            _check_tokenizer(found, settings)
            return found
    if settings.limit:
        raise DataError("a limit of tokens or bytes is for hf: sources; of files, name fewer")
    if all(source.endswith(".bin") for source in sources):
        made, validation = _tokenizer(settings), settings.validation_share >= 1
        return register(sources, made, validation, cache, settings.report, settings.name)
    try:
        collection = find(sources, settings.form)
    except DataError as error:
        known = sorted({name for name, _ in corpora(cache)})
        if len(sources) == 1 and known and "does not exist" in str(error) and "/" not in sources[0]:
            raise DataError(f"{error}, or name a prepared corpus: {', '.join(known)}") from None
        raise
    return _built(collection, settings)


def _built(collection: Collection, settings: _Settings) -> Corpus:
    recipe = Recipe(settings.vocabulary, _tokenizer(settings), settings.validation_share)
    named = replace(collection, name=settings.name or collection.name)
    return build(named, recipe, settings.cache, settings.workers, settings.report)


def _tokenizer(settings: _Settings) -> tokenizer.Tokenizer | None:
    """None: the corpus's own BPE."""
    name = settings.tokenizer
    if name in (tokenizer.OWN, "bytes", "gpt2") or Path(name).is_file():
        return tokenizer.named(name)
    found = find_corpus(name, settings.cache, settings.vocabulary)
    return found.open_tokenizer() if found else tokenizer.named(name)


def _check_tokenizer(corpus: Corpus, settings: _Settings) -> None:
    """A prepared corpus has its tokenizer; whoever asks for another one by name is told so."""
    wanted = _tokenizer(settings)
    if wanted and corpus.has_tokenizer and tokenizer.digest_of(wanted) != tokenizer.digest_of(corpus.open_tokenizer()):
        raise DataError(
            f"the corpus {corpus.name} was prepared with another tokenizer than {settings.tokenizer}: prepare its text "
            "again with this one"
        )
