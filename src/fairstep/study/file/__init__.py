"""Study files: from TOML to a contest, and back. Every error names the file and the line."""

from fairstep.study.file.line_numbers import StudyError
from fairstep.study.file.study import Study, read

__all__ = ["Study", "StudyError", "read"]
