"""Other people's runs in, trials out: tables, logs and trackers' files, read by names and never run.

``formats`` has one small file a format. ``files`` finds them, ``columns`` and ``names`` find out what they mean,
``rows`` makes runs, ``phases`` tells a search from its finals and grades it, ``contest`` refuses what contradicts.
No statistics, no screen and no training belong here. May import fairstep.runs and fairstep.analysis; never torch.
"""

from fairstep.imported.columns import Asked
from fairstep.imported.contest import Imported
from fairstep.imported.judged import Options, imported
from fairstep.imported.phases import MEANING, Grade
from fairstep.imported.source import InputError

__all__ = ["MEANING", "Asked", "Grade", "Imported", "InputError", "Options", "imported"]
