"""AlexNet in two processes, as `torchrun` would start them: what they share, and the files.

The same run in one process is the measure. Its batches of seven are odd, and its last batch
is a single picture, so that the second process has nothing to do there.
"""

import contextlib
import csv
import json
import shutil
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from support import ROOT, lines_of, load, run, start

alexnet = load("alexnet_from_scratch")
checkpoint, distributed, Part = alexnet.checkpoint, alexnet.distributed, alexnet.parts.Part
Patch, Said = pytest.MonkeyPatch, pytest.CaptureFixture
FOLDER = ROOT / "alexnet_from_scratch"
TWO = (ROOT / "tests" / "two.py",)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
BATCH, EPOCHS, PICTURES, PER_EPOCH = 7, 3, 43, 7
FLAGS = ("--width", 0.05, "--batch-size", BATCH, "--epochs", EPOCHS, "--lr", 0.03,
         "--dropout", 0)
NUMBERS = alexnet.train.COLUMNS[3:8]


def pictures(count: int, classes: int, seed: int) -> Part:
    """Noise of 32 pixels that is a little stronger in one colour, which tells the class."""
    labels = torch.arange(count) % classes
    noise = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    images = 120 + 40 * noise
    images[torch.arange(count), labels % 3] += 30
    return Part(images.clamp(0, 255).byte(), labels, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such pictures as files: 60 in three class folders, 43 of them to train on."""
    home, part = tmp_path_factory.mktemp("pictures"), pictures(60, 3, 4)
    for number, (image, label) in enumerate(zip(part.images, part.labels.tolist())):
        path = home / "abc"[label] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return home


def train(folder: Path, out: Path, *flags: object) -> int:
    """A run in this one process that reports nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alexnet.train, "report", lambda *_: None)
        return alexnet.train.main([*map(str, ("--data", folder, "--out-dir", out, *FLAGS,
                                              *flags))])


def rows(out: Path) -> list[dict]:
    """The metrics without their time column."""
    with (out / "metrics.csv").open(newline="") as file:
        return [dict(row, seconds=None) for row in csv.DictReader(file)]


def assert_close_run(left: Path, right: Path) -> None:
    """The same weights and table up to rounding, and the same names."""
    table = rows(left), rows(right)
    assert len(table[0]) == len(table[1])
    for one, two in zip(*table):
        assert all(one[name] == two[name] for name in ("epoch", "step", "lr"))
        assert [float(one[name]) for name in NUMBERS] == pytest.approx(
            [float(two[name]) for name in NUMBERS], rel=1e-5, abs=1e-9)
    for name in ("checkpoint.pt", "best.pt"):
        one, two = (checkpoint.load(out / name) for out in (left, right))
        assert one["epoch"] == two["epoch"] and list(one["model"]) == list(two["model"])
        for key, weight in one["model"].items():
            torch.testing.assert_close(two["model"][key], weight, rtol=1e-4, atol=1e-5)


def assert_same_run(left: Path, right: Path) -> None:
    """The same bits."""
    assert rows(left) == rows(right)
    one, two = (checkpoint.load(out / "checkpoint.pt") for out in (left, right))
    for part in ("model", "optimizer", "config", "step", "epoch", "best"):
        assert checkpoint.digest(one[part]) == checkpoint.digest(two[part]), part


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("alone")
    assert train(folder, out) == 0
    return out


