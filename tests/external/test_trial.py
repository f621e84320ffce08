"""One run of a command: what it leaves behind, and what may go wrong, each in a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.external.conftest import SETTINGS, TRAIN, Trial, processes_with, spec_of, wait_until, worker_on

from fairstep.external import carry_out
from fairstep.external.guardian import Guardian
from fairstep.external.output import MOST
from fairstep.runs import CommandSpec, LossSource, Run, Store, Trainer, write_atomic

EXIT_JSON = {"trainer": {"loss": LossSource(exit_json=True)}}


def test_a_run_has_spec_command_output_curve_and_summary(carry: Trial) -> None:
    run = carry()
    checked = run.checked
    assert checked.problem == ""
    assert checked.summary is not None
    assert checked.summary.status == "done"
    assert checked.summary.final_loss == pytest.approx(2.5 + 3 * 20**-0.3 - 6e-3)
    assert (checked.summary.steps, checked.summary.tokens) == (20, 2000)
    assert "train.py adamw 0.02 0 20" in (run.directory / "command.txt").read_text()
    assert (run.directory / "output.log").read_text().splitlines()[0] == "step 1 loss 4.95"
    rows = run.metrics()
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 21))
    assert rows[-1] == {"kind": "evaluation", "step": 20, "tokens": 2000, "loss": checked.summary.final_loss}
    assert run.environment["loss_step"] == 20


def test_a_finished_run_is_not_repeated(carry: Trial, tmp_path: Path) -> None:
    run = carry(TRAIN + "open('count', 'a').write('x')\n")
    carry(spec=run.spec)
    assert (tmp_path / "count").read_text() == "x"


def test_a_changed_summary_is_noticed(carry: Trial) -> None:
    run = carry()
    path = run.directory / "summary.json"
    path.write_text(path.read_text().replace('"final_loss": 3', '"final_loss": 2'))
    assert "not as they were when it ended" in run.checked.problem


@pytest.mark.parametrize(
    ("code", "changes", "sentence"),
    [
        ("print(1); raise SystemExit(3)", {}, "its command ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", {}, "its command was killed by signal 9"),
        ("pass", {}, "metrics.jsonl cannot be read (No such file or directory)"),
        ("open(__import__('sys').argv[5] + '/metrics.jsonl', 'w').write('{\"loss\": 1}')", {}, "and no val_loss"),
        ("print('hello')", EXIT_JSON, "its last line is 'hello'"),
        ("print('{\"loss\": [3, 4]}')", EXIT_JSON, "loss is a list of 2 values; a trial has one loss"),
        ('print(\'{"loss": "low"}\')', EXIT_JSON, "loss must be a number, not 'low'"),
        ("print('{\"loss\": -2}')", EXIT_JSON, "its final loss is -2; a verdict needs one above 0"),
        ("print(3)", {"trainer": {"loss": LossSource(pattern="val=([0-9.]+)")}}, "no line of its output matches"),
        (
            "print('step=9 val=3')\nprint('step=9 val=4')",
            {"trainer": {"loss": LossSource(pattern="step=(?P<step>[0-9]+) val=(?P<loss>[0-9.]+)")}},
            "has several losses of step 9 (3, 4)",
        ),
        ("pass", {"trainer": {"command": ("nosuchprogram", "{seed}")}}, "'nosuchprogram' is not found"),
        ("pass", {"trainer": {"directory": "/no/such"}}, "the folder /no/such that the command is started in"),
        ("pass", {"trainer": {"code": "1" * 64, "files": ("train.py",)}}, "has changed since the study was read"),
    ],
)
def test_what_goes_wrong_is_one_sentence(code: str, changes: dict[str, Any], sentence: str, carry: Trial) -> None:
    summary = carry(code, **changes).unchecked_summary
    assert summary is not None
    assert summary.status == "failed"
    assert sentence in summary.message
    assert "\n" not in summary.message


CSV = {"trainer": {"loss": LossSource(file="{out}/metrics.csv", key="val_loss")}}
WRITE = "import sys, pathlib, os\nout = pathlib.Path(sys.argv[5])\n"


@pytest.mark.parametrize(
    ("name", "text", "changes", "loss"),
    [
        ("metrics.jsonl", b'{"val_loss": 4, "step": 10}\nwords\n{"val_loss": 3.5, "step": 20}\n', {}, 3.5),
        ("metrics.jsonl", b'{"val_loss": 3.5}\n{"other": 1}\n{"val_loss": null, "train_loss": 3}\n', {}, 3.5),
        ("metrics.jsonl", b'{"val_loss": null}\n{"val_loss": 3.5}\n{"val_loss": null}\n', {}, 3.5),
        ("metrics.jsonl", b'{"val_loss": 3}\n{"val_loss": null}\n{"val_loss": 3}\n{"val_loss": null}\n', {}, 3.0),
        (
            "metrics.jsonl",
            b'{"step": 10, "val_loss": 3.5}\n{"step": 20, "val_loss": null}\n',
            {},
            "the last val_loss in",
        ),  # of nan
        ("metrics.csv", b"step,val_loss\n10,3.5\n20,\n", CSV, "is empty; a run that diverged writes nan"),
        ("metrics.jsonl", b'[{"val_loss": 4}, {"val_loss": "3.5"}]', {}, 3.5),
        ("metrics.jsonl", b"3.5\n", {}, 3.5),
        (
            "metrics.jsonl",
            b'{"val_loss": 4}\n{"val_lo{"val_loss": 3.5}\n',
            {},
            "the last line is cut off",
        ),  # and resumed
        ("metrics.csv", b"step,loss,val_loss\n10,4.1,\n20,,3.5\n30,3.9,\n", CSV, 3.5),
        ("metrics.csv", b"step,val_loss\r\n10,4\r\n20,3.5", CSV, 3.5),
        ("metrics.csv", b"\xef\xbb\xbfval_loss,step\n3.5,20\n", CSV, 3.5),
        ("metrics.jsonl", b'\xef\xbb\xbf{"val_loss": 3.5}\n', {}, 3.5),
        ("metrics.jsonl", b'{"val_loss": 3.5, "step": 10}\n{"val_lo', {}, "the last line is cut off: "),
        ("metrics.jsonl", b'{"step": 20, "val_loss": null}', {}, "has step, and no val_loss"),
        ("metrics.jsonl", b"\xff\xfe\x00", {}, "is no text"),
        ("metrics.jsonl", b"", {}, "holds neither JSON nor a number"),
        ("metrics.jsonl", b"[3.5, 3.6]", {}, "is a list of 2 values; a trial has one loss"),
        ("metrics.jsonl", b'{"val_loss": 1' + b"0" * 400 + b"}", {}, "val_loss must be a number"),
        (
            "metrics.jsonl",
            b'{"val_loss": 3, "step": 20}\n{"val_loss": 4, "step": 10}',
            {},
            "is of step 10, and an earlier",
        ),
        ("metrics.csv", b"step,loss\n10,4\n", CSV, "has step, loss, and no val_loss"),
        ("metrics.csv", b"step,loss,val_loss\n10,4,3.9\n20,3", CSV, "the last row is cut off"),
        ("metrics.csv", b"step,val_loss\n10,3,21\n20,3,19\n", CSV, "the last row has more cells than the header"),
        ("metrics.csv", b"step,val_loss\n20,3.5\nbest,3.4\n", CSV, "a loss has the step 'best', which is no number"),
        ("metrics.csv", b"step,val_loss\n10,3.6,\n20,3.5,\n", CSV, 3.5),
        ("metrics.csv", b",step,val_loss\n0,10,3.6\n1,20,3.5\n", CSV, 3.5),  # with an index, as pandas writes it
        ("metrics.csv", b"step,val_loss\n", CSV, "holds no rows below a header"),
        ("metrics.csv", b"step,val_loss\n1," + b"4" * 140_000, CSV, "the CSV is none"),
    ],
)
def test_a_file_of_losses(name: str, text: bytes, changes: dict[str, Any], loss: float | str, carry: Trial) -> None:
    summary = carry(f"{WRITE}(out / {name!r}).write_bytes({text!r})", **changes).unchecked_summary
    assert summary is not None
    if isinstance(loss, str):
        assert (summary.status, loss in summary.message) == ("failed", True), summary.message
    else:
        assert (summary.status, summary.final_loss) == ("done", loss)


@pytest.mark.parametrize(
    ("code", "changes", "sentence"),
    [
        ("os.mkfifo(out / 'metrics.jsonl')", {}, "metrics.jsonl is no file"),
        ("(out / 'metrics.jsonl').mkdir()", {}, "cannot be read (Is a directory)"),
        ("import shutil; shutil.rmtree(out)", {}, "cannot be read (No such file or directory)"),
        ("(out / 'metrics.jsonl').write_text('{\"val_loss\": 3}'); raise SystemExit(1)", {}, "with exit code 1"),
        ("raise SystemExit(-1)", {}, "with exit code 255"),
        ("print('before', flush=True); os.kill(os.getpid(), 11)", {}, "by signal 11 (Segmentation fault)"),
        ("", {"settings": {"optimizer": "a\0b", "lr": 1.0}}, "cannot be started: embedded null byte"),
        ("", {"settings": {"optimizer": "a" * 3_000_000, "lr": 1.0}}, "cannot be started: Argument list too long"),
    ],
)
def test_odd_ends_of_a_command_are_sentences_too(
    code: str, changes: dict[str, Any], sentence: str, carry: Trial
) -> None:
    summary = carry(WRITE + code, **changes).unchecked_summary
    assert summary is not None
    assert (summary.status, sentence in summary.message) == ("failed", True), summary.message
    assert "output.log)" in summary.message


def test_a_file_that_an_earlier_command_left_is_no_loss(carry: Trial, tmp_path: Path) -> None:
    source = {"trainer": {"loss": LossSource(file="loss-{seed}.txt")}}
    (tmp_path / "loss-0.txt").write_text("3.5")
    summary = carry("pass", **source).unchecked_summary
    assert summary is not None
    assert "loss-0.txt is as it was before the command started" in summary.message
    assert carry("open('loss-0.txt', 'w').write('3.5')", **source).status == "done"


def test_values_reach_the_command_as_they_are(carry: Trial) -> None:
    value = "a b'c\"d $HOME {lr} `x` ; \n é"
    code = f"import sys\nprint('{{\"loss\": %d}}' % (3 + (sys.argv[1] == {value!r})))"
    run = carry(code, settings={"optimizer": value, "lr": 1.0}, **EXIT_JSON)
    assert run.summary is not None
    assert run.summary.final_loss == 4


def test_a_run_may_lie_deep(tmp_path: Path, guardian: Guardian) -> None:
    spec = spec_of(tmp_path)
    run = Store(tmp_path.joinpath(*["a folder of 200 letters".ljust(200, "x")] * 15)).run(spec)
    write_atomic(run.directory / "spec.json", spec.to_json())
    assert carry_out(run, guardian=guardian).status == "done"


def test_bytes_that_are_no_text_are_kept_and_read_over(carry: Trial) -> None:
    run = carry('import os\nos.write(1, b\'caf\\xe9 \\xff\\n{"loss": 3.5, "name": "\\xff"}\\n\')', **EXIT_JSON)
    assert run.summary is not None
    assert run.summary.final_loss == 3.5
    assert (run.directory / "output.log").read_bytes().startswith(b"caf\xe9 \xff\n")


def test_a_command_that_closes_its_output_and_changes_its_folder_is_waited_for(carry: Trial) -> None:
    code = "import time\nos.close(1)\nos.close(2)\nos.chdir('/')\ntime.sleep(0.3)\n"
    run = carry(WRITE + code + "(out / 'metrics.jsonl').write_text('{\"val_loss\": 3.5}')")
    assert run.status == "done"


def test_a_worker_whose_guardian_was_killed_ends_before_another_command(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "open('go', 'w'); import time; time.sleep(0.5)\n" + TRAIN)
    run, other = Store(tmp_path / "store").run(spec), spec.model_copy(update={"seed": 1})
    write_atomic(run.directory / "spec.json", spec.to_json())
    second = Store(tmp_path / "store").run(other)
    write_atomic(second.directory / "spec.json", other.to_json())
    command = [sys.executable, "-m", "fairstep.external", str(run.directory), str(second.directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as worker:
        wait_until((tmp_path / "go").exists)
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        (guardian,) = [int(pid) for pid in children if b"external" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(guardian, signal.SIGKILL)
        assert worker.wait(20) == 1
        assert worker.stderr is not None
        assert worker.stderr.read() == b"the guardian of this worker's processes was killed\n"
    assert (run.status, second.status) == ("done", "unfinished")


def test_the_last_lines_are_shown_and_the_output_is_kept(carry: Trial) -> None:
    run = carry("for n in range(50): print('line', n)\nraise ValueError('no good')")
    summary = run.unchecked_summary
    assert summary is not None
    assert "output.log): " in summary.message
    assert summary.message.endswith("ValueError: no good")
    assert "line 0\n" in (run.directory / "output.log").read_text()
    assert (run.directory / "error.txt").read_text().endswith("ValueError: no good\n")


@pytest.mark.parametrize(
    "code",
    [
        "print('{\"loss\": NaN}')",
        "print('step 7 loss 3.0'); print('step 8 loss nan'); raise SystemExit(1)",
    ],
)
def test_nan_is_a_divergence(code: str, carry: Trial) -> None:
    run = carry(code, **EXIT_JSON)
    assert run.status == "diverged"
    assert run.checked.problem == ""


def test_much_output_is_bounded_and_its_loss_is_read(carry: Trial) -> None:
    """34 MB, of which 2 MB are kept at most."""
    run = carry(
        "import os\nfor _ in range(300): os.write(1, b'words that say nothing\\n' * 5000)\nprint('{\"loss\": 3.5}')",
        **EXIT_JSON,
    )
    assert run.summary is not None
    assert run.summary.final_loss == 3.5
    text = (run.directory / "output.log").read_bytes()
    assert len(text) <= MOST
    assert text.endswith(b'{"loss": 3.5}\n')
    assert b"... left out ..." in text


def test_children_that_stay_are_ended(carry: Trial, tmp_path: Path) -> None:
    word = f"stays-{os.getpid()}-{tmp_path.name}"
    code = (
        "import subprocess, sys\n"
        f"for session in (False, True):\n"
        f"    subprocess.Popen([sys.executable, '-Sc', 'import time; time.sleep(100)', {word!r}],"
        " start_new_session=session)\n"
    )
    run = carry(code + TRAIN)
    assert run.status == "done"
    assert processes_with(word) == []
    assert run.environment["processes_left_behind"] >= 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux gives a worker what its command leaves")
def test_a_daemon_that_hides_is_ended(carry: Trial, tmp_path: Path) -> None:
    """Twice forked, in a session of its own, with an empty environment, and with a child of the same kind."""
    word = f"hides-{os.getpid()}-{tmp_path.name}"
    child = "import time; time.sleep(100)"
    code = (
        "import os, sys, time\n"
        f"child = [sys.executable, '-Sc', {child!r}, {word!r}]\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.posix_spawn(child[0], child, {})\n"
        "        os.execve(child[0], child, {})\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "def hides(process):\n"
        "    try:\n"
        f"        return {word!r}.encode() in open(f'/proc/{{process}}/cmdline', 'rb').read()\n"
        "    except OSError:\n"
        "        return False\n"
        "while sum(map(hides, os.listdir('/proc'))) < 2:\n"
        "    time.sleep(0.01)\n"
    )
    run = carry(code + TRAIN)
    assert run.status == "done"
    assert processes_with(word) == []
    assert run.environment["processes_left_behind"] == 2


HANGS = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('there', flush=True); time.sleep(100)"
subprocess.Popen([sys.executable, "-Sc", code, WORD], start_new_session=True)
time.sleep(100)
"""


