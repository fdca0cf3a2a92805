"""Faults while training, in every folder: what was saved stays whole, and the run goes on.

Each folder makes a very short run of six steps, once to its end and once stopped after four.
A fault befalls a copy of the stopped one, which is resumed and has to become the other, to the
bit. All of them lie where paths have blanks and accents. What is wrong with files that are
read is in `test_faults_checkpoints.py`.
"""

import contextlib
import ctypes
import io
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from support import FOLDERS
from tiny_runs import FULL, STOPPED, Folder, files, sentence

Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture


def in_a_process(work: Callable[[], int]) -> int:
    """Start a copy of this process that works and ends with what the work gives; its number."""
    number = os.fork()
    if number == 0:
        code = 99
        with contextlib.suppress(BaseException):
            code = work()
        os._exit(code)
    return number


def end_of(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.fixture(scope="module", params=FOLDERS)
def tiny(request: pytest.FixtureRequest,
         tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    torch.set_num_threads(1)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)   # does not end pytest
    with Patch.context() as patch:
        yield Folder(request.param, patch, tmp_path_factory.mktemp("für alle") / "Läufe № 1")
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def out(tiny: Folder, tmp_path: Path) -> Path:
    """A copy of the stopped run."""
    return Path(shutil.copytree(tiny.half, tmp_path / "ein Lauf" / "№ 1"))


# ---------------------------------------------------------------- signals and kills


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_the_command_that_is_printed_goes_on_to_the_bit(
        tiny: Folder, out: Path, number: int, monkeypatch: Patch, capsys: Said) -> None:
    monkeypatch.chdir(out.parent)
    with tiny.at_step(1, lambda: signal.raise_signal(number)):
        assert tiny.resume(out) == 128 + number
    said = capsys.readouterr().err
    assert "\r" not in said and "it/s" not in said         # no bar where there is no terminal
    assert tiny.modules.checkpoint.load(out / tiny.last)["step"] == STOPPED + 1
    command = shlex.split(said.split("go on with python train.py ")[1])
    assert tiny.modules.train.main(command) == 0
    tiny.assert_goes_on(out)


def test_a_second_signal_ends_at_once_and_harms_nothing(
        tiny: Folder, out: Path, capsys: Said) -> None:
    before, given = files(out), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)    # a job of a shell may ignore it

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    try:
        with tiny.at_step(1, twice):
            assert tiny.resume(out) == 130
    finally:
        signal.signal(signal.SIGINT, given)
    assert capsys.readouterr().err.endswith("\nstopped\n") and files(out) == before
    tiny.assert_goes_on(out)


