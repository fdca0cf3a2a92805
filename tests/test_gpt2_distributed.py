"""GPT-2 in two processes, as `torchrun` would start them: the run of one, shared fairly.

The batch of seven windows is odd and is read in two parts, so no two parts need be equally
long. The same run in one process, in one part, is the measure.
"""

import json
import random
import signal
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gpt2_runs import FOLDER, assert_close_weights, gpt2, rows
from support import ROOT, lines_of, run, start

checkpoint, distributed, training = gpt2.checkpoint, gpt2.distributed, gpt2.train
Patch = pytest.MonkeyPatch
HOME = ROOT / FOLDER
TWO = (ROOT / "tests" / "two.py",)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
STEPS, EVERY, BATCH = 10, 4, 7
FLAGS = ("--layers", 1, "--heads", 2, "--channels", 8, "--context", 16, "--vocabulary", 280,
         "--batch-size", BATCH, "--steps", STEPS, "--log-every", EVERY, "--dropout", 0,
         "--warm-up", 3, "--lr", 0.01, "--accumulate", 2)
NUMBERS = ("train_loss", "validation_loss", "nats_per_character", "bits_per_character")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of words at random."""
    rng, path = random.Random(0), tmp_path_factory.mktemp("book") / "book.txt"
    words = "the sea and hill of wood über not it was".split()
    path.write_text(" ".join(rng.choices(words, k=3000)), encoding="utf-8")
    return path


def train(book: Path, out: Path, *flags: object) -> int:
    """A run in this one process that reports nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "report", lambda *_: None)
        return training.main([*map(str, ("--data", book, "--out-dir", out, *FLAGS, *flags))])


def assert_close_run(left: Path, right: Path) -> None:
    """The same weights and table up to rounding, and the same names."""
    for one, two in zip(rows(left), rows(right), strict=True):
        assert (one["step"], one["lr"]) == (two["step"], two["lr"])
        assert [float(one[name]) for name in NUMBERS] == pytest.approx(
            [float(two[name]) for name in NUMBERS], rel=1e-5)
    for name in ("checkpoint.pt", "best.pt"):
        one, two = (checkpoint.load(out / name) for out in (left, right))
        assert one["step"] == two["step"]
        assert_close_weights(one["model"], two["model"], 1e-5)


