"""From prompts to pictures, from pictures to pictures, and into the holes of pictures.

R. Rombach and others, "High-Resolution Image Synthesis with Latent Diffusion Models", 2022;
J. Ho, T. Salimans, "Classifier-Free Diffusion Guidance", 2022; C. Meng and others, "SDEdit",
2022 (pictures to pictures); A. Lugmayr and others, "RePaint", 2022 (holes, here without its
repetitions).
"""

# B pictures, C channels of a latent, H height and W width of latents, P pixels of a side of a
# picture, S tokens of a prompt, E channels of a token, K prompts between two

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from console import Refusal, say
from model import StableDiffusion
from schedulers import Sampler, clean, level, make, noise_like
from tokenizer import Tokenizer


class Pipeline:
    """A model and a tokenizer that draw; pictures are (B, height, width, 3) bytes.

    Every picture has a seed of its own: it is the same alone and among others.
    """

    def __init__(self, model: StableDiffusion, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        weight = model.unet.out[-1].weight
        self.device, self.dtype = weight.device, weight.dtype
        self.exact = torch.promote_types(self.dtype, torch.float32)    # for sums of many steps

    @torch.no_grad()
    def read(self, prompts: Sequence[str]) -> Tensor:
        """What the model makes of prompts; stderr says what it does not understand."""
        remarks = [remark for text in prompts for remark in self.tokenizer.remarks(text)]
        for remark in dict.fromkeys(remarks):
            say(remark)
        return self.model.text(self.tokenizer(prompts).to(self.device))     # (B, S, E)

    def between(self, first: str, last: str, count: int) -> Tensor:
        """Readings on the straight way from one prompt to another, both included."""
        ends = self.read([first, last])                                # (2, S, E)
        shares = torch.linspace(0, 1, count, device=self.device, dtype=ends.dtype)
        return torch.lerp(ends[:1], ends[1:], shares[:, None, None])   # (K, S, E)

    def noise(self, x: Tensor, time: float, texts: Tensor, guidance: float) -> Tensor:
        """The noise that the model sees in latents (B, C, H, W), led away from the negative.

        `texts` are the readings of the negative prompts, then those of the prompts, or the
        latter alone.
        """
        copies = len(texts) // len(x)
        asked = x.repeat(copies, 1, 1, 1).to(self.dtype)               # (..., C, H, W)
        times = torch.full((len(asked),), time, device=self.device)
        seen = self.model.unet(asked, times, texts).to(self.exact)     # (..., C, H, W)
        if copies == 1:
            return seen                                                # (B, C, H, W)
        without, given = seen.chunk(2)                                 # each (B, C, H, W)
        return without + guidance * (given - without)                  # (B, C, H, W)  (16)

    @torch.no_grad()
    def draw(self, prompts: Sequence[str] | Tensor, seeds: Sequence[int],
             size: tuple[int, int] = (512, 512), *, negative: str = "", guidance: float = 7.5,
             steps: int = 25, sampler: str = "ddim", image: Tensor | None = None,
             strength: float = 1.0, mask: Tensor | None = None,
             watch: Callable[[int, Tensor, Tensor], None] | None = None) -> Tensor:
        """Pictures of prompts, or of readings (B, S, E); one prompt serves all seeds.

        `image` (B or 1, 3, P, P), from -1 to 1, is where to begin; `strength` says how much of
        it may change. `mask` (1, 1, P, P) is 1 where to draw, and 0 where the image stays.
        `watch` is told the step, the latents, and what they would be without noise. Raises
        Refusal for sizes and numbers that are impossible.
        """
        size = self.checked(size, image, mask)
        try:
            plan = make(sampler, steps, strength if image is not None else 1.0)
        except ValueError as error:
            raise Refusal(str(error)) from None
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        texts = self.texts(prompts, negative, guidance, len(seeds))
        shape = (self.model.vae.latents, *(side // self.model.vae.factor for side in size))

        def fresh() -> Tensor:
            return noise_like(shape, generators).to(self.device, self.exact)

        start = None if image is None else self.encode(image, fresh())
        chaos = fresh()                                                # (B, C, H, W)
        hole = None if mask is None else F.interpolate(mask.to(chaos), shape[1:])
        if hole is not None and not hole.any():
            raise Refusal("there is nothing to draw: the white parts of the mask are too thin "
                          "for latents, or there are none")
        x = self.begin(plan, chaos, start, hole)                       # (B, C, H, W)
        for number, time in enumerate(plan.times):
            noise = self.noise(x, time, texts, guidance)               # (B, C, H, W)
            before = x
            x = plan.step(number, x, noise, fresh() if plan.fresh else None)
            if hole is not None:
                x = self.keep(plan, number, x, start, chaos, hole)     # (B, C, H, W)
            if watch:
                watch(number, x, clean(before, noise, level(time)))
        return self.pictures(x)

    def checked(self, size: tuple[int, int], image: Tensor | None,
                mask: Tensor | None) -> tuple[int, int]:
        """Height and width of what will be drawn. Raises Refusal where they are impossible."""
        if image is not None:
            size = tuple(image.shape[2:])
        elif mask is not None:
            raise Refusal("a mask says where an image may change: give the image, too")
        if mask is not None and tuple(mask.shape[2:]) != size:
            raise Refusal(f"the mask has {mask.size(3)}×{mask.size(2)} pixels and the image "
                          f"{size[1]}×{size[0]}: make them equal")
        factor = self.model.vae.factor
        if min(size) < factor or size[0] % factor or size[1] % factor:
            raise Refusal(f"{size[1]}×{size[0]} pixels cannot be drawn: both sides have to be "
                          f"multiples of {factor}")
        return size

    def texts(self, prompts: Sequence[str] | Tensor, negative: str, guidance: float,
              count: int) -> Tensor:
        """The readings that a step needs: without guidance (1) those of the prompts alone."""
        given = prompts if isinstance(prompts, Tensor) else self.read(prompts)
        given = given.expand(count, -1, -1)                            # (B, S, E)
        if guidance == 1:
            return given                                               # (B, S, E)
        return torch.cat([self.read([negative]).expand_as(given), given])   # (2B, S, E)

    def encode(self, image: Tensor, noise: Tensor) -> Tensor:
        """The latents of an image (1 or B, 3, P, P), one for each noise (B, C, H, W)."""
        image = image.to(self.device, self.dtype).expand(len(noise), -1, -1, -1)
        return self.model.encode(image, noise.to(self.dtype)).to(noise)     # (B, C, H, W)

    def begin(self, plan: Sampler, chaos: Tensor, start: Tensor | None,
              hole: Tensor | None) -> Tensor:
        """Noise; or an image with as much noise as the first step expects, if any.

        What fills a hole begins as noise alone, unless steps are left out.
        """
        if start is None or hole is not None and not plan.skipped:
            return plan.start(chaos)                                   # (B, C, H, W)
        if not plan.moves:
            return start                                               # (B, C, H, W)
        return plan.moves[0][0].mix(start, chaos)                      # (B, C, H, W)

    def keep(self, plan: Sampler, number: int, x: Tensor, start: Tensor, chaos: Tensor,
             hole: Tensor) -> Tensor:
        """Put back what shall stay, with the noise of the step; after the last without any."""
        last = number == len(plan.moves) - 1
        known = start if last else plan.moves[number][1].mix(start, chaos)  # (B, C, H, W)
        return hole * x + (1 - hole) * known                           # (B, C, H, W)  (17)

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> Tensor:                     # (B, C, H, W)
        """Bytes of the pictures of latents. Raises Refusal for what is not a number."""
        x = self.model.decode(latents.to(self.dtype)).to(self.exact)   # (B, 3, P, P)
        if not x.isfinite().all():
            raise Refusal("the picture is not a number, as happens in 16 bits: use fp32 or "
                          "bf16")
        levels = ((x / 2 + 0.5).clamp(0, 1) * 255).round()             # (B, 3, P, P)
        return levels.to(torch.uint8).permute(0, 2, 3, 1).cpu()        # (B, P, P, 3)


def floats(pictures: Tensor) -> Tensor:                                # (B, ..., 3)
    """Pictures in bytes as the model reads them, from -1 to 1."""
    return pictures.permute(0, 3, 1, 2) / 127.5 - 1                    # (B, 3, ...)


class WordMaps:
    """How much every place of a picture looks at every token, gathered while it is drawn.

    To be used with `attention.watched`. Heads look for different things, and the one that
    looks most at a token decides. Steps count alike, and so do the `layers` of these names, or
    all; maps that are smaller than the latents are enlarged. The negative prompt is left out.
    """

    def __init__(self, size: tuple[int, int], count: int,
                 layers: Sequence[str] | None = None) -> None:
        self.size, self.count, self.layers = size, count, layers     # of latents, of pictures
        self.total, self.calls = 0, 0

    def __call__(self, name: str, shares: Tensor) -> None:             # (name)
        if self.layers is not None and name not in self.layers:
            return
        places = shares[-self.count :].amax(1).transpose(1, 2)         # (B, S, H*W)
        height, width = self.size
        while height * width > places.size(2):
            height, width = -(-height // 2), -(-width // 2)
        maps = places.unflatten(2, (height, width)).float()            # (B, S, H, W)
        self.total = self.total + F.interpolate(maps, self.size, mode="bilinear")
        self.calls += 1

    def maps(self) -> Tensor:
        """The mean of all that was gathered."""
        return self.total / self.calls                                 # (B, S, ...)
