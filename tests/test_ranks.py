"""A process of several that dies ends the others within 30 seconds, with a sentence.

Most tests start the processes themselves, with the numbers that `torchrun` would give them, so
that nobody but the survivor can end the survivor, as on a machine of its own. The slow ones
have one `torchrun`, or two of them as on two machines.
"""

import json
import os
import re
import shlex
import subprocess
import textwrap
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from support import ROOT, load, run, start
from two import free_port

Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
LENGTHS = {"alexnet_from_scratch": ("--epochs", 500, "--log-every", 1),
           "gpt2_from_scratch": ("--steps", 5000, "--log-every", 5),
           "diffusion_from_scratch": ("--steps", 5000, "--log-every", 5),
           "stable_diffusion_from_scratch": ("--steps", 5000, "--log-every", 5)}
LIMIT = 30          # seconds
LOST = "error: another process of this run has ended or cannot be reached: see what it said"
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node")
CPU = torch.device("cpu")
each_folder = pytest.mark.parametrize("folder", LENGTHS)

MORTAL = """
    import json, os, signal, sys, time
    folder, out, port, rank, moment, killed, *flags = sys.argv[1:]
    sys.path.insert(0, folder)
    import torch, distributed, train

    def both():                    # two processes, each of which goes on below; then their ends
        pids, ends = [], [None, None]
        for number in (0, 1):
            pids.append(os.fork())
            if not pids[-1]:
                os.dup2(os.open(f"{out}/{number}", os.O_CREAT | os.O_WRONLY), 2)
                os.environ.update(RANK=str(number), LOCAL_RANK="0", WORLD_SIZE="2",
                                  MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
                return signal.alarm(200)
        while None in ends:
            pid, status = os.wait()
            ends[pids.index(pid)] = time.monotonic(), os.waitstatus_to_exitcode(status)
        print(json.dumps(ends))
        sys.exit()

    def mortal(work, left):        # at the last of so many times it dies
        def worked(*given, **how):
            left.pop()
            if not left:
                open(f"{out}/died", "w").write(str(time.monotonic()))
                if killed == "torchrun":
                    os.kill(os.getppid(), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*given, **how)
        return worked

    if "RANK" not in os.environ:
        both()
    if os.environ["RANK"] == rank:
        home = distributed if moment == "total" else torch.Tensor
        setattr(home, moment, mortal(getattr(home, moment), 12 * [None]))
    sys.exit(train.main([*flags, "--out-dir", out]))
"""


def mortal(folder: str, out: Path, rank: int, moment: str,
           killed: str = "process") -> tuple[object, ...]:
    """A quick, long training, one process of which dies in its twelfth step or so."""
    script = out / "mortal.py"
    script.write_text(textwrap.dedent(MORTAL))
    return (script, ROOT / folder, out, free_port(), rank, moment, killed, "--quick",
            *LENGTHS[folder])


@pytest.mark.parametrize(("folder", "rank", "moment"), [
    ("alexnet_from_scratch", 1, "total"), ("gpt2_from_scratch", 0, "backward"),
    ("diffusion_from_scratch", 1, "backward"), ("stable_diffusion_from_scratch", 0, "total")])
def test_a_process_that_dies_ends_the_other(folder: str, rank: int, moment: str,
                                            tmp_path: Path) -> None:
    """The first is the one where both met. The other says a sentence and nothing else."""
    result = run(*mortal(folder, tmp_path, rank, moment), timeout=250)
    assert result.returncode == 0, result.stderr
    ends = json.loads(result.stdout.splitlines()[-1])
    killed, (ended, code) = ends[rank][1], ends[1 - rank]
    died = float((tmp_path / "died").read_text())
    said = [(tmp_path / str(number)).read_text() for number in (rank, 1 - rank)]
    assert (killed, code) == (-9, 1) and 0 <= ended - died < LIMIT, said
    assert said[0] == "" and said[1].startswith(LOST) and said[1].count("\n") == 1, said
    assert "--resume" in said[1]
    assert load(folder).checkpoint.load(tmp_path / "checkpoint.pt")["step"] >= 5


def texts(process: subprocess.Popen) -> list[str]:
    """What a process says on stderr until it ends."""
    try:
        return process.communicate(timeout=250)[1].splitlines()
    finally:
        process.kill()


def assert_ended_in_time(out: Path) -> None:
    assert time.monotonic() - float((out / "died").read_text()) < LIMIT


@pytest.mark.slow
def test_under_torchrun_too(tmp_path: Path) -> None:
    folder = "stable_diffusion_from_scratch"
    said = texts(start(*TORCHRUN, 2, "--standalone", *mortal(folder, tmp_path, 1, "total")))
    assert_ended_in_time(tmp_path)
    assert [line for line in said if line.startswith(LOST)]


def machine(number: int, port: int) -> tuple[object, ...]:
    return (*TORCHRUN, 1, "--nnodes", 2, "--node-rank", number, "--master-addr", "127.0.0.1",
            "--master-port", port)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "rank"), [*zip(LENGTHS, (0, 1, 0, 1))])
def test_a_machine_that_dies_ends_the_other(folder: str, rank: int, tmp_path: Path) -> None:
    command, port = mortal(folder, tmp_path, rank, "backward", "torchrun"), free_port()
    both = [start(*machine(number, port), *command) for number in (0, 1)]
    said = texts(both[1 - rank])
    assert_ended_in_time(tmp_path)
    assert len([line for line in said if line.startswith(LOST)]) == 1
    texts(both[rank])
    assert (both[rank].returncode, both[1 - rank].returncode) == (-9, 1)