@pytest.fixture(scope="module")
def alone(book: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process, which reads each batch at once."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("alone")
    assert train(book, out, "--accumulate", 1) == 0
    return out


@pytest.fixture(scope="module")
def paired(book: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The run of two processes: where it wrote, and what it said."""
    out = tmp_path_factory.mktemp("paired")
    result = run(*TWO, HOME / "train.py", "--data", book, *FLAGS, "--out-dir", out)
    assert result.returncode == 0, result.stderr
    return SimpleNamespace(out=out, result=result)


def test_two_processes_make_the_run_of_one(alone: Path, paired: SimpleNamespace) -> None:
    assert [row["step"] for row in rows(alone)] == ["4", "8", "10"]
    assert_close_run(alone, paired.out)
    keys = checkpoint.load(paired.out / "checkpoint.pt")["model"]
    assert not [key for key in keys if key.startswith("module.")]


def test_only_the_first_process_prints_and_writes(paired: SimpleNamespace) -> None:
    said = lines_of(paired.result)
    assert "processes: 2; seed 0" in said[0]
    assert [line.split()[0] for line in said[4:-4] if "|" not in line] == ["4", "8", "10"]
    names = said[-2].removeprefix("wrote ").split(", ")
    assert sorted(path.name for path in paired.out.iterdir()) == names
    assert len([line for line in said if line.startswith("validation: ")]) == 1


SCENES = """
    import contextlib, json, os, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import numpy, torch, torch.distributed as dist
    import console, distributed, measures, model, train

    rank, out, flags = int(os.environ["RANK"]), Path(sys.argv[2]), json.loads(sys.argv[3])
    cpu, start, together = torch.device("cpu"), distributed.start, distributed.together
    start(cpu)                 # once for all of what follows
    distributed.start, distributed.together = lambda _: None, contextlib.nullcontext
    train.report, measures.SIDES = lambda *_: None, {"cpu": 8}
    def go(name, *more):
        dist.barrier()             # until the other has written what this one may read
        return train.main([*flags, "--out-dir", str(out / name), *more])
    told = {"place": [distributed.rank(), distributed.ranks()]}
    told["total"] = distributed.total(torch.tensor([1.0, rank]), cpu).tolist()

    quiet = distributed.DistributedDataParallel.no_sync
    def counted(net):
        told["quiet"] = told.get("quiet", 0) + 1
        return quiet(net)
    distributed.DistributedDataParallel.no_sync = counted
    told["straight"], told["seed"] = go("straight"), torch.initial_seed()
    distributed.DistributedDataParallel.no_sync = quiet

    class Stop(console.Stop):      # only the second process is asked to stop
        def __init__(self):
            self._previous, self.exit_code, self.left = {}, 143, 6
        @property
        def requested(self):
            self.left -= 1
            return rank == 1 and self.left == 0
    console.Stop, real_stop = Stop, console.Stop
    told["cut"], console.Stop = go("cut"), real_stop
    told["resumed"] = go("cut", "--resume")

    summed_loss, count = measures.summed_loss, []
    def sick(*given):              # in the second process, in the first part of step five
        count.extend([1] if torch.is_grad_enabled() else [])
        return summed_loss(*given) * (float("nan") if rank and len(count) == 9 else 1)
    measures.summed_loss = sick
    told["sick"], measures.summed_loss = go("sick"), summed_loss

    config, weights, tokens = torch.load(out / "question.pt")
    net = model.build(config)
    net.load_state_dict(weights)
    measures.AT_ONCE = 24
    for count in (105, 97, 4):
        told[f"loss of {count}"] = measures.evaluate(net, tokens[:count].numpy(), 8, 200)
    with together():
        told["before"] = dist.is_initialized()
    told["after"] = dist.is_initialized()
    (out / f"{rank}.json").write_text(json.dumps(told))
"""


def question() -> tuple[nn.Module, dict, torch.Tensor]:
    """A model that guesses, and tokens without sense."""
    torch.manual_seed(0)
    config = {"vocabulary": 30, "context": 8, "layers": 1, "heads": 2, "channels": 8,
              "dropout": 0.3, "bias": True}
    net = gpt2.model.build(config)
    nn.init.normal_(net.embed.weight)
    return net, config, torch.randint(30, (105,))


@pytest.fixture(scope="module")
def scenes(book: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What two processes do in one sitting: where they wrote, and what each of them told."""
    out = tmp_path_factory.mktemp("scenes")
    net, config, tokens = question()
    torch.save((config, net.state_dict(), tokens), out / "question.pt")
    (out / "scenes.py").write_text(textwrap.dedent(SCENES))
    flags = json.dumps(list(map(str, ("--data", book, *FLAGS, "--dropout", 0.2))))
    result = run(*TWO, out / "scenes.py", HOME, out, flags)
    assert result.returncode == 0, result.stderr
    told = [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]
    return SimpleNamespace(out=out, told=told, said=result.stderr)


def test_each_process_knows_its_place_and_parts_in_the_end(scenes: SimpleNamespace) -> None:
    assert [told["place"] for told in scenes.told] == [[0, 2], [1, 2]]
    assert [told["total"] for told in scenes.told] == 2 * [[2, 1]]
    assert all(told["before"] and not told["after"] for told in scenes.told)


def test_processes_meet_once_a_step(scenes: SimpleNamespace) -> None:
    assert [told["straight"] for told in scenes.told] == [0, 0]
    assert [told["quiet"] for told in scenes.told] == [STEPS, STEPS]    # of two parts each


def test_each_process_draws_its_own_dropout(scenes: SimpleNamespace) -> None:
    assert scenes.told[0]["seed"] == STEPS - 1 != scenes.told[1]["seed"]


def test_all_stop_when_one_is_asked_to_and_go_on_to_the_same_bits(
        scenes: SimpleNamespace) -> None:
    """Though there is dropout, which no checkpoint knows of."""
    assert [told["cut"] for told in scenes.told] == [143, 143]
    assert "stopped after step 6: go on with python train.py --resume " in scenes.said
    assert [told["resumed"] for told in scenes.told] == [0, 0]
    assert rows(scenes.out / "straight") == rows(scenes.out / "cut")
    for name in ("checkpoint.pt", "best.pt"):
        one, two = (checkpoint.load(scenes.out / out / name) for out in ("straight", "cut"))
        for part in ("model", "optimizer", "config", "step", "best"):
            assert checkpoint.digest(one[part]) == checkpoint.digest(two[part]), part


def test_a_loss_that_is_not_finite_in_one_process_stops_both(scenes: SimpleNamespace) -> None:
    assert [told["sick"] for told in scenes.told] == [1, 1]
    assert scenes.said.count("the loss of step 5 is not finite") == 2
    assert checkpoint.load(scenes.out / "sick" / "checkpoint.pt")["step"] == EVERY


@pytest.mark.parametrize("count", [105, 97, 4])
def test_both_get_the_loss_on_all_tokens(count: int, scenes: SimpleNamespace) -> None:
    """Whole windows, a rest of one, and a single window that leaves the second nothing."""
    net, _, tokens = question()
    alone = gpt2.measures.evaluate(net, tokens[:count].numpy(), 8, 200)
    for told in scenes.told:
        assert told[f"loss of {count}"] == pytest.approx(list(alone), rel=1e-6)


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_the_run(book: Path, tmp_path: Path) -> None:
    """And one process can go on with it."""
    process = start(*TORCHRUN, HOME / "train.py", "--data", book, *FLAGS, "--steps", 5000,
                    "--log-every", EVERY, "--out-dir", tmp_path)
    next(line for line in process.stdout if line.split()[:1] == ["4"])
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    step = checkpoint.load(tmp_path / "checkpoint.pt")["step"]
    assert step >= EVERY and f"stopped after step {step}: go on" in errors, errors
    assert train(book, tmp_path, "--resume", "--steps", step + 1) == 0
    assert checkpoint.load(tmp_path / "checkpoint.pt")["step"] == step + 1


def test_a_batch_too_small_for_all_parts_is_refused(
        book: Path, tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(distributed, "ranks", lambda: 4)
    assert train(book, tmp_path / "out") == 1 and not (tmp_path / "out").exists()
    said = capsys.readouterr().err
    assert "7 windows cannot be shared among 4 processes with 2 parts each: use a" in said


def test_without_torchrun_there_is_one_process(monkeypatch: Patch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with distributed.together():
        distributed.start(torch.device("cpu"))
        assert (distributed.rank(), distributed.ranks()) == (0, 1)
        values, net = torch.tensor([1.0, 2.0]), nn.Linear(2, 2)
        assert distributed.total(values, torch.device("cpu")) is values
        assert distributed.parallel(net) is net
        with distributed.meeting(net, now=False), distributed.meeting(net, now=True):
            distributed.wait()


def test_more_processes_than_gpus_are_refused(monkeypatch: Patch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(gpt2.console.Refusal, match="there are 2 GPUs for more processes"):
        distributed.start(torch.device("cuda"))


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_fetches_before_the_others(rank: int, monkeypatch: Patch) -> None:
    """Also where it fails, so that nobody waits for ever."""
    done = []
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "wait", lambda: done.append("met"))
    with pytest.raises(ValueError), distributed.first_alone():
        done.append("loaded")
        raise ValueError
    assert done == (["met", "loaded"] if rank else ["loaded", "met"])
