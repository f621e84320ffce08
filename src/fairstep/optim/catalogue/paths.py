"""Where anyone's optimizer is: ``package.module:Class``, and the other ways in which people write it.

package.module:Class        the name under which it is recorded
package.module.Class        as Python writes it
folder/module.py:Class      as the shell completes it, in the current folder
mine=package.module:Class   with an alias for this command
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from fairstep.optim.catalogue.contained import contained
from fairstep.optim.spec import UnknownOptimizerError, did_you_mean

_ALIAS = re.compile(r"[A-Za-z_][\w-]*")


def alias_of(text: str) -> tuple[str, str]:
    """(alias or "", what it stands for). Raises UnknownOptimizerError for an alias that is no word."""
    alias, equals, name = text.rpartition("=")
    if equals and not (_ALIAS.fullmatch(alias) and name):
        raise UnknownOptimizerError(f"an alias is a word, as in mine=package.module:Class, not {text!r}")
    return alias, name


def dotted(name: str) -> str:
    """``package.module:Class`` of ``package.module.Class`` if there is such a package; else nothing."""
    module, _, attribute = name.rpartition(".")
    if not module or attribute == "py" or not all(part.isidentifier() for part in name.split(".")):
        return ""
    _look_in_the_current_folder()
    return f"{module}:{attribute}" if importlib.util.find_spec(name.partition(".")[0]) else ""


def without_class(name: str) -> str:
    """What to write where a name is a file's or a module's, and none of its classes is named; else nothing.

    Nothing is imported: a script may begin to train.
    """
    file = Path(name)
    if not name.endswith(".py"):
        if not name.isidentifier() or name in {*sys.stdlib_module_names, "__main__"}:
            return ""
        _look_in_the_current_folder()
        found = importlib.util.find_spec(name)
        if found is None:
            return ""
        file = Path(found.origin or name)
    elif not file.is_file():
        return f"there is no file {name}"
    try:
        body = ast.parse(file.read_text()).body
    except (OSError, ValueError, SyntaxError):
        body = []
    derived = [node.name for node in body if isinstance(node, ast.ClassDef) and node.bases]
    kind = "file" if name.endswith(".py") else "module"
    return f"{name} is a {kind}; name its class too, such as {name}:{derived[0] if derived else 'Class'}"


def normal(path: str) -> str:
    """``package.module:Class``, also of a file's path. Raises UnknownOptimizerError."""
    place, _, attribute = path.partition(":")
    if place and attribute and (place.endswith(".py") or not _is_module(place)):
        file = Path(place).with_suffix(".py")
        if "/" not in place and Path(place).suffix != ".py":
            raise UnknownOptimizerError(_habit(path))
        if not file.is_file():
            raise UnknownOptimizerError(f"{_habit(path)}; there is no file {file}")
        if not file.resolve().is_relative_to(Path.cwd()):
            raise UnknownOptimizerError(
                f"{file} is not in the current folder: go to its folder, or install its package, and write "
                f"{file.stem}:{attribute}"
            )
        place = ".".join(file.resolve().relative_to(Path.cwd()).with_suffix("").parts).removesuffix(".__init__")
    if not attribute or not _is_module(place):
        raise UnknownOptimizerError(_habit(path))
    return f"{place}:{attribute}"


def load(path: str) -> Any:
    """The object that ``package.module:Name`` means. Raises UnknownOptimizerError."""
    name, _, attribute = path.partition(":")
    if "+" in attribute:
        raise UnknownOptimizerError(f"wrappers go around fairstep's own optimizers, and {path!r} asks for another's")
    module = _module(name)
    try:
        target = functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        submodule = f"{name}.{attribute}"
        if hasattr(module, "__path__") and _is_module(submodule) and importlib.util.find_spec(submodule):
            target = _module(submodule)
        else:
            classes = _classes(module)
            near = did_you_mean(attribute, classes) or ("; it has " + ", ".join(classes[:8])) * bool(classes)
            raise UnknownOptimizerError(f"{name} has no {attribute!r}{near}") from None
    if isinstance(target, ModuleType):
        classes = _classes(target)
        such = f", such as {target.__name__}:{classes[0]}" if classes else ""
        raise UnknownOptimizerError(f"{target.__name__} is a module; name its class too{such}")
    return target


def _classes(module: ModuleType) -> list[str]:
    """What may be meant in a module: its classes that take steps."""
    return [name for name, value in vars(module).items() if isinstance(value, type) and hasattr(value, "step")]


def _module(name: str) -> ModuleType:
    _look_in_the_current_folder()
    try:
        with contained():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        where = "in the installed packages or the current folder"
        needed = "" if name.startswith(missing) else f", which {name} imports"
        raise UnknownOptimizerError(f"there is no module {missing!r} {where}{needed}") from None
    except (Exception, SystemExit) as error:
        raise UnknownOptimizerError(f"{name} cannot be imported: {said(error)}") from error


def _look_in_the_current_folder() -> None:
    """`python -m` does so by itself, the console script does not."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))


def _is_module(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _habit(path: str) -> str:
    return f"an optimizer of your own is package.module:Class, not {path!r}"


def said(error: BaseException) -> str:
    """An error of someone else's code in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")[:400]
