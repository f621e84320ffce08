"""The verb data as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairstep.cli import main


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["data", *arguments]) == code
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return output.out if code == 0 else output.out + output.err


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path / "cache"))
    for number in range(30):
        (tmp_path / f"{number}.txt").write_text(f"document {number} of the words and the words again\n" * 20)
    return str(tmp_path / "*.txt")


def test_prepare_list_inspect(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert "no corpus in" in said(capsys, "list")
    made = json.loads(said(capsys, "prepare", text, "--vocabulary", "280", "--name", "mine", "--json"))
    assert (made["documents"], made["vocabulary"], made["tokenizer"]) == (30, 280, "bpe")
    assert "mine" in said(capsys, "list")
    assert json.loads(said(capsys, "list", "--json"))[0]["train_tokens"] == made["train_tokens"]
    found = json.loads(said(capsys, "inspect", "mine", "--json"))
    assert found["verified"]
    assert found["sample"]["mine"].startswith("document ")
    assert found["fingerprint"] == made["fingerprint"]
    page = said(capsys, "inspect", "mine")
    for word in ("documents: 30", "bytes per token:", "all files are as they were written", "sample of mine"):
        assert word in page


@pytest.mark.parametrize("harm", ["changed", "truncated"])
def test_a_damaged_corpus_has_exit_code_1(capsys: pytest.CaptureFixture[str], text: str, harm: str) -> None:
    made = json.loads(said(capsys, "prepare", text, "--tokenizer", "bytes", "--name", "mine", "--json"))
    shard = Path(made["directory"], "train.bin")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-40] if harm == "truncated" else whole[:-2] + b"\1\1")
    page = said(capsys, "inspect", "mine", code=1)
    assert "is damaged" in page
    assert "train.bin" in page
    assert not json.loads(said(capsys, "inspect", "mine", "--json", code=1).splitlines()[0])["verified"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["prepar"], "unknown action 'prepar' of data; did you mean prepare?"),
        (["inspect", "nothing"], "no prepared corpus is called 'nothing'"),
        (["prepare", "/no/such/file.txt"], "does not exist"),
        (["prepare", "--tokenizer", "gpt5"], "unknown tokenizer 'gpt5'"),
        (["prepare", "hf:x", "--max-tokens", "many"], "--max-tokens must be a positive number such as 2M"),
        (["prepare", "hf:x", "--max-tokens", "2M"], "a limit in tokens needs a tokenizer"),
        (["prepare", "--max-bytes", "2M"], "a limit of tokens or bytes is for hf: sources"),
        (["prepare", "--validation", "x"], "--validation takes NAME=SOURCE"),
        (["prepare", "--validation-share", "1.5"], "must be between 0 and 1, not 1.5"),
        (["prepare", "--workers", "-1"], "the number of workers must be at least 0, not -1"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], text: str, arguments: list[str], expected: str) -> None:
    assert expected in " ".join(said(capsys, *arguments, code=2).split())


def test_a_corpus_is_removed(capsys: pytest.CaptureFixture[str], text: str, tmp_path: Path) -> None:
    made = json.loads(said(capsys, "prepare", text, "--tokenizer", "bytes", "--name", "mine", "--json"))
    mixed = said(
        capsys, "prepare", f"{text}=1", "--tokenizer", "bytes", "--validation", f"more={text}", "--name", "mix"
    )
    assert "validation sets: mix, more" in mixed
    assert "is part of the mixture mix: remove that one first" in said(capsys, "remove", "mine", code=2)
    assert "called mix" in said(capsys, "remove", "mix")
    assert json.loads(said(capsys, "remove", "mine", "--json")) == {"directory": made["directory"], "names": ["mine"]}
    assert not Path(made["directory"]).exists()
    assert "no prepared corpus is called 'mine'; there are" in said(capsys, "remove", "mine", code=2)
    assert (tmp_path / "0.txt").exists()
    remaining = json.loads(said(capsys, "list", "--json"))
    for row in remaining:
        said(capsys, "remove", row["folder"])
    assert "no corpus in" in said(capsys, "list")
    again = json.loads(said(capsys, "prepare", text, "--tokenizer", "bytes", "--name", "mine", "--json"))
    (Path(again["directory"]) / "meta.json").write_text("{")
    said(capsys, "remove", "mine")
    assert not Path(again["directory"]).exists(), "a damaged one too"


def test_a_link_in_the_cache_is_removed_and_not_followed(
    capsys: pytest.CaptureFixture[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = json.loads(said(capsys, "prepare", text, "--tokenizer", "bytes", "--json"))
    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path / "other"))
    said(capsys, "inspect", made["directory"])
    said(capsys, "remove", Path(made["directory"]).name)
    assert (Path(made["directory"]) / "train.bin").exists()
    assert "no corpus in" in said(capsys, "list")


def test_few_documents_for_validation_are_said(capsys: pytest.CaptureFixture[str], text: str) -> None:
    made = json.loads(said(capsys, "prepare", text, "--tokenizer", "bytes", "--json"))
    assert made["validation_documents"] < 20
    (warning,) = made["warnings"]
    assert warning.startswith(f"only {made['validation_documents']} document")
    assert "note: only" in said(capsys, "prepare", text, "--tokenizer", "bytes")
    assert not json.loads(said(capsys, "prepare", text, "--tokenizer", "bytes", "--validation-share", "0.9", "--json"))[
        "warnings"
    ]


def test_forms_of_files(capsys: pytest.CaptureFixture[str], text: str, tmp_path: Path) -> None:
    rows = "".join(f'{{"body": "text {n} caf\xe9", "id": {n}}}\n' for n in range(40))
    (tmp_path / "rows").write_bytes(rows.encode("latin-1"))
    options = ("prepare", str(tmp_path / "rows"), "--tokenizer", "bytes")
    assert "begins like JSON" in said(capsys, *options, code=2)
    options = (*options, "--format", "json")
    assert "--encoding latin-1" in said(capsys, *options, "--column", "body", code=2)
    options = (*options, "--encoding", "latin-1")
    assert "columns of text are body: name one with `fairstep data prepare --column`" in said(capsys, *options, code=2)
    assert "documents: 40" in said(capsys, *options, "--column", "body")


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Example: fairstep data prepare" in said(capsys, "--help")
    for verb in ("prepare", "inspect", "list", "remove"):
        with pytest.raises(SystemExit):
            main(["data", verb, "--help"])
        assert f"\n  fairstep data {verb}" in capsys.readouterr().out
