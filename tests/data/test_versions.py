"""The second version of the fingerprint is of the texts alone; corpora of the first one stay what they are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fairstep.data import Corpus, DataError, find_corpus, open_corpus, prepare
from fairstep.data.build import Recipe
from fairstep.data.documents import find
from fairstep.data.survey import survey
from fairstep.data.tokenizer import named
from fairstep.runs import DataSpec

Texts = Callable[..., str]
Prose = Callable[[int], str]


def first_version(corpus: Corpus, source: str | list[str], vocabulary: int = 300) -> Corpus:
    """The corpus as it was written before there was a second version."""
    fingerprint = Recipe(vocabulary).fingerprint(survey(find(source), 0, lambda *_: None).first_fingerprint)
    directory = corpus.directory.with_name(f"{fingerprint[:16]}-bpe{vocabulary}")
    shutil.move(corpus.directory, directory)
    meta = json.loads((directory / "meta.json").read_text())
    del meta["digest"]
    meta["fingerprint"] = fingerprint
    (directory / "meta.json").write_text(json.dumps(meta))
    return open_corpus(fingerprint, vocabulary)


def test_names_order_and_copies_do_not_matter(tmp_path: Path, prose: Prose, cache: Path) -> None:
    rows = [json.dumps({"text": prose(seed)}) for seed in range(30)]
    for name, lines in (("a", rows), ("renamed", rows), ("backwards", rows[::-1]), ("copies", rows + rows[:7])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "one.jsonl").write_text("\n".join(rows[:9]), encoding="utf-8")
    (tmp_path / "two.jsonl").write_text("\n".join(rows[9:]), encoding="utf-8")
    sources: list[str | list[str]] = [
        str(tmp_path / f"{name}.jsonl") for name in ("a", "renamed", "backwards", "copies")
    ]
    sources.append([str(tmp_path / "two.jsonl"), str(tmp_path / "one.jsonl")])
    found = [prepare(source, vocabulary=300, cache=tmp_path / str(n)) for n, source in enumerate(sources)]
    assert len({corpus.fingerprint for corpus in found}) == 1
    assert found[0].fingerprint.startswith("v2-")
    assert found[3].source["duplicates"] == 7
    (tmp_path / "less.jsonl").write_text("\n".join(rows[1:]), encoding="utf-8")
    assert prepare(str(tmp_path / "less.jsonl"), vocabulary=300).fingerprint != found[0].fingerprint


def test_a_corpus_of_the_first_version_is_gone_on_with(cache: Path, texts: Texts) -> None:
    """Runs that were begun on it have its fingerprint in their identity."""
    source = texts(30)
    old = first_version(prepare(source, vocabulary=300), source)
    assert (old.fingerprint_version, len(old.fingerprint)) == (1, 64)
    assert prepare(source, vocabulary=300) == old
    assert find_corpus("texts") == old
    shutil.rmtree(old.directory)
    assert prepare(source, vocabulary=300).fingerprint_version == 2


def test_fingerprints_of_the_first_version_are_what_they_were(tmp_path: Path) -> None:
    """By the numbers of the release that wrote them."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"text {name}", encoding="utf-8")
    found = survey(find(str(tmp_path / "*.txt")), 0, lambda *_: None)
    assert found.first_fingerprint == "9ed291f6ff743c9627d4770b174710940a738d59c994394ab729d8e2b8cc8b5e"
    with_bytes = Recipe(300, named("bytes")).fingerprint(found.first_fingerprint)
    assert with_bytes == "c02fe2033e893cb43418442bbfb671081a5328f03e44fd8974dfde42d75ac61f"


def test_mixtures_do_not_depend_on_names_either(tmp_path: Path, texts: Texts, cache: Path) -> None:
    one, two = texts(30, "one"), texts(30, "two", 1_500)
    shutil.copytree(tmp_path / "one", tmp_path / "renamed")
    first = prepare([f"{one}=3", f"{two}=1"], vocabulary=300, cache=tmp_path / "x")
    second = prepare([f"{tmp_path}/renamed/*.txt=3", f"{two}=1"], vocabulary=300, cache=tmp_path / "y")
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint_version == 2


def test_the_name_is_no_part_of_a_run_s_identity(tiny_spec: Callable[[DataSpec], str]) -> None:
    new, old = "v2-" + "ab" * 32, "ab" * 32
    identities = [
        tiny_spec(DataSpec(name=name, fingerprint=fingerprint, vocabulary=300))
        for fingerprint in (new, old)
        for name in ("mine", "yours")
    ]
    assert identities[0] == identities[1]
    assert len(set(identities)) == 3, "runs on corpora of the first version keep their identity"


@pytest.fixture
def tiny_spec() -> Callable[[DataSpec], str]:
    from fairstep.runs import ModelSpec, OptimizerChoice, RunSpec, ScheduleSpec

    def identity(data: DataSpec) -> str:
        return RunSpec(
            model=ModelSpec(layers=1, width=16, heads=2, mlp_width=32, vocabulary=300, context=16),
            data=data,
            optimizer=OptimizerChoice(name="adamw", hyperparameters={"lr": 1e-3}),
            schedule=ScheduleSpec(),
            batch_sequences=4,
            tokens=6_400,
        ).identity

    return identity


def test_an_edited_text_asks_for_another_name(cache: Path, texts: Texts, tmp_path: Path, prose: Prose) -> None:
    source = texts(30)
    first = prepare(source, vocabulary=300, name="mine")
    assert prepare(source, vocabulary=300, name="mine") == first
    (tmp_path / "texts/000.txt").write_text(prose(99), encoding="utf-8")
    with pytest.raises(DataError, match=r"another corpus is called 'mine' .*or remove the other one with"):
        prepare(source, vocabulary=300, name="mine")
    assert find_corpus(first.directory.name) == first
    for name, message in (("stdlib", "that is the text of Python's"), ("a/b", "use letters, digits"), ("..", "use")):
        with pytest.raises(DataError, match=message):
            prepare(source, vocabulary=300, name=name)