@pytest.mark.parametrize("how", ["kill", "input"])
def test_nothing_outlives_a_worker_that_is_killed_or_left(how: str, tmp_path: Path) -> None:
    word = f"orphan-{os.getpid()}-{tmp_path.name}"
    spec = spec_of(tmp_path, f"WORD = {word!r}\n{HANGS}", trainer={"command": ("python", "-S", "train.py", word)})
    run = Store(tmp_path / "store").run(spec)
    with worker_on(run, spec) as worker:
        log = run.directory / "output.log"
        wait_until(lambda: log.exists() and "there" in log.read_text() and len(processes_with(word)) >= 2)
        assert run.locked
        if how == "kill":
            worker.send_signal(signal.SIGKILL)
        else:
            assert worker.stdin is not None
            worker.stdin.close()
        worker.wait(20)
    wait_until(lambda: not processes_with(word))
    assert not run.locked
    assert run.status == "unfinished"


def test_sigterm_reaches_the_command(tmp_path: Path) -> None:
    code = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(0)))\n"
    spec = spec_of(tmp_path, code + "print('up', flush=True); time.sleep(100)")
    run = Store(tmp_path / "store").run(spec)
    with worker_on(run, spec) as worker:
        log = run.directory / "output.log"
        wait_until(lambda: log.exists() and "up" in log.read_text())
        worker.terminate()
        assert worker.wait(20) == 128 + signal.SIGTERM
    assert run.status == "unfinished"


