"""The one error of this room.

Everything a user can get wrong about data (a missing file, a corpus too small for a budget, a damaged cache) ends
in a `DataError`, whose message is one sentence: what is wrong, which value, what would be right. Mistakes of a
programmer stay ordinary exceptions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DataError(ValueError):
    """Data that cannot be used, in one sentence for the person who named it."""


def damaged(directory: Path, what: str) -> DataError:
    return DataError(
        f"the prepared corpus {directory} is damaged ({what}): delete that folder and prepare the corpus again"
    )


def readable(error: Exception) -> str:
    """The reason of an operating-system error without its number and path: "No space left on device"."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Name the extra of a package that is not installed."""
    try:
        yield
    except ImportError as error:
        raise DataError(f"{what} needs the package {error.name}: pip install 'fairstep[{extra}]'") from None