@pytest.fixture(scope="module")
def paired(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The run of two processes: where it wrote, and what it said."""
    out = tmp_path_factory.mktemp("paired")
    result = run(*TWO, FOLDER / "train.py", "--data", folder, *FLAGS, "--out-dir", out)
    assert result.returncode == 0, result.stderr
    return SimpleNamespace(out=out, result=result)


def test_two_processes_make_the_run_of_one(alone: Path, paired: SimpleNamespace) -> None:
    assert PICTURES % BATCH == 1 and len(rows(alone)) == EPOCHS
    assert rows(alone)[-1]["step"] == str(EPOCHS * PER_EPOCH)
    assert_close_run(alone, paired.out)
    keys = checkpoint.load(paired.out / "checkpoint.pt")["model"]
    assert not [key for key in keys if key.startswith("module.")]


def test_only_the_first_process_prints_and_writes(alone: Path, paired: SimpleNamespace) -> None:
    said = lines_of(paired.result)
    assert len(said) == 3 + EPOCHS + 4 and "processes: 2; seed 0" in said[0]
    assert [line.split()[0] for line in said[3:-4]] == ["1", "2", "3"]
    names = said[-2].removeprefix("wrote ").split(", ")
    assert sorted(path.name for path in paired.out.iterdir()) == sorted(names)
    tests = [line for line in said if "test error" in line]
    assert len(tests) == 2 and all("on 12 pictures" in line for line in tests)


SCENES = """
    import contextlib, json, os, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import torch, torch.distributed as dist
    import console, distributed, evaluation, model, parts, train

    rank, out, flags = int(os.environ["RANK"]), Path(sys.argv[2]), json.loads(sys.argv[3])
    cpu, start, together = torch.device("cpu"), distributed.start, distributed.together
    start(cpu)                 # once for all of what follows
    distributed.start, distributed.together = lambda _: None, contextlib.nullcontext
    train.report = lambda *_: None
    def go(name, *more):
        dist.barrier()             # until the other has written what this one may read
        return train.main([*flags, "--out-dir", str(out / name), *more])
    told = {"place": [distributed.rank(), distributed.ranks()]}
    told["total"] = distributed.total(torch.tensor([1.0, rank]), cpu).tolist()

    class Stop(console.Stop):      # only the second process is asked to stop
        def __init__(self):
            self._previous, self.exit_code, self.left = {}, 143, 10
        @property
        def requested(self):
            self.left -= 1
            return rank == 1 and self.left == 0
    console.Stop, real_stop = Stop, console.Stop
    told["cut"], console.Stop = go("cut"), real_stop
    told["resumed"] = go("cut", "--resume")

    masks, rand_like = [], torch.rand_like
    torch.rand_like = lambda x: masks.append(rand_like(x)) or masks[-1]
    told["dropout"] = go("dropout", "--dropout=0.5", "--epochs=1")
    told["mask"], torch.rand_like = masks[0].flatten()[:5].tolist(), rand_like

    functions, count = torch.nn.functional, []
    cross_entropy = functions.cross_entropy
    def sick(*given, **how):       # in the second process, in the second epoch
        count.append(1)
        return cross_entropy(*given, **how) * (float("nan") if rank and len(count) == 9 else 1)
    functions.cross_entropy = sick
    told["sick"] = go("sick")

    images, labels, config, weights = torch.load(out / "question.pt")
    net = model.build(config)
    net.load_state_dict(weights)
    for count in (205, 1):
        part = parts.Part(images[:count], labels[:count], 32)
        told[f"answers to {count}"] = evaluation.evaluate(net, part, config)
    with together():
        told["before"] = dist.is_initialized()
    told["after"] = dist.is_initialized()
    (out / f"{rank}.json").write_text(json.dumps(told))
"""


def question() -> tuple[Part, nn.Module, dict]:
    """205 pictures of seven classes, and a network that guesses."""
    torch.manual_seed(0)
    config = {"image_size": 28, "mean": 100 + torch.rand(3, 28, 28), "std": 20.0, "width": 0.05,
              "variant": "paper", "changes": {"init": "he"}, "classes": list("abcdefg")}
    net = alexnet.model.build(config)
    nn.init.normal_(net.fc8.weight)
    return pictures(205, 7, 5), net, config


@pytest.fixture(scope="module")
def scenes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What two processes do in one sitting: where they wrote, and what each of them told."""
    out = tmp_path_factory.mktemp("scenes")
    part, net, config = question()
    torch.save((part.images, part.labels, config, net.state_dict()), out / "question.pt")
    (out / "scenes.py").write_text(textwrap.dedent(SCENES))
    flags = json.dumps(list(map(str, ("--data", folder, *FLAGS))))
    result = run(*TWO, out / "scenes.py", FOLDER, out, flags)
    assert result.returncode == 0, result.stderr
    told = [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]
    return SimpleNamespace(out=out, told=told, said=result.stderr)


def test_each_process_knows_its_place_and_parts_in_the_end(scenes: SimpleNamespace) -> None:
    assert [told["place"] for told in scenes.told] == [[0, 2], [1, 2]]
    assert [told["total"] for told in scenes.told] == 2 * [[2, 1]]
    assert all(told["before"] and not told["after"] for told in scenes.told)


def test_all_stop_when_one_is_asked_to_and_go_on_to_the_same_bits(
        scenes: SimpleNamespace, paired: SimpleNamespace) -> None:
    assert [told["cut"] for told in scenes.told] == [143, 143]
    assert "stopped after step 10: go on with python train.py --resume " in scenes.said
    assert [told["resumed"] for told in scenes.told] == [0, 0]
    assert_same_run(paired.out, scenes.out / "cut")


def test_each_process_draws_its_own_dropout(scenes: SimpleNamespace) -> None:
    assert [told["dropout"] for told in scenes.told] == [0, 0]
    assert not set(scenes.told[0]["mask"]) & set(scenes.told[1]["mask"])


def test_a_loss_that_is_not_finite_in_one_process_stops_both(scenes: SimpleNamespace) -> None:
    assert [told["sick"] for told in scenes.told] == [1, 1]
    assert "the loss of step 9 is not finite" in scenes.said
    assert checkpoint.load(scenes.out / "sick" / "checkpoint.pt")["step"] == PER_EPOCH


@pytest.mark.parametrize("count", [205, 1])
def test_both_get_the_answers_to_all_pictures(count: int, scenes: SimpleNamespace) -> None:
    """One picture leaves none for the second process."""
    part, net, config = question()
    some = part._replace(images=part.images[:count], labels=part.labels[:count])
    alone = alexnet.evaluation.evaluate(net, some, config)
    for told in scenes.told:
        assert told[f"answers to {count}"] == pytest.approx(alone, rel=1e-6)


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_the_run(folder: Path, tmp_path: Path) -> None:
    """And one process can go on with it."""
    process = start(*TORCHRUN, FOLDER / "train.py", "--data", folder, *FLAGS, "--epochs", 500,
                    "--log-every", 1, "--out-dir", tmp_path)
    next(line for line in process.stdout if line.split()[:1] == ["1"])
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    step = checkpoint.load(tmp_path / "checkpoint.pt")["step"]
    assert step >= PER_EPOCH and f"stopped after step {step}: go on" in errors, errors
    epochs = step // PER_EPOCH + 1
    assert train(folder, tmp_path, "--resume", "--epochs", epochs) == 0
    assert len(rows(tmp_path)) == epochs


def test_without_torchrun_there_is_one_process(monkeypatch: Patch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with distributed.together():
        distributed.start(torch.device("cpu"))
        assert (distributed.rank(), distributed.ranks()) == (0, 1)
        values, net = torch.tensor([1.0, 2.0]), nn.Linear(2, 2)
        assert distributed.total(values, torch.device("cpu")) is values
        assert distributed.parallel(net) is net
        distributed.wait()


def test_more_processes_than_gpus_are_refused(monkeypatch: Patch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(alexnet.console.Refusal, match="there are 2 GPUs for more processes"):
        distributed.start(torch.device("cuda"))


# ---------------------------------------------------------------- answers and files


def missed(beliefs: Tensor, labels: Tensor, most: int) -> float:
    """The share of pictures whose label is not among the `most` largest beliefs."""
    found = [label in belief.argsort(descending=True)[:most].tolist()
             for belief, label in zip(beliefs, labels.tolist())]
    return 1 - sum(found) / len(found)


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


@pytest.mark.parametrize("ten", [False, True])
def test_evaluating_is_counting(ten: bool) -> None:
    """205 pictures are three batches; of seven classes, five answers do not name each."""
    part, net, config = question()
    loss, error, five, count = alexnet.evaluation.evaluate(net, part, config, ten)
    assert count == 205
    assert net.training    # as before
    beliefs, net = [], net.eval()
    for y, x in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)) if ten else ((2, 2),):
        crops = part.images[:, :, y : y + 28, x : x + 28]
        for seen in (crops, crops.flip(3)) if ten else (crops,):
            beliefs.append(net((seen - config["mean"]) / config["std"]).softmax(1))
    belief = torch.stack(beliefs).mean(0)
    assert loss == pytest.approx(-belief.log()[range(205), part.labels].mean().item(), rel=1e-5)
    assert error == pytest.approx(missed(belief, part.labels, 1), abs=1e-12)
    assert five == pytest.approx(missed(belief, part.labels, 5), abs=1e-12)
    assert 0 < five < error < 1


def test_few_classes_leave_no_top_five_error() -> None:
    part, net, config = question()
    net.fc8 = nn.Linear(net.fc8.in_features, 3)
    part = part._replace(labels=part.labels % 3)
    loss, error, five, _ = alexnet.evaluation.evaluate(net, part, config)
    assert five == 0 < error < 1 and loss > 0


def test_files_are_read_as_they_are_needed_and_broken_ones_are_left_out(
        folder: Path, tmp_path: Path, monkeypatch: Patch, capsys: Said) -> None:
    """A third of the files break, so that most batches of one picture have none at all."""
    shutil.copytree(folder, tmp_path / "files")
    flags = ("--epochs", 2, "--batch-size", 1)
    assert train(tmp_path / "files", tmp_path / "memory", *flags) == 0
    monkeypatch.setattr(alexnet.data, "IN_MEMORY", 0)
    assert train(tmp_path / "files", tmp_path / "lazy", *flags, "--workers", 2) == 0
    assert rows(tmp_path / "memory") == rows(tmp_path / "lazy")
    for path in (tmp_path / "files" / "b").iterdir():
        path.write_bytes(b"rubbish")
    labels = alexnet.data.load(str(tmp_path / "files"), tmp_path, 28).train.labels
    readable = (labels != 1).sum().item()
    for size, steps in ((1, ["43", "86"]), (BATCH, ["7", "14"])):
        capsys.readouterr()
        out = tmp_path / f"broken-{size}"
        assert train(tmp_path / "files", out, *flags, "--batch-size", size) == 0
        assert [row["step"] for row in rows(out)] == steps
        missed = [float(row["train_error"]) * readable for row in rows(out)]
        assert missed == pytest.approx([round(count) for count in missed], abs=1e-6)
        assert all(missed) and readable < len(labels)
        assert "left out 1 files: no picture" in capsys.readouterr().err


def test_errors_are_of_the_pictures_that_could_be_read(folder: Path, tmp_path: Path) -> None:
    """And the report says of how many."""
    shutil.copytree(folder, tmp_path / "files")
    files = sorted((tmp_path / "files").rglob("*.png"))
    for path in files[:4]:
        path.write_bytes(b"rubbish")
    _, net, config = question()
    part = Part(files, torch.zeros(len(files), dtype=torch.int64), 32)
    whole = Part(files[4:], part.labels[4:], 32)
    found, right = (alexnet.evaluation.evaluate(net, p, config) for p in (part, whole))
    assert found == pytest.approx(right) and found[3] == len(files) - 4


def test_data_are_loaded_by_the_first_process_alone(folder: Path, tmp_path: Path,
                                                    monkeypatch: Patch) -> None:
    """A download in two processes at once would spoil its file."""
    inside, load_set = [], alexnet.train.load

    @contextlib.contextmanager
    def alone() -> Iterator[None]:
        inside.append(True)
        yield
        inside.append(False)

    def watched(*asked: object) -> object:
        assert inside == [True]
        return load_set(*asked)

    monkeypatch.setattr(distributed, "first_alone", alone)
    monkeypatch.setattr(alexnet.train, "load", watched)
    assert train(folder, tmp_path, "--epochs", 1) == 0 and inside == [True, False]
