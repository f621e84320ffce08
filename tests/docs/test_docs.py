"""The documentation is true: links lead somewhere, commands exist, tables name everything, pages need no network.

The tests of built pages look at docs/_build/html, which ``make docs`` writes before it runs this folder.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fairstep import optim
from fairstep.model import PRESETS
from fairstep.model.shapes import counts, flops_per_token
from fairstep.runs import RunSpec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HTML = DOCS / "_build" / "html"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "_generated", "optimizers"} & set(path.parts))
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "studies" / "README.md", *PAGES]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module(path: Path) -> ModuleType:
    """A script that is no part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def generate() -> Any:
    sys.path.insert(0, str(DOCS))  # for what it imports from beside it
    return module(DOCS / "generate.py")


@cache
def help_of(*verb: str) -> str:
    return str(sys.modules["generate"].said(*verb, "--help"))


def targets(page: Path) -> set[Path]:
    """The files that a page links to."""
    return {(page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    missing = [name_of(target) for target in targets(page) if not target.exists() and "optimizers/" not in str(target)]
    assert not missing


def test_every_page_is_two_clicks_from_the_readme() -> None:
    first = targets(ROOT / "README.md")
    second = {target for page in first if page.suffix == ".md" for target in targets(page)}
    far = [name_of(page) for page in PAGES if page.resolve() not in first | second]
    assert not far


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) < 200


@pytest.mark.parametrize("page", [page for page in WRITTEN if page.name != "log.md"], ids=name_of)
def test_the_prose_keeps_the_house_rule(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    text = text.partition("<!-- generated")[0]
    if page.name == "CONTRIBUTING.md":  # which states the rule
        text = text.replace('"those of", "that of", "what is its own", "that it has"', "")
    words = " ".join(text.split())
    assert not re.findall(r"\b(?:those of|that of|what is its own|that it has)\b", words)


def commands(page: Path) -> list[str]:
    """The lines of code blocks that call fairstep."""
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^(?:    |\$ )?(?:torchrun [^\n]*? -m )?(fairstep [a-z][^\n#`]*)", text, re.MULTILINE)
    return [line.strip() for line in lines if not line.startswith(("fairstep settles", "fairstep implements"))]


@pytest.mark.parametrize("page", [page for page in WRITTEN if page.name != "log.md"], ids=name_of)
def test_commands_exist_with_their_options(page: Path, generate: Any) -> None:
    verbs = generate.verbs()
    for command in commands(page):
        words = shlex.split(command.replace("...", ""))[1:]
        if words[0] not in verbs and page.name == "README.md" and len(words) > 1 and words[1].isalpha():
            continue  # a sentence
        assert words[0] in verbs, command
        actions = [words[1]] if len(words) > 1 and words[1] in verbs[words[0]] else []
        offered = help_of(words[0], *actions)
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word)}\b", offered), f"{command}: {word} is no option"


def test_the_reference_names_everything(generate: Any) -> None:
    table = generate.preset_table().splitlines()
    for name, preset in PRESETS.items():
        (row,) = [row for row in table if row.startswith(f"| `{name}` |")]
        assert f"| {counts(preset.model).total:,} " in row
        assert f"| {counts(preset.model).matrix:,} | {flops_per_token(preset.model):,} |" in row
    listed = generate.optimizer_table()
    for name, spec in optim.specs().items():
        assert f"[{name}](optimizers/{name}.md)" in listed
        page = generate.optimizer_page(spec)
        for hyperparameter in spec.hyperparameters:
            assert f"| `{hyperparameter}` |" in page
        assert spec.text.splitlines()[0].split()[0].strip(":*") in page
    fields = generate.fields(RunSpec)
    for field in (*RunSpec.model_fields, "warmup_steps", "micro_batch_sequences", "hyperparameters", "fingerprint"):
        assert f"| `{field}` |" in fields
    assert {"demo", "compare", "study", "train"} <= set(generate.verbs())
    assert {"plan", "run", "status"} <= set(generate.verbs()["study"])


def test_a_docstring_becomes_a_page_without_losing_its_equations() -> None:
    docstrings: Any = module(DOCS / "docstrings.py")
    text = "Lion: the sign.\n\n    u  = sign(b m_1 + g)\n    m <- b_2 m\n\nA *star* and [1, 2] and x_y|z, ``a|b``: https://x.y/z_w.\n"
    page = docstrings.markdown(text)
    assert "```text\nu  = sign(b m_1 + g)\nm <- b_2 m\n```" in page
    assert r"A \*star\* and \[1, 2\] and x\_y\|z, `aorb`: <https://x.y/z_w>." in page
    lines = text.splitlines()
    docstrings.restructure(None, "class", "", None, None, lines)
    assert lines[:6] == ["Lion: the sign.", "", "::", "", "    u  = sign(b m_1 + g)", "    m <- b_2 m"]


def test_keys_of_json_are_flattened(generate: Any) -> None:
    value = [{"a": None, "b": {"c": 1.5}}, {"a": "x", "d": [1], "hyperparameters": {"lr": 1}}]
    kinds = {key: kind for key, (kind, _) in generate.keys_of(value).items()}
    assert kinds == {"[].a": "text", "[].b.c": "number", "[].d": "list", "[].hyperparameters": "table by name"}


@pytest.mark.slow
def test_the_table_of_claims_is_what_the_code_says() -> None:
    text = (DOCS / "results" / "claims.md").read_text(encoding="utf-8")
    assert module(ROOT / "tools" / "claims_page.py").table().strip() in text


def test_built_pages_load_nothing_from_elsewhere() -> None:
    if not (HTML / "index.html").exists():
        pytest.skip("the site is not built; run make docs")
    pages = [page.read_text(encoding="utf-8") for page in HTML.rglob("*.html")]
    assert len(pages) > 40
    for text in pages:
        loaded = re.findall(r"""<(?:script|img|iframe|source|video|audio|object|embed)\b[^>]*?https?://[^>]*>""", text)
        loaded += re.findall(
            r"""<link\b(?=[^>]*rel=["'](?:stylesheet|preload|preconnect|icon))[^>]*https?://[^>]*>""", text
        )
        assert not loaded
    for sheet in HTML.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8"))
    assert any("<math" in text for text in pages)
    assert not any(re.search(r"<script[^>]*mathjax", text, re.IGNORECASE) for text in pages)
