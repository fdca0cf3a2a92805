"""Prompts to pictures, against StableDiffusionPipeline to the pixel, and what is refused."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sd_peers import PAPER_SCHEDULE, peers, save_folder, sd

pipeline, schedulers, Refusal = sd.pipeline, sd.schedulers, sd.console.Refusal
NAMES = list(schedulers.SAMPLERS)
MERGES = [("i", "n</w>"), ("r", "e"), ("re", "d</w>"), ("t", "h"), ("th", "e</w>"),
          ("o", "n</w>")]
SEEDS, SIZE, NEGATIVE, PROMPT = [5, 6, 7], (32, 48), "on the", "red in the on"
BOTH = {"negative": NEGATIVE, "guidance": 3.0}
SCHEDULERS = {"ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "plms": "PNDMScheduler",
              "euler": "EulerDiscreteScheduler", "euler-a": "EulerAncestralDiscreteScheduler",
              "dpm++": "DPMSolverMultistepScheduler"}
CONFIG = SimpleNamespace(
    unet={"layers_per_block": 1, "block_out_channels": [32, 64], "norm_num_groups": 16,
          "attention_head_dim": 4, "cross_attention_dim": 32, "sample_size": 16,
          "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
          "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]},
    vae={"block_out_channels": [16, 32], "layers_per_block": 1, "norm_num_groups": 8,
         "down_block_types": ["DownEncoderBlock2D"] * 2, "latent_channels": 4,
         "up_block_types": ["UpDecoderBlock2D"] * 2, "scaling_factor": 0.3, "sample_size": 32},
    text={"vocab_size": 520, "hidden_size": 32, "intermediate_size": 128,
          "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 16,
          "hidden_act": "quick_gelu", "bos_token_id": 518, "eos_token_id": 519})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Our pipeline and the parts of theirs, with equal random weights and a tiny tokenizer."""
    from transformers import CLIPTokenizer
    parts = peers(CONFIG, 3)
    model, _ = sd.weights.load_pretrained(save_folder(parts, tmp_path_factory.mktemp("tiny")))
    ours = sd.tokenizer.ClipTokenizer(MERGES, 16)
    theirs = CLIPTokenizer(vocab=ours.numbers, merges=MERGES, model_max_length=16)
    return SimpleNamespace(pipe=pipeline.Pipeline(model, ours), parts=parts, tokenizer=theirs)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def mask() -> Tensor:
    found = torch.zeros(1, 1, *SIZE)
    found[..., 5:22, 10:31] = 1
    return found


def theirs(pair: SimpleNamespace, kind: str, name: str, steps: int,
           **asked: object) -> np.ndarray:
    """What a pipeline of diffusers draws, in bytes."""
    import diffusers
    settings = {"steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False,
                "skip_prk_steps": True}
    made = getattr(diffusers, SCHEDULERS[name])
    known = inspect.signature(made).parameters
    scheduler = made(**PAPER_SCHEDULE, **{k: v for k, v in settings.items() if k in known})
    parts = pair.parts
    pipe = getattr(diffusers, kind)(
        vae=parts.vae, text_encoder=parts.text, tokenizer=pair.tokenizer, unet=parts.unet,
        scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    found = pipe([PROMPT] * 3, negative_prompt=[NEGATIVE] * 3, guidance_scale=3.0,
                 num_inference_steps=steps, output_type="np",
                 generator=[torch.Generator().manual_seed(seed) for seed in SEEDS], **asked)
    return (found.images * 255).round().astype(int)


def same(ours: Tensor, expected: np.ndarray) -> bool:
    """Whether 99.9 % of the bytes are equal, the rest off by one, and neither is plain."""
    off = np.abs(ours.numpy().astype(int) - expected)
    return off.max() <= 1 and (off == 0).mean() >= 0.999 and expected.std() > 20


@pytest.mark.parametrize("name", NAMES)
def test_prompts_become_the_pixels_of_diffusers(pair: SimpleNamespace, name: str) -> None:
    """With a negative prompt, for two sides of different length."""
    found = pair.pipe.draw([PROMPT], SEEDS, SIZE, steps=7, sampler=name, **BOTH)
    assert same(found, theirs(pair, "StableDiffusionPipeline", name, 7, height=32, width=48))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "plms"])
def test_pictures_become_the_pixels_of_diffusers(pair: SimpleNamespace, image: Tensor,
                                                 name: str) -> None:
    """Without plms, whose first step theirs does not repeat here: it lags one step behind."""
    found = pair.pipe.draw([PROMPT], SEEDS, steps=10, sampler=name, image=image, strength=0.6,
                           **BOTH)
    assert same(found, theirs(pair, "StableDiffusionImg2ImgPipeline", name, 10,
                              image=(image + 1) / 2, strength=0.6))


