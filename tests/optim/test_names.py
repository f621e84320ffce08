"""Every spelling of an optimizer in either paper, its code, tables and figures finds ours."""

from __future__ import annotations

import pytest

from fairstep import optim
from fairstep.published import semenov, wen

SEMENOV = {  # text and figures, and the flags of its code
    "adamw": ("AdamW", "adamw"),
    "adopt": ("ADOPT", "adopt"),
    "ademamix": ("AdEMAMix", "ademamix"),
    "lion": ("Lion", "lion"),
    "signum": ("Signum", "signum", "signSGD", "sign-sgd"),
    "muon": ("Muon", "muon"),
    "d-muon": ("D-Muon", "d-muon", "dmuon", "d_muon"),
    "soap": ("SOAP", "soap"),
    "sophia-g": ("Sophia", "SophiaG", "sophiag", "sophia-g"),
    "schedule-free-adamw": ("SF-AdamW", "sf-adamw", "sf_adamw", "Schedule-Free AdamW", "schedulefree"),
    "prodigy": ("Prodigy", "prodigy"),
    "mars-adamw": ("MARS", "mars", "MARS-AdamW", "mars-adamw"),
    "mars-lion": ("MARS-Lion", "mars-lion"),
    "mars-shampoo": ("MARS-Shampoo", "mars-shampoo"),
}
WEN = {  # text and figures, and the names of its code and records
    "adamw": ("AdamW", "adamw"),
    "nadamw": ("NAdamW", "nadamw", "nadam"),
    "mars-adamw": ("Mars", "mars"),
    "cautious-adamw": ("Cautious", "cautious", "C-AdamW"),
    "lion": ("Lion", "lion"),
    "adam-mini": ("Adam-mini", "adam_mini", "mini", "Adam-Mini"),
    "muon": ("Muon", "muon"),
    "scion": ("Scion", "scion"),
    "kron": ("Kron", "kron", "PSGD", "psgd", "PSGD Kron"),
    "soap": ("Soap", "soap", "soape", "SOAPe"),
    "sophia-h": ("Sophia-H", "sophiah", "sophia_h"),
}
OTHERS = {
    "cautious-lion": ("C-Lion",),
    "adamh": ("AdamH",),
    "muonh": ("MuonH",),
    "adamc": ("AdamC",),
    "normuon": ("NorMuon",),
}


@pytest.mark.parametrize("spellings", [SEMENOV, WEN, OTHERS], ids=["S", "W", "others"])
def test_every_spelling_finds_ours(spellings: dict[str, tuple[str, ...]]) -> None:
    found = {word: optim.get(word).name for name, words in spellings.items() for word in words}
    assert found == {word: name for name, words in spellings.items() for word in words}


def test_the_published_tables_speak_of_ours() -> None:
    for optimizer in {row["optimizer"] for row in wen.results().to_dicts()}:
        assert optim.get(optimizer).name in WEN or optimizer == "sophia"
    grids = {row["optimizer"] for row in semenov.grids().to_dicts()}
    for optimizer in grids | {entry["optimizer"] for entry in semenov.configuration_list()}:
        assert optim.get(optimizer).name in SEMENOV


def test_sophia_alone_is_the_one_of_its_paper_and_of_s() -> None:
    """W's Sophia is Sophia-H; its tables and ours are joined by ``tunings``, where that is known."""
    assert optim.get("sophia").name == "sophia-g"
    assert all(tuning.optimizer == "sophia-h" for tuning in optim.get("sophia-h").tunings if tuning.paper == "W")
    assert optim.get("sophia-h").tunings
