"""The fuel: text in, batches of tokens out.

``prepare`` turns the standard library of the running Python, the user's own files, Hugging Face datasets or token files
of other trainers into a `Corpus` in the cache: documents split into training and validation by the hash of their text,
a tokenizer, and shards of tokens; or several of these into a mixture. ``open_corpus`` opens it again by its identity
(fingerprint and vocabulary), which is all that a run's specification has to record. `Batches` and `validation_windows`
say which tokens a step and an evaluation see.

    corpus = prepare("texts/*.txt", vocabulary=1024)
    batches = Batches(corpus.train(), batch_sequences=32, context=256, seed=0)
    batches.batch(step)  # int64, (32, 257), a pure function of (seed, step)
    sets = corpus.validation_sets()  # name: tokens, for validation_windows; the first is the corpus's own

``batches`` is all of that in one call, for trainers of others.

What may not go in: models, training, anything of torch (NumPy arrays leave this room, the training room converts
them), and anything that prints.
"""

from fairstep.data.batches import Batches, validation_windows
from fairstep.data.cache import corpora, find_corpus
from fairstep.data.corpus import Corpus, cache_directory, check_budget, open_corpus
from fairstep.data.errors import DataError
from fairstep.data.preparation import prepare
from fairstep.data.reading import TextBatches, batches

__all__ = [
    "Batches",
    "Corpus",
    "DataError",
    "TextBatches",
    "batches",
    "cache_directory",
    "check_budget",
    "corpora",
    "find_corpus",
    "open_corpus",
    "prepare",
    "validation_windows",
]