@pytest.mark.parametrize(("name", "strength"), [
    ("ddim", 1.0), ("ddim", 0.6), ("euler", 1.0), ("euler", 0.6), ("dpm++", 1.0),
    ("dpm++", 0.6), ("plms", 1.0)])
def test_holes_are_filled_with_the_pixels_of_diffusers(
        pair: SimpleNamespace, image: Tensor, mask: Tensor, name: str, strength: float) -> None:
    """Without those that need new noise: theirs draws some for a picture it does not use."""
    found = pair.pipe.draw([PROMPT], SEEDS, steps=10, sampler=name, image=image, mask=mask,
                           strength=strength, **BOTH)
    assert same(found, theirs(pair, "StableDiffusionInpaintPipeline", name, 10, height=32,
                              width=48, image=(image + 1) / 2, strength=strength,
                              mask_image=mask.repeat(3, 1, 1, 1)))


# ---------------------------------------------------------------- guidance and prompts


def test_guidance_leads_away_from_the_negative_prompt(pair: SimpleNamespace) -> None:
    """At 0 the negative prompt alone is followed, at 1 the prompt alone, and they are not the
    same thing."""
    x = torch.randn(2, 4, 8, 8)
    given, without = (pair.pipe.read([text]).expand(2, -1, -1) for text in (PROMPT, NEGATIVE))
    texts = torch.cat([without, given])
    alone = pair.pipe.noise(x, 500.0, given, 1.0)
    negative = pair.pipe.noise(x, 500.0, without, 1.0)
    for guidance, expected in ((0.0, negative), (1.0, alone), (3.0, 3 * alone - 2 * negative)):
        assert torch.allclose(pair.pipe.noise(x, 500.0, texts, guidance), expected, atol=1e-4)
    assert (alone - negative).abs().max() > 1e-2


def test_an_empty_negative_prompt_is_a_prompt(pair: SimpleNamespace) -> None:
    texts = pair.pipe.texts([PROMPT], "", 3.0, 2)
    assert torch.equal(texts[0], pair.pipe.read([""])[0]) and texts.shape == (4, 16, 32)
    assert torch.equal(texts[2:], pair.pipe.read([PROMPT] * 2))
    assert len(pair.pipe.texts([PROMPT], "", 1.0, 2)) == 2
    assert pair.pipe.draw([""], [0], (8, 8), steps=1).shape == (1, 8, 8, 3)


def test_a_picture_is_the_same_alone_and_among_others(pair: SimpleNamespace) -> None:
    for name in ("ddim", "euler-a"):
        many = pair.pipe.draw([PROMPT], SEEDS, (16, 16), steps=3, sampler=name)
        alone = pair.pipe.draw([PROMPT], SEEDS[1:2], (16, 16), steps=3, sampler=name)
        assert (many[1].int() - alone[0].int()).abs().max() <= 1
        assert (many[0].int() - many[1].int()).abs().max() > 20


def test_the_way_between_two_prompts_begins_and_ends_at_them(pair: SimpleNamespace) -> None:
    way = pair.pipe.between("red", "the", 5)
    assert torch.equal(way[[0, 4]], pair.pipe.read(["red", "the"]))
    assert torch.allclose(way[2], way[[0, 4]].mean(0), atol=1e-6)
    found = pair.pipe.draw(way, [3] * 5, (8, 8), steps=2, guidance=2.0)
    ends = pair.pipe.draw(["red", "the"], [3] * 2, (8, 8), steps=2, guidance=2.0)
    assert (found[[0, 4]].int() - ends.int()).abs().max() <= 1


# ---------------------------------------------------------------- pictures and holes


def through(pair: SimpleNamespace, image: Tensor) -> Tensor:
    """The latents from which a run with an image begins, with the noise of the seeds."""
    draws = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    return pair.pipe.encode(image, schedulers.noise_like((4, 16, 24), draws))


def test_little_strength_changes_little(pair: SimpleNamespace, image: Tensor) -> None:
    """None at all gives the picture back as the autoencoder has it."""
    plain, distances = pair.pipe.pictures(through(pair, image)).int(), []
    for strength in (0.0, 0.05, 0.3, 0.6, 1.0):
        found = pair.pipe.draw([PROMPT], SEEDS, steps=10, image=image, strength=strength)
        distances.append((found.int() - plain).abs().float().mean().item())
    assert distances[0] == distances[1] == 0 and distances == sorted(distances)
    assert distances[2] > 1


