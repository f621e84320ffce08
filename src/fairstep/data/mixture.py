"""Mixtures: a corpus that is made of others, each with its share of the tokens, and of further validation sets.

A mixture is a corpus like any other. Its folder holds only meta.json. Its fingerprint covers the fingerprints and
shares of its parts, so a run records that fingerprint alone.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairstep.data.cache import existing, install, locked, writing
from fairstep.data.corpus import Corpus, cache_directory, corpus_directory
from fairstep.data.errors import DataError
from fairstep.data.meta import VERSION_2, digest
from fairstep.data.tokenizer import digest_of

MOST_PARTS = 32  # see fairstep.data.order.quotas


def weighted(sources: Sequence[str]) -> list[tuple[str, float]]:
    """Sources and weights, when they are written ``source=weight``; none when no source has a weight."""
    found = []
    for source in sources:
        name, equals, weight = source.rpartition("=")
        try:
            weighs = equals and name and not name.endswith("=") and not Path(source).exists()  # NAME==VERSION is none
            value = float(weight) if weighs else None
        except ValueError:
            value = None
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise DataError(f"the weight in {source!r} must be a positive number")
        found.append((name if value is not None else source, value))
    without = [source for source, value in found if value is None]
    if without and len(without) < len(found):
        raise DataError(f"{without[0]} has no weight, but others have: write {without[0]}=WEIGHT, or give none")
    return [(source, value) for source, value in found if value is not None]


def mix(
    parts: Sequence[tuple[Corpus, float]], further: Mapping[str, Corpus], cache: Path | None, name: str = ""
) -> Corpus:
    """The corpus of some parts and weights. Raises DataError when they do not go together."""
    _check([corpus for corpus, _ in parts], further)
    total = math.fsum(weight for _, weight in parts)
    shares = [weight / total for _, weight in parts]
    vocabulary = parts[0][0].vocabulary
    recipe: dict[str, Any] = {
        "parts": [
            {"name": part.name, "fingerprint": part.fingerprint, "share": share}
            for (part, _), share in zip(parts, shares, strict=True)
        ],
        "further": [{"name": name, "fingerprint": corpus.fingerprint} for name, corpus in further.items()],
    }
    first = digest(recipe)
    # The parts may be named after files; the names of further sets are what their results are called.
    fingerprint = VERSION_2 + digest(
        recipe | {"parts": [[part.fingerprint, share] for (part, _), share in zip(parts, shares, strict=True)]}
    )
    cache = cache or cache_directory()
    directory = corpus_directory(fingerprint, f"mix{vocabulary}", cache)
    with writing(directory.parent), locked(cache, directory.name):
        if found := existing(fingerprint, vocabulary, directory):
            return found
        if found := existing(first, vocabulary, corpus_directory(first, f"mix{vocabulary}", cache)):
            return found  # runs that were begun on it go on with it
        corpora = [corpus for corpus, _ in parts]
        tokens = int(min(corpus.validation_tokens / share for corpus, share in zip(corpora, shares, strict=True)))
        bytes_per_token = math.fsum(c.bytes_per_token * share for c, share in zip(corpora, shares, strict=True))
        facts = {
            "name": name or _name(corpora, shares),
            "fingerprint": fingerprint,
            "vocabulary": vocabulary,
            "train": {
                "documents": sum(corpus.documents - corpus.validation_documents for corpus in corpora),
                "tokens": sum(corpus.train_tokens for corpus in corpora),
            },
            "validation": {
                "documents": sum(corpus.validation_documents for corpus in corpora),
                "tokens": tokens,
                "text_bytes": None if math.isnan(bytes_per_token) else bytes_per_token * tokens,
            },
            "files": {},
            "source": {"parts": len(parts)},
        }
        return install(facts | recipe, directory)


def _check(corpora: Sequence[Corpus], further: Mapping[str, Corpus]) -> None:
    for corpus in [*corpora, *further.values()]:
        if corpus.parts:
            raise DataError(f"{corpus.name} is a mixture itself: name its parts and their weights instead")
    if len(corpora) > MOST_PARTS:
        raise DataError(f"a mixture has at most {MOST_PARTS} parts, not {len(corpora)}")
    names = [corpus.name for corpus in corpora] + list(further)
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"two parts or validation sets are called {min(twice)}: give one of them another name")
    for corpus in corpora:
        for split, tokens in (("training", corpus.train_tokens), ("validation", corpus.validation_tokens)):
            if not tokens:
                raise DataError(f"the corpus {corpus.name} has no {split} tokens, so it cannot be trained on")
    first, *others = [*corpora, *further.values()]
    for other in others:
        if _tokenizer(other) != _tokenizer(first):
            raise DataError(
                f"{first.name} and {other.name} have different tokenizers: prepare {other.name} again with "
                f"--tokenizer {first.name}"
            )


def _tokenizer(corpus: Corpus) -> str:
    """What tells its tokenizer apart; token files that came without one are known by their vocabulary."""
    kind = corpus.tokenizer.get("kind", "bpe")
    return kind if kind.startswith("unknown") or kind == "gpt2" else digest_of(corpus.open_tokenizer()).split(" ")[-1]


def _name(corpora: Sequence[Corpus], shares: Sequence[float]) -> str:
    if len(corpora) == 1:
        return corpora[0].name
    return " + ".join(f"{share:.3g} {corpus.name}" for corpus, share in zip(corpora, shares, strict=True))