@pytest.mark.parametrize("moment", ["half of it is written", "it gets its name"])
def test_a_kill_while_a_checkpoint_is_saved_leaves_the_one_before(
        tiny: Folder, out: Path, moment: str) -> None:
    before = (out / tiny.last).read_bytes()
    owner, name, place = (np, "savez", 0) if tiny.numpy else (torch, "save", 1)
    write, replace = getattr(owner, name), os.replace

    def half(*given: object, **how: object) -> None:
        file, whole = given[place], io.BytesIO()
        write(*(whole if each is file else each for each in given), **how)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        if file.name.startswith(str(out / tiny.last)):
            signal.raise_signal(signal.SIGKILL)
        file.write(whole.getvalue()[len(whole.getvalue()) // 2 :])

    def rename(source: Path, target: Path) -> None:
        if target.name == tiny.last:
            signal.raise_signal(signal.SIGKILL)
        replace(source, target)

    def work() -> int:
        if moment == "it gets its name":
            os.replace = rename
        else:
            setattr(owner, name, half)
        return tiny.resume(out)

    assert end_of(in_a_process(work)) == -signal.SIGKILL
    assert (out / tiny.last).read_bytes() == before
    tiny.assert_goes_on(out)


def test_a_new_run_and_what_an_old_one_has_left_never_mix(
        tiny: Folder, out: Path, capsys: Said) -> None:
    shutil.copy(tiny.whole / tiny.last, out)
    (out / tiny.best).unlink()
    assert tiny.resume(out) == 1
    assert f"{tiny.last} needs the {tiny.best} that was beside it" in sentence(capsys)
    shutil.copy(tiny.half / tiny.best, out)
    (out / "results.json").write_text('{"train.py": {"steps": 7}, "sweep.py": {}}')
    with tiny.at_step(1, lambda: signal.raise_signal(signal.SIGTERM)):
        assert tiny.fresh(out) == 143
    assert tiny.modules.checkpoint.load(out / tiny.last)["step"] == 1
    assert not (out / tiny.best).exists()
    assert "steps" not in (out / "results.json").read_text()
    tiny.assert_goes_on(out)


def test_a_setting_that_the_checkpoint_does_not_have_is_not_made_up(
        tiny: Folder, out: Path, capsys: Said) -> None:
    """Older code did not know it, so nobody can say with which value the run began."""
    checkpoint = tiny.modules.checkpoint
    whole = checkpoint.load(out / tiny.last)
    del whole["version"], whole["options"]["log_every"]
    checkpoint.save(out / tiny.last, whole)
    before = files(out)
    assert tiny.resume(out) == 1 and files(out) == before
    assert "'log_every' is missing: if older code has written" in sentence(capsys)


# ---------------------------------------------------------------- no room, no permission


def test_a_full_disk_keeps_the_checkpoint_before(tiny: Folder, out: Path, capsys: Said) -> None:
    before = (out / tiny.last).read_bytes()
    (out / f"{tiny.last}.partial").symlink_to(FULL)
    assert tiny.resume(out) == 1
    said = sentence(capsys)
    assert f"{tiny.last} could not be saved (" in said
    assert said.endswith("; the one before it is intact: make room or choose another "
                         "--out-dir\n")
    assert (out / tiny.last).read_bytes() == before
    tiny.assert_goes_on(out)


def test_a_disk_that_is_full_from_the_start_costs_nothing(tiny: Folder, out: Path,
                                                          capsys: Said) -> None:
    before = files(out)
    partial = out / "metrics.csv.partial"
    for train in (tiny.resume, tiny.fresh):
        partial.symlink_to(FULL)
        assert train(out) == 1 and "make room" in sentence(capsys)
        partial.unlink(missing_ok=True)
        assert files(out) == before
    tiny.assert_goes_on(out)


def test_a_row_that_a_full_disk_has_cut_is_left_out(tiny: Folder, out: Path) -> None:
    with (out / "metrics.csv").open("a") as file:
        file.write("1,")
    tiny.assert_goes_on(out)


def test_a_disk_that_is_too_full_for_pictures_can_be_cleared_later(
        tiny: Folder, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    """Only the report is left, from another directory; what it says to type next is there."""
    out = Path(shutil.copytree(tiny.whole, tmp_path / "ein Lauf" / "№ 1"))
    monkeypatch.setattr(tiny.modules.train, "report", tiny.report)
    monkeypatch.chdir(tmp_path)
    (out / "loss.png").symlink_to(FULL)
    assert tiny.resume(out) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: there is no room left")
    (out / "loss.png").unlink()
    assert tiny.resume(out) == 0
    said = capsys.readouterr().out
    words = shlex.split(said.splitlines()[-1])
    assert words[:3] == ["next:", "python", "inference.py"]
    assert words[words.index("--checkpoint") + 1] == f"ein Lauf/№ 1/{tiny.best}"
    assert [path.name for path in tmp_path.iterdir()] == ["ein Lauf"]


@contextlib.contextmanager
def like_anybody() -> Iterator[None]:
    """Root may write where nobody may: without that right (CAP_DAC_OVERRIDE), for a while."""
    if os.geteuid():
        yield
        return
    libc, kept = ctypes.CDLL(None), (ctypes.c_uint32 * 6)()
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert libc.capget(header, kept) == 0
    less = (ctypes.c_uint32 * 6)(*kept)
    less[0] &= ~(1 << 1)
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, kept) == 0


def test_an_output_that_cannot_be_written_is_one_sentence_and_stays_as_it_is(
        tiny: Folder, out: Path, capsys: Said) -> None:
    before = files(out)
    out.chmod(0o555)
    with like_anybody():
        for train in (tiny.resume, tiny.fresh):
            assert train(out) == 1
            assert "Permission denied" in sentence(capsys)
    out.chmod(0o755)
    assert tiny.fresh(out / "metrics.csv" / "below a file") == 1
    assert "metrics.csv" in sentence(capsys) and files(out) == before
    tiny.assert_goes_on(out)


# ---------------------------------------------------------------- values, readers, neighbours


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_a_number_ends_the_run_and_costs_nothing(
        tiny: Folder, out: Path, what: str, capsys: Said) -> None:
    before = (out / tiny.last).read_bytes()

    def sick(module: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        if not torch.is_grad_enabled() or not isinstance(module, nn.Linear | nn.Conv2d):
            return None
        if what == "loss":
            return output * torch.nan
        output.register_hook(lambda gradient: gradient * torch.nan)
        return None

    steps, note = [], lambda *_: steps.append(1)
    with Patch.context() as patch, contextlib.ExitStack() as stack:
        if tiny.numpy:
            loss = tiny.modules.losses.CrossEntropy
            name = {"loss": "forward", "gradient": "backward"}[what]
            original = getattr(loss, name)
            patch.setattr(loss, name, lambda *given: original(*given) * np.nan)
            patch.setattr(tiny.modules.optimizers.Optimizer, "step", note)
        else:
            for hook in (nn.modules.module.register_module_forward_hook(sick),
                         register_optimizer_step_pre_hook(note)):
                stack.callback(hook.remove)
        assert tiny.resume(out) == 1
    assert not steps                 # so the weights are as they were
    said = sentence(capsys)
    assert f"error: the {what} of step {STOPPED + 1} is not finite (learning rate" in said
    assert (out / tiny.last).read_bytes() == before
    tiny.assert_goes_on(out)


def test_a_reader_that_leaves_ends_the_run_in_silence_and_costs_nothing(
        tiny: Folder, out: Path, monkeypatch: Patch, capsys: Said) -> None:
    """As with `python train.py | head`."""
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        with tiny.at_step(1, lambda: os.close(reader)):
            assert tiny.resume(out) == 1
        print("what is said at the end of the process", flush=True)
    assert capsys.readouterr().err == ""
    tiny.assert_goes_on(out)


def test_two_runs_do_not_share_a_folder(tiny: Folder, out: Path, capsys: Said) -> None:
    """The second is refused and touches nothing; the first ends as if it were alone."""

    def work() -> int:
        with tiny.at_step(1, lambda: signal.raise_signal(signal.SIGSTOP)):
            return tiny.resume(out)

    first = in_a_process(work)
    os.waitpid(first, os.WUNTRACED)
    before = files(out)
    try:
        for train in (tiny.fresh, tiny.resume):
            assert train(out) == 1
            assert "another run is writing to" in sentence(capsys)
        assert files(out) == before
    finally:
        os.kill(first, signal.SIGCONT)
        code = end_of(first)
    assert code == 0
    tiny.assert_goes_on(out)
