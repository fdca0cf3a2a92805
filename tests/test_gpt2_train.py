"""Training GPT-2 on a short text: the recipe, and the same run again to the bit."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gpt2_runs import (
    BATCH,
    CONTEXT,
    EVERY,
    STEPS,
    assert_close_weights,
    assert_same_run,
    chosen,
    cut_after,
    files,
    gpt2,
    resume,
    rows,
    saved,
    short_text,
    train,
)

options, rule, training = gpt2.options, gpt2.optimization, gpt2.train
batches, digest = gpt2.batches, gpt2.checkpoint.digest
Said, CPU = pytest.CaptureFixture, torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[object]:
    """A short text for every run."""
    with short_text() as data:
        yield data


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    assert train(out) == 0
    return out


# ---------------------------------------------------------------- the recipe


def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine() -> None:
    for steps, warm_up, floor in ((100, 10, 0.0), (50, 1, 0.1), (20, 20, 0.5), (8, 30, 0.2)):
        shares = [rule.rate_share(step, steps, warm_up, floor) for step in range(1, steps + 1)]
        down = [floor + (1 - floor) * math.cos(math.pi / 2 * (step - warm_up)
                                               / max(1, steps - warm_up)) ** 2
                for step in range(warm_up, steps + 1)]
        up = [step / warm_up for step in range(1, warm_up)]
        assert shares == pytest.approx((up + down)[:steps])
    assert rule.rate_share(500, 100, 10, 0.25) == 0.25


def test_only_matrices_decay_and_the_shared_one_is_stepped_once() -> None:
    net = gpt2.model.GPT(9, 4, 2, 2, 8)
    made = rule.make_optimizer(net, 0.3, 0.97)
    found = {id(p): group for group in made.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in made.param_groups) == len(found)
    for name, p in net.named_parameters():
        group, flat = found.pop(id(p)), name.endswith("bias") or "norm" in name
        assert group["weight_decay"] == (0 if flat else 0.3), name
        assert group["betas"] == (0.9, 0.97)
    assert not found and isinstance(made, torch.optim.AdamW)


def test_what_the_flags_leave_open_follows_from_the_preset() -> None:
    for name, recipe in options.PRESETS.items():
        args = chosen("--preset", name, "--data", "shakespeare")
        assert {key: getattr(args, key) for key in recipe} == recipe
        assert (args.weight_decay, args.clip, args.seed, args.compile) == (0.1, 1.0, 0, False)
        assert args.log_every == recipe.get("log_every", math.ceil(args.steps / 15))
    assert chosen() == chosen("--preset", "small")
    for name, value in options.SHORT["python-docs"].items():
        assert getattr(chosen(), name) == value != options.PRESETS["small"][name]
        assert getattr(chosen("--preset", "gpt2"), name) == options.PRESETS["gpt2"][name]
    quick, tuned = chosen("--quick"), chosen("--weights", "gpt2")
    assert (quick.steps, quick.log_every, quick.channels, quick.warm_up) == (40, 20, 64, 10)
    assert chosen("--steps", 90).warm_up == 23
    assert chosen("--steps", 9, "--warm-up", 7).warm_up == 7
    assert {key: getattr(tuned, key) for key in options.FINE_TUNING} == options.FINE_TUNING
    typed = {"steps": 7, "lr": 0.5, "channels": 12, "heads": 3, "dropout": 0.0, "floor": 0.0,
             "beta2": 0.5, "accumulate": 2, "vocabulary": 300}
    for more in ((), ("--quick",), ("--preset", "gpt2")):
        found = chosen(*more, *(f"--{name}={value}" for name, value in typed.items()))
        assert typed.items() <= vars(found).items()


def test_windows_are_drawn_by_seed_and_step_from_every_place() -> None:
    tokens = np.arange(12, dtype=np.uint16) + 300
    seen = [batches.begins(len(tokens), 4, 5, 7, step) for step in range(100)]
    assert set(torch.cat(seen).tolist()) == set(range(8))      # the last one ends with the text
    assert torch.equal(seen[3], batches.begins(len(tokens), 4, 5, 7, 3))
    assert not torch.equal(seen[3], batches.begins(len(tokens), 4, 5, 8, 3))
    assert not torch.equal(seen[4], batches.begins(len(tokens), 4, 5, 8, 3))   # nor moved on
    inputs, targets = batches.windows(tokens, [0, 7], 4, CPU)
    assert inputs.tolist() == [[300, 301, 302, 303], [307, 308, 309, 310]]
    assert torch.equal(targets, inputs + 1) and inputs.dtype == torch.int64


@pytest.mark.parametrize("largest", [255, 65_535, 65_536])
def test_tokens_come_back_from_their_file(largest: int, tmp_path: Path) -> None:
    tokens = [0, largest, 5]
    batches.store(tokens, tmp_path / "t.npy")
    assert np.load(tmp_path / "t.npy", mmap_mode="r").tolist() == tokens
    assert [path.name for path in tmp_path.iterdir()] == ["t.npy"]
    assert (tmp_path / "t.npy").stat().st_size == 128 + 3 * (4 if largest > 65_535 else 2)


def test_steps_are_those_of_a_plain_loop(few: object, tmp_path: Path) -> None:
    """Written out once more: windows, mean loss, shortened gradient, AdamW; no dropout."""
    clip, decay = 0.5, 0.3
    assert train(tmp_path, "--dropout", 0, "--steps", 5, "--seed", 3, "--clip", clip,
                 "--weight-decay", decay, "--lr", 0.01, "--beta2", 0.9, "--floor", 0.1) == 0
    config = saved(tmp_path)["config"]
    tokens = gpt2.tokenizer.Tokenizer.from_state(config["tokenizer"]).encode(few[1])
    torch.manual_seed(3)
    net, losses = gpt2.model.build(config), []
    flat = [p for p in net.parameters() if p.ndim == 1]
    adam = torch.optim.AdamW([{"params": [p for p in net.parameters() if p.ndim > 1]},
                              {"params": flat, "weight_decay": 0}], weight_decay=decay,
                             betas=(0.9, 0.9))
    for step, share in enumerate((1 / 3, 2 / 3, 1.0, 0.55, 0.1)):
        places = batches.begins(len(tokens), CONTEXT, BATCH, 3, step).tolist()
        read = torch.tensor([tokens[place : place + CONTEXT + 1] for place in places])
        loss = F.cross_entropy(net(read[:, :-1]).transpose(1, 2), read[:, 1:])
        adam.zero_grad()
        loss.backward()
        assert nn.utils.clip_grad_norm_(net.parameters(), clip) > clip
        for group in adam.param_groups:
            group["lr"] = 0.01 * share
        adam.step()
        losses.append(loss.item())
    assert float(rows(tmp_path)[0]["train_loss"]) == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert_close_weights(net.state_dict(), saved(tmp_path)["model"], 1e-5)


@pytest.mark.parametrize("size", [8, 7])
def test_a_batch_may_be_read_in_parts(size: int, tmp_path: Path) -> None:
    """Also where they are not equally long: 7 are 4 and 3, or 2, 2, 2 and 1."""
    whole, *split = (tmp_path / str(parts) for parts in (1, 2, 4))
    for out in (whole, *split):
        assert train(out, "--accumulate", out.name, "--batch-size", size, "--dropout", 0) == 0
    for out in split:
        assert_close_weights(saved(whole)["model"], saved(out)["model"], 1e-6 * 30)
        for one, two in zip(rows(whole), rows(out), strict=True):
            assert float(one["train_loss"]) == pytest.approx(float(two["train_loss"]), rel=1e-6)
            assert float(one["validation_loss"]) == pytest.approx(
                float(two["validation_loss"]), rel=1e-6)


# ---------------------------------------------------------------- the same run again


def test_one_seed_gives_equal_bits_and_another_others(straight: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    assert train(tmp_path / "same") == 0
    assert_same_run(straight, tmp_path / "same")
    assert train(tmp_path / "other", "--seed", 1) == 0
    assert [row["step"] for row in rows(straight)] == ["5", "10", "15", "16"]
    for mine, other in zip(rows(straight), rows(tmp_path / "other"), strict=True):
        assert mine["train_loss"] != other["train_loss"] and mine["lr"] == other["lr"]


def test_evaluating_and_sampling_do_not_touch_the_training(
        straight: Path, tmp_path: Path) -> None:
    assert train(tmp_path, "--log-every", 1) == 0 and len(rows(tmp_path)) == STEPS
    losses = [float(row["train_loss"]) for row in rows(tmp_path)]
    assert [float(row["train_loss"]) for row in rows(straight)] == pytest.approx(
        [sum(losses[i : i + EVERY]) / len(losses[i : i + EVERY]) for i in range(0, 16, EVERY)])
    assert digest(saved(tmp_path)["model"]) == digest(saved(straight)["model"])
    assert rows(tmp_path)[-1]["validation_loss"] == rows(straight)[-1]["validation_loss"]


@pytest.mark.parametrize("cut", [1, EVERY - 1, EVERY, EVERY + 1, STEPS - 1, STEPS])
def test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run(
        cut: int, straight: Path, tmp_path: Path, capsys: Said) -> None:
    cut_after(cut, tmp_path)
    assert saved(tmp_path)["step"] in (cut, cut + 1)
    (tmp_path / "training.npy").unlink()                # what can be made again may be lost
    (tmp_path / "validation.npy").write_bytes((straight / "training.npy").read_bytes())
    assert resume(tmp_path) == 0
    assert_same_run(straight, tmp_path)
    before = files(tmp_path)
    assert resume(tmp_path) == 0 and files(tmp_path) == before
    assert f"the run is finished, at step {STEPS}" in capsys.readouterr().err


def test_a_resumed_run_keeps_what_its_steps_depend_on(straight: Path, capsys: Said) -> None:
    others = ("data=shakespeare batch-size=8 seed=5 quick out-dir=elsewhere preset=gpt2 "
              "weights=gpt2 tokenizer=here vocabulary=256 context=4 layers=2 heads=4 "
              "channels=16 bias dropout=0.5").split()
    before, path = files(straight), str(straight / "checkpoint.pt")
    for flag in others:
        assert training.main(["--resume", path, f"--{flag}"]) == 1
        name = flag.split("=")[0].replace("-", " ")
        assert f"error: a resumed run keeps its {name} (" in capsys.readouterr().err
    assert len(others) == len(options.FIXED)
    assert files(straight) == before