def test_what_is_not_in_the_hole_stays_to_the_bit(pair: SimpleNamespace, image: Tensor,
                                                  mask: Tensor) -> None:
    latents = []
    pair.pipe.draw([PROMPT], SEEDS, steps=6, image=image, mask=mask,
                   watch=lambda number, x, clean: latents.append(x))
    hole = torch.nn.functional.interpolate(mask, (16, 24)).bool().expand_as(latents[-1])
    start = through(pair, image)
    assert torch.equal(latents[-1][~hole], start[~hole])
    assert (latents[-1] - start)[hole].abs().mean() > 0.1
    assert (latents[2] - start)[~hole].abs().mean() > 0.1     # before the end it has its noise


def test_a_hole_begins_as_noise_unless_steps_are_left_out(pair: SimpleNamespace) -> None:
    start, chaos = torch.randn(2, 1, 4, 4, 4)
    for name in NAMES:
        whole, most = schedulers.make(name, 10), schedulers.make(name, 10, 0.9)
        assert torch.equal(pair.pipe.begin(whole, chaos, start, start), whole.start(chaos))
        mixed = most.moves[0][0].mix(start, chaos)
        assert torch.equal(pair.pipe.begin(most, chaos, start, start), mixed)


def test_images_and_masks_are_left_as_they_are(pair: SimpleNamespace, image: Tensor,
                                               mask: Tensor) -> None:
    copies = image.clone(), mask.clone()
    pair.pipe.draw([PROMPT], SEEDS, steps=2, image=image, mask=mask, strength=0.5)
    assert torch.equal(image, copies[0]) and torch.equal(mask, copies[1])


