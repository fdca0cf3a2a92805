"""What a run does on its way: averages, gradients, start values, validation, curves."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure
from torch.optim.optimizer import register_optimizer_step_pre_hook

from sd_peers import sd
from sd_tiny import TINY, tiny

CPU, Patch, digest = torch.device("cpu"), pytest.MonkeyPatch, sd.checkpoint.digest
validation, batches, losses = sd.validation, sd.batches, sd.losses
SIZE = {part: TINY[part] for part in ("unet", "vae", "text")}
LONGEST = 1e-3       # of a gradient in the run below, far less than it has
FLAGS = ("--batch-size", 4, "--vae-batch-size", 2, "--steps", 5, "--vae-steps", 2,
         "--log-every", 5, "--ema", 0.5, "--clip", LONGEST)


@pytest.fixture(scope="module")
def few() -> sd.data.Data:
    return sd.data.drawn_shapes(32, 0, (20, 12))


def chosen(*flags: object) -> SimpleNamespace:
    args = sd.options.parser().parse_args([*map(str, flags)])
    sd.options.set_defaults(args)
    return args


@pytest.fixture(scope="module")
def made(few: sd.data.Data, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of five steps, the numbers of its averages, and the lengths of its gradients."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    averaged, lengths, update = [], [], sd.ema.Average.update

    def measure(optimizer: torch.optim.Optimizer, *_: object) -> None:
        every = [p.grad for group in optimizer.param_groups for p in group["params"]]
        lengths.append(torch.stack([grad.norm() for grad in every if grad is not None]).norm())

    args = chosen(*FLAGS, "--out-dir", tmp_path_factory.mktemp("made"))
    hook = register_optimizer_step_pre_hook(measure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "ASKED", 2)
        patch.setattr(validation, "ROUGH", 1)
        patch.setattr(sd.start, "SHOWN", 5)
        patch.setitem(sd.options.SIZES, "small", SIZE)
        patch.setattr(sd.ema.Average, "update", lambda self, model, step: (
            averaged.append(step), update(self, model, step)))
        run = sd.run.Run(args, few, CPU)
        sd.train.train(run, SimpleNamespace(requested=False))
    hook.remove()
    return SimpleNamespace(run=run, out=args.out_dir, averaged=averaged, lengths=lengths)


# ---------------------------------------------------------------- steps


def test_updates_of_the_average_are_counted_from_the_second_stage_on(
        made: SimpleNamespace) -> None:
    """From 0: one more at the start, and the untrained weights stay in it for longer."""
    assert made.averaged == [0, 1, 2]


def test_a_gradient_is_cut_to_the_length_that_was_asked(made: SimpleNamespace) -> None:
    """In both stages: two steps of the first, three of the second."""
    assert [float(length) for length in made.lengths] == pytest.approx([LONGEST] * 5, rel=1e-3)


def test_decay_pulls_at_kernels_and_matrices_only() -> None:
    net = sd.model.build(TINY).unet
    optimizer = sd.optimization.make_optimizer(net.parameters(), 0.1)
    strong, free = optimizer.param_groups
    assert (strong["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in strong["params"]} == {2, 4}
    assert {p.ndim for p in free["params"]} == {1}
    assert len(strong["params"]) + len(free["params"]) == len(list(net.parameters()))
    assert strong["betas"] == free["betas"] == (0.9, 0.99)


def test_words_and_places_stand_out_from_the_first_step_on(few: sd.data.Data,
                                                           monkeypatch: Patch) -> None:
    monkeypatch.setitem(sd.options.SIZES, "small", SIZE)
    model, _ = sd.start.begin(chosen(), few)
    for part in model.text.embeddings.values():
        assert part.weight.std().item() == pytest.approx(1, rel=0.2)


def test_the_report_draws_with_the_averaged_weights_of_the_best(made: SimpleNamespace,
                                                                monkeypatch: Patch) -> None:
    best, drawn = sd.checkpoint.load(made.out / "best.pt"), []
    made.run.judged.load_state_dict(best["model"])      # whatever was there before
    monkeypatch.setattr(validation.Validation, "draw", lambda self, model, stage, path: (
        drawn.append((digest(model.state_dict()), stage, path))))
    monkeypatch.setattr(sd.curves, "draw_curves", lambda *_: None)
    sd.train.report(made.run)
    assert drawn == [(digest(best["ema"]), "diffusion", made.out / "samples.png")]
    assert digest(best["ema"]) != digest(best["model"])


# ---------------------------------------------------------------- validation


def judge(data: sd.data.Data, *flags: object) -> validation.Validation:
    reader = sd.tokenizer.from_state(TINY["tokenizer"])
    return validation.Validation(chosen(*flags), data, reader, [], CPU)


def test_what_a_decoder_overshoots_is_no_error_of_a_picture(few: sd.data.Data,
                                                            monkeypatch: Patch) -> None:
    """A screen shows it as black or white; the loss sees it nevertheless."""
    model, x = tiny().requires_grad_(False), sd.pipeline.floats(few.validation.images)
    decode = model.vae.decode
    monkeypatch.setattr(model.vae, "decode", lambda z: 4 * decode(z))
    found = judge(few, "--kl", 0.5).measure(model, "vae")
    noise = torch.randn((12, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    drawn, latents = model.vae(x, noise)
    assert (drawn.abs() > 1).float().mean() > 0.2
    square = (drawn.clamp(-1, 1) - x).square().mean().item()
    assert found["psnr"] == pytest.approx(10 * math.log10(4 / square), abs=1e-3)
    wanted = losses.vae_losses(drawn, x, latents, 0.5).mean().item()
    assert found["validation_loss"] == pytest.approx(wanted, rel=1e-4)


def test_the_loss_of_validation_withholds_no_caption(few: sd.data.Data) -> None:
    model, own = tiny().requires_grad_(False), few._replace(name="own")
    found, reader = judge(own).measure(model, "diffusion"), judge(own).tokenizer
    known = validation.encode_all(model, few.validation.images, CPU)
    latents, noise, t, said = batches.latent_batch(
        known, reader(few.validation.captions), reader([""]), 12, 0, 0, 0.0)
    expected = reader(few.validation.captions)[batches.chosen(12, 12, 0, 0)]
    assert torch.equal(said, expected) and found["colour"] == ""
    seen = model.unet(losses.noised(latents, noise, t), t, model.text(said))
    wanted = losses.noise_losses(seen, noise, t, 5.0, 1.0).mean().item()
    assert found["validation_loss"] == pytest.approx(wanted, rel=1e-5)


def test_prompts_are_drawn_with_the_guidance_of_the_other_scripts(few: sd.data.Data,
                                                                  monkeypatch: Patch) -> None:
    asked = []

    def draw(self: object, prompts: list, seeds: list, size: tuple, **how: object):
        asked.append((list(seeds), size, how["guidance"], how["steps"]))
        return torch.zeros(len(prompts), *size, 3)

    monkeypatch.setattr(sd.pipeline.Pipeline, "draw", draw)
    monkeypatch.setattr(validation, "AT_ONCE", 2)
    assert judge(few).paint(tiny(), ["a", "b", "c"]).shape == (3, 32, 32, 3)
    assert sd.asking.GUIDANCE == 3.0
    assert asked == [([0, 1], (32, 32), 3.0, 10), ([2], (32, 32), 3.0, 10)]


# ---------------------------------------------------------------- curves


def test_curves_are_those_of_the_table(tmp_path: Path, monkeypatch: Patch) -> None:
    """Each line is the column that its label says, and of its own stage."""
    figures = []
    monkeypatch.setattr(sd.curves, "save", lambda figure, path: figures.append(figure))
    path, names = tmp_path / "metrics.csv", sd.run.COLUMNS
    shares = {"colour": 0.9, "shape": 0.8, "both": 0.7}
    table = [{"step": step, "stage": stage, "train_loss": step, "validation_loss": 10 * step,
              **({} if stage == "vae" else shares)}
             for step, stage in ((2, "vae"), (4, "vae"), (6, "diffusion"), (8, "diffusion"))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(table)
    sd.curves.draw_curves(path, tmp_path / "loss.png")
    found = [{line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
              for line in axis.lines} for axis in figures[0].axes]
    assert isinstance(figures[0], Figure) and found == [
        {"training": ([2, 4], [2, 4]), "validation": ([2, 4], [20, 40])},
        {"training": ([6, 8], [6, 8]), "validation": ([6, 8], [60, 80])},
        {name: ([6, 8], [share] * 2) for name, share in shares.items()}]