@pytest.mark.parametrize("resume", [False, True])
def test_a_killed_attempt_begins_anew_unless_the_trainer_resumes(resume: bool, tmp_path: Path) -> None:
    code = "import pathlib, sys, time\nmark = pathlib.Path(sys.argv[5], 'mark')\nfound = mark.exists()\nmark.touch()\n"
    code += "if not pathlib.Path('go').exists(): print('up', flush=True); time.sleep(100)\n"
    spec = spec_of(
        tmp_path,
        code + "print('{\"loss\": %d}' % (3 + found))",
        trainer={"loss": LossSource(exit_json=True), "resume": resume},
    )
    run = Store(tmp_path / "store").run(spec)
    with worker_on(run, spec) as worker:
        wait_until((run.directory / "out" / "mark").exists)
        worker.kill()
    (tmp_path / "go").touch()
    with worker_on(run, spec) as worker:
        assert worker.wait(20) == 0
    assert run.summary is not None
    assert run.summary.final_loss == 3 + resume


def test_the_identity_is_of_what_decides_the_numbers(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)

    def changed(**fields: Any) -> CommandSpec:
        return spec.model_copy(update={"trainer": spec.trainer.model_copy(update=fields)})

    same = changed(directory="/elsewhere", progress="x (.) (.)", resume=True, files=("train.py",))
    assert same.identity == spec.identity
    others = [
        changed(code="1"),
        changed(constants={"data": "fineweb"}),
        changed(command=(*spec.trainer.command, "--fast")),
        spec.model_copy(update={"seed": 1}),
        spec.model_copy(update={"steps": 21}),
        spec.model_copy(update={"batch_tokens": 7}),
        spec.model_copy(update={"settings": {**SETTINGS, "lr": 0.03}}),
        spec.model_copy(update={"cell": {"width": 3}}),
        spec.model_copy(update={"arguments": ("--nesterov",)}),
    ]
    assert len({one.identity for one in (spec, *others)}) == 1 + len(others)
    assert CommandSpec.from_json(spec.to_json()) == spec