@pytest.mark.slow
def test_a_machine_that_refuses_to_begin_ends_the_other(tmp_path: Path) -> None:
    """It has no checkpoint to go on with, and ends before it has met the other."""
    train, port = ROOT / "gpt2_from_scratch" / "train.py", free_port()
    both = [start(*machine(number, port), train, "--quick", "--out-dir", tmp_path / str(number),
                  *flags) for number, flags in enumerate([(), ("--resume",)])]
    assert [line for line in texts(both[1]) if line.startswith("error: there is no checkpoint")]
    begun = time.monotonic()
    said = texts(both[0])
    assert time.monotonic() - begun < LIMIT and both[0].returncode == 1
    assert [line for line in said if line.startswith("error: not all processes came within 25")]


@pytest.mark.parametrize("served", [True, False])
@each_folder
def test_nobody_waits_long_for_one_that_does_not_come(folder: str, served: bool,
                                                      monkeypatch: Patch) -> None:
    """Whether `torchrun` runs the place where they meet, or the first of them."""
    modules, port = load(folder), free_port()
    distributed, Refusal = modules.distributed, modules.console.Refusal
    place = dist.TCPStore("127.0.0.1", port, is_master=True) if served else None
    assert 10 < distributed.PATIENCE < LIMIT - 3
    monkeypatch.setattr(distributed, "PATIENCE", 1)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: pytest.fail("met nobody"))
    for name, value in (("RANK", 0), ("WORLD_SIZE", 2), ("MASTER_ADDR", "127.0.0.1"),
                        ("MASTER_PORT", port), ("TORCHELASTIC_USE_AGENT_STORE", served)):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(Refusal, match="^not all processes came within 1 sec"), \
            distributed.together():
        distributed.start(CPU)
    del place


@each_folder
def test_only_an_error_of_the_others_is_told_as_such(folder: str, monkeypatch: Patch) -> None:
    """An error of this process, or of one that is alone, keeps its own words."""
    modules = load(folder)
    distributed, Refusal = modules.distributed, modules.console.Refusal
    gloo = RuntimeError("[/x/gloo/transport/tcp/pair.cc:561] Connection closed by peer")
    store, own = dist.DistNetworkError("Broken pipe"), RuntimeError("shapes differ")
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    for several in (True, False):
        monkeypatch.setattr(dist, "is_initialized", lambda several=several: several)
        for error in (gloo, store, own):
            with pytest.raises(RuntimeError if error is own or not several else Refusal), \
                    distributed.together():
                raise error


PARTING = """
    import atexit, os, sys, time
    sys.path.insert(0, sys.argv[1])
    import torch.distributed as dist, console, distributed

    @console.one_line_errors
    def main(argv):
        with distributed.together():
            raise RuntimeError("[/x/gloo/transport/tcp/pair.cc:561] Connection closed by peer")

    os.environ["RANK"] = "0"
    dist.is_initialized, dist.destroy_process_group = lambda: True, lambda: time.sleep(60)
    atexit.register(time.sleep, 60)     # both may wait for ever
    print("as before")
    sys.exit(main([]))
"""


def test_who_has_lost_another_does_not_wait_for_it_in_the_end(tmp_path: Path) -> None:
    script, begun = tmp_path / "parting.py", time.monotonic()
    script.write_text(textwrap.dedent(PARTING))
    result = run(script, ROOT / "gpt2_from_scratch")
    assert time.monotonic() - begun < LIMIT and result.returncode == 1
    assert result.stderr.startswith(LOST) and result.stdout == "as before\n"


def test_the_copies_are_alike() -> None:
    """GPT-2's has one function more, at its end."""
    *some, longest = sorted({(ROOT / folder / "distributed.py").read_text(encoding="utf-8")
                             for folder in LENGTHS}, key=len)
    assert len(some) == 1 and longest.startswith(some[0])


# ---------------------------------------------------------------- several machines


def readme_command(folder: str) -> list[str]:
    """What a README says that one should type on the first of several machines."""
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`(torchrun --nnodes [^`]*)`", text)
    return shlex.split(command)


@each_folder
def test_the_readme_has_a_command_for_several_machines(folder: str) -> None:
    words = readme_command(folder)
    before, flags = words[: words.index("train.py")], words[words.index("train.py") + 1 :]
    assert before == shlex.split("torchrun --nnodes 2 --node-rank 0 --nproc-per-node 8 "
                                 "--master-addr ADDRESS --master-port 29500")
    args = load(folder).options.parser().parse_args(flags)
    assert args.out_dir.name == "SHARED"


@pytest.mark.slow
@each_folder
def test_it_makes_one_run_of_two_machines(folder: str, tmp_path: Path) -> None:
    """With one process on each; the first of all prints and writes."""
    words = readme_command(folder)
    port, both = free_port(), []
    for number in ("0", "1"):
        given = {"--node-rank": number, "--nproc-per-node": "1", "--master-port": str(port),
                 "--master-addr": "127.0.0.1"}
        before = words[1 : words.index("train.py") + 1]
        command = [given.get(flag, word) for flag, word in zip(["", *before], before)]
        both.append(start("-m", "torch.distributed.run", *command, "--quick", "--out-dir",
                          tmp_path / "out", cwd=ROOT / folder))
    outputs = [process.communicate(timeout=250) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert "processes: 2" in outputs[0][0] and not outputs[1][0]
    assert [path.name for path in tmp_path.rglob("checkpoint.pt")] == ["checkpoint.pt"]
    assert os.path.getsize(tmp_path / "out" / "best.pt") > 1000
