"""The two papers' numbers: complete, in their units, and consistent with what each paper prints elsewhere."""

from __future__ import annotations

import json

import polars as pl
import pytest

from fairstep.published import semenov, wen


def test_wen_has_its_150_cells() -> None:
    table = wen.results()
    assert table.height == 150
    assert table.select("optimizer", "model_size", "chinchilla_ratio").is_unique().all()
    assert table["loss"].is_between(2.7, 3.6).all()
    assert (table["loss"] <= table["loss_snapshot_2025_05"] + 1e-12).all(), "records only improve"
    assert table.filter(pl.col("configuration_loss") > pl.col("loss") + 1e-9).height == 13
    assert all("learning_rate" in json.loads(text) for text in table["hyperparameters"])


def test_chinchilla_is_20_tokens_per_matrix_parameter() -> None:
    models = wen.models()
    assert (models["tokens_1x"] == 20 * models["parameters_matrix"]).all()
    shape = models["layers"] * (4 * models["hidden"] ** 2 + 3 * models["hidden"] * models["mlp"])
    assert (shape == models["parameters_matrix"]).all()
    joined = wen.results().join(models, on="model_size")
    assert (joined["tokens"] == joined["tokens_1x"] * joined["chinchilla_ratio"]).all()


def test_sweeps_are_1841_losses_around_their_centres() -> None:
    table = wen.sweeps()
    assert table.height == 1841
    centres = table.filter(pl.col("hyperparameter").is_null())
    assert centres.height == 153
    assert centres["value"].null_count() == 153
    cells = wen.cell_records()
    assert len(cells) == 153
    losses = {centre["loss"] for cell in cells for centre in cell["centres"]}
    assert losses == set(centres["loss"]), "every centre has its configuration in cells"
    best = table.group_by("optimizer", "model_size", "chinchilla_ratio").agg(pl.col("loss").min().alias("swept"))
    joined = best.join(wen.results(), on=["optimizer", "model_size", "chinchilla_ratio"])
    assert joined.height == 150
    assert (joined["loss"] <= joined["swept"] + 1e-9).all()


def test_speedups_are_the_figures_and_what_the_fit_changes() -> None:
    table = wen.speedups()
    counts = dict(table["variant"].value_counts().iter_rows())
    assert counts.pop("figure_2025_05") == 114
    assert len(counts) == 6
    printed = wen.facts()["figure_8x_by_size"]["paper_version_May_2025"]
    at_8 = table.filter((pl.col("variant") == "figure_2025_05") & (pl.col("chinchilla_ratio") == 8))
    for optimizer, sizes in printed.items():
        for size, value in sizes.items():
            ours = at_8.filter((pl.col("optimizer") == optimizer) & (pl.col("model_size") == size))["speedup"].item()
            assert ours == pytest.approx(value, abs=1.5e-4)


def test_semenov_values_carry_setting_uncertainty_and_source() -> None:
    table = semenov.records()
    assert table["id"].n_unique() + sum(not r["values"] for r in semenov.record_list()) == 47
    losses = table.filter(pl.col("metric").is_in([semenov.FULL, semenov.SUBSET]))
    assert losses["uncertainty"].null_count() == 0
    assert (losses["uncertainty"] > 0).all()
    assert table["source"].null_count() == 0
    assert losses.filter(pl.col("status") == "done")["value"].is_between(2.7, 3.7).all()
    assert table.filter(pl.col("status") == "diverged")["value"].null_count() == 3, "Sophia, Signum, Lion at 2e-3"
    runs = table.filter(pl.col("steps").is_not_null() & (pl.col("metric") == semenov.FULL))
    assert (runs["tokens"] == runs["steps"] * runs["batch_sequences"] * runs["context"]).all()


def test_semenov_orders_agree_with_the_values_within_their_uncertainty() -> None:
    for record in semenov.record_list():
        values = {row[0]: row for row in record["values"]}
        for better, worse in zip(record["printed_order"] or [], (record["printed_order"] or [])[1:], strict=False):
            if better in values and worse in values and not record["values"][0][4]:
                (_, first, _, up, *_), (_, second, _, down, *_) = values[better], values[worse]
                assert first <= second + up + down, f"{record['id']}: {better} before {worse}"


def test_semenov_has_48_configurations() -> None:
    table = semenov.configurations()
    assert table.height == 48
    assert table["optimizer"].n_unique() == 12
    assert table["scale"].n_unique() == 4
    assert (table["tokens"] == table["steps"] * table["batch_sequences"] * 512).all()
    assert "wsd" not in set(table["schedule"])
    assert all(json.loads(text) for text in semenov.grids()["grid"])