def test_bytes_are_rounded_and_come_back() -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 16, 16, 3)
    x = pipeline.floats(bytes_)
    assert x.min() == -1 and x.max() == 1 and x.shape == (1, 3, 16, 16)
    levels = ((x / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
    assert torch.equal(levels, bytes_)


@pytest.mark.parametrize("name", NAMES)
def test_who_watches_is_told_what_is_left_without_noise(
        pair: SimpleNamespace, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that sees all noise in latents this is what is below, in every step."""
    below, told = torch.randn(1, 4, 4, 4), []

    def exact(x: Tensor, time: float, *_: object) -> Tensor:
        here = schedulers.level(time)
        return (x - here.signal * below) / here.noise

    monkeypatch.setattr(pair.pipe, "noise", exact)
    pair.pipe.draw([PROMPT], [0], (8, 8), steps=5, sampler=name,
                   watch=lambda number, x, clean: told.append((number, clean)))
    assert [number for number, _ in told] == [*range(len(told))] and len(told) >= 5
    assert all(torch.allclose(clean, below, atol=1e-3) for _, clean in told)


# ---------------------------------------------------------------- attention


@pytest.mark.parametrize("kind", sd.attention.KINDS)
def test_every_attention_draws_the_same(pair: SimpleNamespace, kind: str) -> None:
    expected = pair.pipe.draw([PROMPT], [1], (32, 32), steps=3, **BOTH)
    sd.attention.choose_attention(pair.pipe.model, kind)
    found = pair.pipe.draw([PROMPT], [1], (32, 32), steps=3, **BOTH)
    sd.attention.choose_attention(pair.pipe.model, "fused")
    assert (found.int() - expected.int()).abs().max() <= 1


def test_words_have_maps_of_every_place(pair: SimpleNamespace) -> None:
    """In the proportions of the picture, enlarged from the smaller maps of a deeper level."""
    maps = pipeline.WordMaps((16, 24), 2)
    with sd.attention.watched(pair.pipe.model.unet, maps):
        pair.pipe.draw([PROMPT], [1, 2], SIZE, steps=3, **BOTH)
    found = maps.maps()
    assert found.shape == (2, 16, 16, 24)
    assert found.sum(1).min() >= 1 - 1e-5 and found.max() <= 1 and found.std() > 1e-3
    names = {name for name, _ in pair.pipe.model.unet.named_modules() if name.endswith("attn2")}
    assert maps.calls == 3 * len(names)
    chosen = pair.pipe.model.unet.last_looks
    few = pipeline.WordMaps((16, 24), 2, chosen)
    with sd.attention.watched(pair.pipe.model.unet, few):
        pair.pipe.draw([PROMPT], [1, 2], SIZE, steps=3, **BOTH)
    assert few.calls == 3 * len(chosen) and set(chosen) < names


def test_the_head_that_looks_most_decides() -> None:
    maps = pipeline.WordMaps((1, 2), 1)
    shares = torch.tensor([[[[0.9, 0.1], [0.2, 0.8]], [[0.3, 0.7], [0.6, 0.4]]]])
    maps("attn2", shares)                  # one text, two heads, two places, two tokens
    assert torch.equal(maps.maps(), torch.tensor([[[[0.9, 0.6]], [[0.7, 0.8]]]]))


def test_the_last_looks_are_those_before_a_map_grows_and_at_the_end() -> None:
    def last(**config: object) -> list[str]:
        net = sd.model.UNet(channels=32, heads=2, context=8, **config)
        found = net.last_looks
        assert set(found) <= {name for name, _ in net.named_modules()}
        return [name.split(".transformer")[0] for name in found]

    assert last(multipliers=[1, 2], blocks=1, attention=[True, True]) == [
        "output_blocks.1.1", "output_blocks.3.1"]
    assert last(multipliers=[1, 2], blocks=2, attention=[False, True]) == ["output_blocks.2.1"]
    assert len(last(multipliers=[1], blocks=1, attention=[True], depth=2)) == 2


def test_maps_are_those_of_the_prompt_and_not_of_the_negative() -> None:
    """Here the negative looks at token 0 alone, and the prompt at token 2."""
    maps = pipeline.WordMaps((4, 6), 1)
    shares = torch.zeros(2, 3, 6, 5)       # two texts, three heads, 2×3 places, five tokens
    shares[0, :, :, 0] = 1
    shares[1, :, :, 2] = 1
    maps("attn2", shares)
    assert torch.equal(maps.maps()[0, 2], torch.ones(4, 6)) and maps.maps().sum() == 24


def test_maps_of_odd_sizes_are_halved_upwards() -> None:
    """9×5 latents, 5×3 places a level deeper, 3×2 at the next: here the last is looked at."""
    for height, width in ((9, 5), (5, 3), (3, 2)):
        maps = pipeline.WordMaps((9, 5), 1)
        shares = torch.zeros(1, 1, height * width, 2)
        shares[..., :-1, 0] = shares[..., -1, 1] = 1
        maps("attn2", shares)
        found = maps.maps()
        assert found.shape == (1, 2, 9, 5) and found[0, 1, 8, 4] == 1
        assert torch.allclose(found.sum(1), torch.ones(())) and not found[0, 1, :4].any()


# ---------------------------------------------------------------- what may not be asked


@pytest.mark.parametrize(("asked", "message"), [
    ({"size": (32, 33)}, "33×32 pixels cannot be drawn: .* multiples of 2"),
    ({"size": (0, 32)}, "32×0 pixels cannot be drawn"),
    ({"steps": 0}, "0 steps cannot be taken"), ({"steps": 1001}, "1001 steps cannot be taken"),
    ({"sampler": "heun"}, "no sampler 'heun'"),
    ({"image": torch.zeros(1, 3, 8, 8), "strength": 1.2}, "strength of 1.2 is impossible"),
    ({"image": torch.zeros(1, 3, 8, 8), "strength": -0.1}, "strength of -0.1 is impossible"),
    ({"mask": torch.zeros(1, 1, 8, 8)}, "give the image, too"),
    ({"image": torch.zeros(1, 3, 8, 8), "mask": torch.zeros(1, 1, 8, 6)},
     "the mask has 6×8 pixels and the image 8×8: make them equal"),
    ({"image": torch.zeros(1, 3, 8, 8), "mask": F.pad(torch.ones(1, 1, 1, 8), (0, 0, 7, 0))},
     "there is nothing to draw: the white parts of the mask are too thin")])
def test_the_impossible_is_refused_in_a_sentence(pair: SimpleNamespace, asked: dict,
                                                 message: str) -> None:
    with pytest.raises(Refusal, match=message):
        pair.pipe.draw([PROMPT], [0], **{"size": (8, 8), **asked})


def test_a_picture_that_is_not_a_number_is_refused(pair: SimpleNamespace) -> None:
    with pytest.raises(Refusal, match="not a number, as happens in 16 bits: use fp32 or bf16"):
        pair.pipe.pictures(torch.full((1, 4, 4, 4), float("nan")))


def test_what_is_not_read_is_said_once(pair: SimpleNamespace,
                                       capsys: pytest.CaptureFixture) -> None:
    pair.pipe.read(["red " * 500] * 2)
    assert capsys.readouterr().err == (
        "the end of the prompt is not read: it has 486 tokens more than there is room for\n")


def test_bf16_draws_nearly_the_same(pair: SimpleNamespace, tmp_path: Path) -> None:
    model, _ = sd.weights.load_pretrained(save_folder(pair.parts, tmp_path))
    half = pipeline.Pipeline(model.to(torch.bfloat16), pair.pipe.tokenizer)
    found = half.draw([PROMPT], [1], (16, 16), steps=3, guidance=2.0)
    expected = pair.pipe.draw([PROMPT], [1], (16, 16), steps=3, guidance=2.0)
    assert (found.int() - expected.int()).abs().float().mean() < 10