def test_braces_and_values_in_a_command() -> None:
    trainer = Trainer(command=("x", "{{{lr}}}", "{flag}", "{out}/{seed}"), seeds=("seed", "data_seed"))
    spec = CommandSpec(trainer=trainer, settings={"lr": 1e-05, "flag": True}, seed=4, steps=1)
    assert spec.command(Path("o")) == ["x", "{1e-05}", "true", "o/4"]
    assert spec.values()["data_seed"] == 4


def yields(lr: float, seed: int, steps: int) -> Any:
    """A callable that says how it goes."""
    for step in range(1, steps + 1):
        yield step, 4 - step / steps + lr + seed


def fails(lr: float, seed: int) -> float:
    print("before")
    raise RuntimeError("no good")


def called(function: Any, tmp_path: Path, **settings: Any) -> tuple[Run, list[dict[str, Any]]]:
    spec = CommandSpec(trainer=Trainer(call="here:train"), settings={"lr": 0.5, **settings}, steps=10)
    run, said = Store(tmp_path).run(spec), []
    write_atomic(run.directory / "spec.json", spec.to_json())
    carry_out(run, said.append, function=function)
    return run, said


@pytest.mark.parametrize(
    ("function", "loss"),
    [
        (yields, 3.5),
        (lambda lr, seed: 2 + lr, 2.5),
        (lambda **values: {"loss": values["lr"] + len(values["out"].name), "other": 1}, 3.5),
    ],
)
def test_a_callable_returns_a_loss_a_dictionary_or_yields(function: Any, loss: float, tmp_path: Path) -> None:
    run, _ = called(function, tmp_path)
    assert run.summary is not None
    assert run.summary.final_loss == loss
    assert len(run.metrics()) == (20 if function is yields else 1)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (fails, "it raised RuntimeError: no good"),
        (lambda lr, seed: None, "it returned nothing"),
        (lambda seed: 3.0, "it raised TypeError"),
        (lambda lr, seed: iter([3.0]), "it must yield pairs (step, loss)"),
        (lambda lr, seed: sys.exit(3), "it raised SystemExit: 3"),
        (lambda lr, seed: {"accuracy": 1}, "has accuracy, and no loss"),
    ],
)
def test_a_callable_that_fails_says_so(function: Any, sentence: str, tmp_path: Path) -> None:
    run, _ = called(function, tmp_path)
    summary = run.unchecked_summary
    assert summary is not None
    assert (summary.status, sentence in summary.message) == ("failed", True), summary.message


