"""One training run: the models, where it stands, and the files it leaves behind."""

# B latents in a batch, N pictures, C channels, H height and W width of latents, S tokens of a
# prompt

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import checkpoint
import console
import devices
import distributed
import optimization
from batches import Batch, latent_batch, picture_batch, share
from data import Data
from ema import Average
from model import NAME, StableDiffusion, build
from start import begin
from tokenizer import from_state
from validation import Validation, encode_all, scale_of

COLUMNS = ["step", "stage", "lr", "train_loss", "validation_loss", "psnr", "deviation",
           "colour", "shape", "both", "seconds"]


class Denoiser(nn.Module):
    """The two that learn together in the second stage: who reads prompts, who sees noise."""

    def __init__(self, model: StableDiffusion) -> None:
        super().__init__()
        self.unet, self.text = model.unet, model.text

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:     # (B, C, H, W)
        return self.unet(x, t, self.text(tokens))                      # (B, C, H, W)


class Run:
    """A training run: the models, where it stands, and the files it leaves behind."""

    PROGRESS = ("stage", "step", "evaluated", "total", "best", "best_step",
                "seconds")         # what a checkpoint keeps of it

    def __init__(self, args: argparse.Namespace, data: Data, device: torch.device,
                 saved: dict | None = None) -> None:
        self.args, self.data, self.device, self.data_digest = args, data, device, data.digest
        if saved and saved["data"] != self.data_digest:
            raise console.Refusal(f"{data.name} is not what it was when the run began: start a "
                                  "new one")
        torch.manual_seed(args.seed)
        if saved:
            self.config, model = saved["config"], build(saved["config"])
        else:
            model, self.config = begin(args, data)
        self.model = model.to(device).requires_grad_(False)
        self.model.vae.to(memory_format=torch.channels_last)    # its small convolutions: faster
        self.tokenizer = from_state(self.config["tokenizer"])
        self.stage, self.step, self.evaluated, self.total = "vae", 0, 0, 0.0
        self.best, self.best_step, self.seconds, self.stopped = None, 0, 0.0, False
        self.average: Average | None = None
        if saved:
            checkpoint.restore(self.model, saved["model"], args.resume)
            for name in self.PROGRESS:
                setattr(self, name, saved[name])
        self.validation = Validation(args, data, self.tokenizer, self.config["prompts"], device)
        self.choose_stage(saved)
        self.started = time.monotonic() - self.seconds
        self.writes = distributed.rank() == 0
        if self.writes:
            self._open_files(bool(saved))

    def _open_files(self, resumed: bool) -> None:
        out = self.args.out_dir
        out.mkdir(parents=True, exist_ok=True)
        self.metrics = checkpoint.Metrics(out / "metrics.csv", COLUMNS,
                                          self.step if resumed else None)

    # ------------------------------------------------------------ stages

    def choose_stage(self, saved: dict | None = None) -> None:
        """Prepare the stage that the run is in; a finished autoencoder leads to the second."""
        if self.evaluated >= self.args.vae_steps and self.args.stage != "vae":
            self._prepare_diffusion(saved)
        else:
            self._prepare_vae(saved)

    def _prepare_vae(self, saved: dict | None) -> None:
        self.learning = [*self.model.vae.requires_grad_().parameters()]
        self.optimizer = optimization.make_optimizer(self.learning, self.args.weight_decay)
        if saved and self.stage == "vae":
            self._go_on(saved)

    def _prepare_diffusion(self, saved: dict | None) -> None:
        """Encode all pictures once and for all, read all captions, and average from here on."""
        args, model = self.args, self.model
        model.vae.requires_grad_(False)
        self.denoiser = Denoiser(model).requires_grad_()
        self.denoiser.text.requires_grad_(args.train_text)
        self.learning = [p for p in self.denoiser.parameters() if p.requires_grad]
        self.optimizer = optimization.make_optimizer(self.learning, args.weight_decay)
        self.latents = encode_all(model, self.data.train.images, self.device)
        self.tokens = self.tokenizer(self.data.train.captions)         # (N, S)
        self.average = Average(model, args.ema)
        if saved and self.stage == "diffusion":
            self._go_on(saved)
            checkpoint.restore(self.average.model, saved["ema"], args.resume)
        else:
            self.best = None
        self.stage = "diffusion"

    def _go_on(self, saved: dict) -> None:
        self.optimizer.load_state_dict(saved["optimizer"])
        self.optimizer.param_groups[0]["weight_decay"] = self.args.weight_decay    # typed: wins

    @property
    def judged(self) -> StableDiffusion:
        """What is validated and draws: with averaged weights, as soon as there are some."""
        return self.average.model if self.average else self.model

    @property
    def until(self) -> int:
        """The step after which it is time to evaluate; a stage ends with an evaluation."""
        args, every = self.args, self.args.log_every
        end = args.vae_steps if self.stage == "vae" else args.steps
        return min(end, (self.evaluated // every + 1) * every)

    @property
    def done(self) -> bool:
        """Whether the last step was evaluated."""
        return self.evaluated >= self.args.steps

    # ------------------------------------------------------------ a step

    def set_rate(self) -> float:
        """Set the learning rate of this step, a function of the step alone, and return it."""
        args, first = self.args, self.stage == "vae"
        step, steps, highest = ((self.step, args.vae_steps, args.vae_lr) if first else
                                (self.step - args.vae_steps, args.steps - args.vae_steps,
                                 args.lr))
        rate = highest * optimization.rate_share(step + 1, steps, args.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def pictures_of_step(self) -> list[Tensor]:
        """What this process has of the pictures of this step, and noise for their latents."""
        args, vae = self.args, self.model.vae
        side = args.image_size // vae.factor
        whole = picture_batch(self.data.train.images, args.vae_batch_size, args.seed, self.step,
                              (vae.latents, side, side))
        return share(whole, distributed.rank(), distributed.ranks(), self.device)

    def latents_of_step(self) -> Batch:
        """What this process has of the latents of this step, with noise, times and captions."""
        args = self.args
        whole = latent_batch(self.latents, self.tokens, self.tokenizer([""]), args.batch_size,
                             args.seed, self.step, args.drop_captions)
        return Batch(*share(whole, distributed.rank(), distributed.ranks(), self.device))

    def note(self, loss: Tensor, rate: float, stop: console.Stop) -> None:
        """Add up the losses of all processes; `stopped` if one of them was asked to stop.

        Raises Refusal if loss or gradient is not a number.
        """
        sums = torch.stack([loss.detach(), loss.new_tensor(float(stop.requested))])
        sums = distributed.total(sums, self.device) / distributed.ranks()
        devices.check_finite(sums[0], self.learning, self.step + 1, rate)
        value, asked = sums.tolist()
        self.step, self.total, self.stopped = self.step + 1, self.total + value, asked > 0

    def follow(self) -> None:
        """Let the averaged weights follow those of the step just made."""
        self.average.update(self.model, self.step - 1 - self.args.vae_steps)

    # ------------------------------------------------------------ an interval

    def finish_interval(self) -> None:
        """Validate, write a row and the checkpoints, show both; a stage may be over, too."""
        count, rate = self.step - self.evaluated, self.optimizer.param_groups[0]["lr"]
        if self.stage == "vae":
            self.model.scale_factor.fill_(scale_of(self.model, self.data, self.device))
        found = self.validation.measure(self.judged, self.stage)
        better = self.best is None or found["validation_loss"] < self.best
        row = {"step": self.step, "stage": self.stage, "lr": rate,
               "train_loss": self.total / max(count, 1), **found}
        self.evaluated, self.total = self.step, 0.0
        if better:
            self.best, self.best_step = found["validation_loss"], self.step
        if self.writes:
            row["seconds"] = round(time.monotonic() - self.started, 2)
            self.metrics.add(**row)
            if better:
                self.save("best.pt")   # before checkpoint.pt, which says that it is there
            self.save("checkpoint.pt")
            self.show(row)
        if self.stage == "vae" and self.evaluated == self.args.vae_steps:
            self.choose_stage()

    def save(self, name: str) -> None:
        """Write everything that the run needs to go on, whole or not at all.

        Whatever is drawn at random is a function of seed and step, so no state of a generator
        is needed; latents are encoded again.
        """
        if not self.writes:
            return
        self.seconds = time.monotonic() - self.started
        typed = {key: str(value.resolve()) if isinstance(value, Path) else value
                 for key, value in vars(self.args).items() if key not in ("resume", "debug")}
        average = {"ema": self.average.model.state_dict()} if self.average else {}
        checkpoint.save(self.args.out_dir / name, {
            "folder": NAME, "config": self.config, "options": typed, "data": self.data_digest,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            **average, **{key: getattr(self, key) for key in self.PROGRESS},
        })

    def show(self, row: dict[str, float]) -> None:
        """Print a row of the metrics, and draw what the run can do by now."""
        self.validation.draw(self.judged, self.stage,
                             self.args.out_dir / "progress" / f"step_{self.step:06}.png")
        what = (f"PSNR {row['psnr']:.2f} dB, latents {row['deviation']:.3f}"
                if self.stage == "vae" else
                "" if row["both"] == "" else
                f"colour {row['colour']:.0%}, shape {row['shape']:.0%}, both {row['both']:.0%}")
        print(f"{row['step']:7} {row['stage']:9} {row['lr']:8.1e} {row['train_loss']:11.5f} "
              f"{row['validation_loss']:11.5f} {row['seconds']:6.0f} s  {what}", flush=True)
