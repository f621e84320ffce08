"""Logs: modded-nanogpt's, the Trainer's, text by a pattern; contestants from names; Track 3's own p-values."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from tests.imported.losses import FINAL, curve, finals
from tests.imported.test_tables import EXPECTED, numbers

import fairstep
from fairstep.imported.formats import formats
from fairstep.imported.names import Found, contestants, split_seed

TRACK3 = Path(__file__).parent / "track3.csv"
"""The last evaluations of six results of modded-nanogpt's optimization track (MIT): its logs give these lines."""
RESULT = {
    8: "20260430_normuonh",
    9: "20260501_skylight001",
    11: "20260501_contra_muon",
    13: "20260504_muloco_normuonh",
    30: "20260514_aurora_proj_pruned_extended_contra",
    34: "20260520_rre_extrapolation_pr300_2925",
}


def lines(points: list[tuple[int, float]], planned: int) -> str:
    return "".join(f"step:{step}/{planned} val_loss:{loss} train_time:9.1s step_avg:1.00ms\n" for step, loss in points)


def log(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("import torch  # the program's own source comes first\n" + text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def track3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("track3")
    for (group, number), rows in pl.read_csv(TRACK3).group_by("group", "number"):
        points = list(rows.sort("step").select("step", "val_loss").iter_rows())
        log(folder / str(group) / f"{number}.txt", lines(points, rows["planned_steps"][0]))
    return folder


def test_modded_nanogpt_logs(tmp_path: Path) -> None:
    for name, seed in FINAL:
        log(tmp_path / "a" / f"{name}-seed{seed}.txt", lines(curve(name, seed), 150))
        log(tmp_path / "b" / name / f"seed_{seed}.log", lines(curve(name, seed), 150))
    assert numbers(fairstep.judge(tmp_path / "a", "adamw")) == EXPECTED
    assert numbers(fairstep.judge(tmp_path / "b", "adamw")) == EXPECTED
    assert numbers(fairstep.judge([tmp_path / "b" / "adamw", tmp_path / "b" / "muon"], "adamw")) == EXPECTED


def test_several_runs_in_one_log(tmp_path: Path) -> None:
    for name in ("adamw", "muon"):
        log(tmp_path / f"{name}.txt", "".join(lines(curve(name, seed), 150) for seed in range(3)))
    muon = fairstep.judge(tmp_path, "adamw")["muon"]
    assert muon.seeds == 3 and muon.pairs == 0 and muon.verdict == "faster"


def test_a_run_that_stopped_early_is_refused_and_one_that_diverged_is_a_result(tmp_path: Path) -> None:
    for name, seed in FINAL:
        log(tmp_path / name / f"seed{seed}.txt", lines(curve(name, seed), 150))
    log(tmp_path / "muon" / "seed3.txt", lines(curve("muon", 0)[:2], 150))
    with pytest.raises(ValueError, match=r"runs of muon end at different steps: 100 \(1, .*seed3.txt.*150 \(3, "):
        fairstep.judge(tmp_path, "adamw")
    assert numbers(fairstep.judge(tmp_path, "adamw", where="step == 150")) == EXPECTED
    log(tmp_path / "muon" / "seed3.txt", lines([(50, 3.5)], 150) + "step:100/150 val_loss:nan train_time:1s\n")
    assert fairstep.judge(tmp_path, "adamw")["muon"].verdict == "diverged"


def test_a_copy_of_a_log_counts_once(tmp_path: Path) -> None:
    for name, seed in FINAL:
        log(tmp_path / name / f"run{seed}.txt", lines(curve(name, seed), 150))
    alone = fairstep.judge(tmp_path, "adamw")
    log(tmp_path / "muon" / "again.txt", lines(curve("muon", 0), 150) * 2)
    judged = fairstep.judge(tmp_path, "adamw")
    assert numbers(judged) == numbers(alone)
    (note,) = [note for note in judged.notes if "a run counts once" in note]
    assert note.startswith("muon: 2 of 5 runs have no evaluation that another one has not to the last digit")
    log(tmp_path / "muon" / "seed1.txt", lines([*curve("muon", 1)[:2], (150, 3.2)], 150))
    log(tmp_path / "muon" / "other-seed1.txt", lines([*curve("muon", 1)[:2], (150, 3.3)], 150))
    with pytest.raises(
        ValueError, match=r"another run on seed 1 .*--where \"'seed1.txt' not in file\" leaves a file out"
    ):
        fairstep.judge(tmp_path, "adamw")


def test_curves_that_cross_are_shown_and_do_not_count(tmp_path: Path) -> None:
    for seed in range(3):
        log(tmp_path / "adamw" / f"seed{seed}.txt", lines([(50, 3.6), (100, 3.5), (150, 3.3 + seed / 100)], 150))
        log(tmp_path / "muon" / f"seed{seed}.txt", lines([(50, 3.7), (100, 3.4), (150, 3.1 + seed / 90)], 150))
    judged = fairstep.judge(tmp_path, "adamw")
    assert [row["then_ahead"] for row in judged.result["crossings"]] == ["muon"]
    assert judged["muon"].speedup != judged["muon"].speedup  # nan: no length is read off the middle of a curve


def test_the_trainers_last_state_counts(tmp_path: Path) -> None:
    for name, seed in FINAL:
        for step in (100, 150):
            history = [{"loss": 9.0, "learning_rate": 0.1, "step": step}]
            history += [{"eval_loss": loss, "step": at} for at, loss in curve(name, seed) if at <= step]
            state = {"global_step": step, "max_steps": 150, "log_history": history}
            path = tmp_path / f"{name}-seed{seed}" / f"checkpoint-{step}" / "trainer_state.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(state))
    judged = fairstep.judge(tmp_path, "adamw")
    assert numbers(judged) == EXPECTED
    assert sum("earlier state" in note for note in judged.notes) == 6


def test_text_by_a_pattern(tmp_path: Path) -> None:
    for name, seed in FINAL:
        text = "".join(f"[{step:>5}] dev nll = {loss}\n" for step, loss in curve(name, seed))
        log(tmp_path / f"{name}_s{seed}.txt", text)
    assert (
        numbers(fairstep.judge(tmp_path, "adamw", pattern=r"\[\s*(?P<step>\d+)\] dev nll = (?P<loss>\S+)")) == EXPECTED
    )
    with pytest.raises(ValueError, match="holds no file of a format that is known"):
        fairstep.judge(tmp_path, "adamw")
    with pytest.raises(ValueError, match="needs a group named loss"):
        fairstep.judge(tmp_path, "adamw", pattern="nll")


def test_files_that_are_not_read_are_counted(tmp_path: Path) -> None:
    finals().write_csv(tmp_path / "results.csv")
    (tmp_path / "train.py").write_text("print('never run')")
    (tmp_path / "README.md").write_text("step")
    judged = fairstep.judge(tmp_path, "adamw")
    assert any("were not read: 1 .md, 1 .py" in note for note in judged.notes)
    log(tmp_path / "adamw.txt", lines(curve("adamw", 0), 150))
    with pytest.raises(ValueError, match="choose one with --format"):
        fairstep.judge(tmp_path, "adamw")
    assert numbers(fairstep.judge(tmp_path, "adamw", format="tables")) == EXPECTED


@pytest.mark.parametrize("content", [b"", b":W&B", b"\xff\xfe\x00", b"{"])
@pytest.mark.parametrize(
    "name", ["run-1.wandb", "a.db", "trainer_state.json", "a.parquet", "a.csv", "a.jsonl", "a.txt"]
)
def test_damaged_files_are_one_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as told:
        fairstep.judge(path, "adamw")
    assert "\n" not in str(told.value)


def test_endings_in_capitals_are_no_part_of_a_name() -> None:
    found = [Found(Path(f"r/{name}-seed{seed}.CSV"), Path("r")) for name in ("adamw", "muon") for seed in (1, 2)]
    assert [(name, seed) for name, _, seed in contestants(found)] == [
        *(("adamw", "1"), ("adamw", "2"), ("muon", "1"), ("muon", "2"))
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw-seed3", ("adamw", "3")),
        ("adamw_s12", ("adamw", "12")),
        ("seed=4_muon", ("muon", "4")),
        ("muon/seed_1", ("muon", "1")),
        ("adams", ("adams", None)),
        ("rms2", ("rms2", None)),
        ("seed7", ("", "7")),
    ],
)
def test_seeds_in_names(name: str, expected: tuple[str, str | None]) -> None:
    assert split_seed(name) == expected


def test_folders_name_contestants_where_they_tell_them_apart() -> None:
    root = Path("runs")
    several = [Found(root / path, root) for path in ("adamw/x.txt", "adamw/y.txt", "muon/z.txt", "top.txt")]
    assert [name for name, _, _ in contestants(several)] == ["adamw", "adamw", "muon", "top"]
    boards = [Found(root / f"{name}-seed0/runs/Nov28_12-00-00_host", root) for name in ("adamw", "muon")]
    assert [(name, seed) for name, _, seed in contestants(boards)] == [("adamw", "0"), ("muon", "0")]
    single = [Found(root / path, root) for path in ("logs/adamw_s0.txt", "logs/muon_s0.txt")]
    assert [(name, seed) for name, _, seed in contestants(single)] == [("adamw", "0"), ("muon", "0")]


def test_a_format_is_one_file_with_three_names() -> None:
    for module in formats().values():
        assert module.__doc__ and isinstance(module.KIND, str)
        assert callable(module.claims) and callable(module.read)


def ahead(track3: Path, result: int, other: int, **options: object) -> dict[str, float]:
    judged = fairstep.judge(
        [track3 / RESULT[result], track3 / RESULT[other]],
        RESULT[other],
        slope="0.0045/100steps: modded-nanogpt, near 3.28",
        rule="track3",
        **options,  # type: ignore[arg-type]
    )
    (row,) = [row for row in judged.result["contestants"] if row["name"] == RESULT[result]]
    said: dict[str, float] = row["rules"]["track3"]
    return said


def test_track3_p_values(track3: Path) -> None:
    """As the track prints them. It prints 0.029 for 13 against 8, from a mean of 3.2778 for result 8, whose ten logs
    have 3.27798 at that step."""
    assert ahead(track3, 11, 9)["ahead_p_printed"] == pytest.approx(0.69, abs=0.005)
    assert ahead(track3, 13, 11)["ahead_p_printed"] == pytest.approx(0.099, abs=0.0005)
    at = [f"{RESULT[30]}=2930", f"{RESULT[34]}=2925"]
    assert ahead(track3, 34, 30, at=at)["ahead_p"] == pytest.approx(0.168, abs=0.0005)
    said = ahead(track3, 13, 8)
    assert said["ahead_p"] == pytest.approx(0.0123, abs=0.0005)
    # The track's own arithmetic, with the mean that it prints: z = (3.2778 - 3.2785 + 0.0018) / (0.0013 sqrt(0.2)).


@pytest.mark.parametrize(
    ("result", "step", "mean", "runs"),
    [(9, 3250, 3.2771, 8), (11, 3225, 3.2785, 16), (13, 3210, 3.2785, 10), (30, 2930, 3.2784, 16)],
)
def test_track3_results_are_read_at_their_own_step(
    track3: Path, result: int, step: int, mean: float, runs: int
) -> None:
    said = ahead(track3, result, 8)
    assert (said["step"], round(said["mean"], 4), said["runs"], said["counts"]) == (step, mean, runs, True)


def test_a_step_before_the_end_is_said(track3: Path) -> None:
    judged = fairstep.judge([track3 / RESULT[8], track3 / RESULT[9]], RESULT[9], at=["3250"])
    assert any("read at step 3250 of 3275 planned" in note for note in judged.notes)
    assert judged[RESULT[8]].loss == pytest.approx(3.277977)
    with pytest.raises(ValueError, match=r"cannot be compared: .* ends at 3275, .* at 3250; a --slope would"):
        fairstep.judge([track3 / RESULT[8], track3 / RESULT[9]], RESULT[9])