@pytest.mark.parametrize("loss", [1e308, float("inf"), float("-inf"), float("nan")])
def test_a_loss_that_no_run_has_is_a_divergence(loss: float, tmp_path: Path) -> None:
    """One of 1e308 was done, and then its summary could not be right."""
    run, _ = called(lambda lr, seed: loss, tmp_path)
    assert run.summary is not None
    assert (run.summary.status, run.summary.message) == ("diverged", f"its loss became {loss}")


def test_a_callable_in_a_worker(tmp_path: Path) -> None:
    code = "import sys\ndef main(lr, seed, steps, out):\n    print('step 3 loss 4.5')\n    return 3 + lr\n"
    (tmp_path / "mine.py").write_text(code)
    trainer = Trainer(call="mine.py:main", directory=str(tmp_path))
    spec = CommandSpec(trainer=trainer, settings={"lr": 0.5}, steps=10)
    run = Store(tmp_path / "store").run(spec)
    with worker_on(run, spec) as worker:
        assert worker.wait(60) == 0
    assert run.summary is not None
    assert run.summary.final_loss == 3.5
    assert (run.directory / "output.log").read_text() == "step 3 loss 4.5\n"
    assert [row["kind"] for row in run.metrics()] == ["train", "evaluation"]


def test_the_referee_costs_little_beside_the_command(tmp_path: Path, guardian: Guardian) -> None:
    """Processor time of this process and its threads for a trial, the command's own left out."""
    spec = spec_of(tmp_path)
    spent = []
    for seed in range(7):
        one = spec.model_copy(update={"seed": seed})
        run = Store(tmp_path / "store").run(one)
        write_atomic(run.directory / "spec.json", one.to_json())
        began = time.process_time()
        carry_out(run, guardian=guardian)
        spent.append(time.process_time() - began)
    assert sorted(spent)[3] < 0.03
