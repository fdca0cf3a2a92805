"""Published weights in every file they come in, our own files, and what is refused."""

import json
import os
import pickle
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sd_peers import peers, save_folder, sd, shapes
from support import run

weights, layouts, model, Refusal = sd.weights, sd.layouts, sd.model, sd.console.Refusal
SEED = 1             # of a configuration in which some levels look at the text and some do not
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
UNSEEN = ["betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
          "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod",
          "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
          "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
          "model_ema.decay", "model_ema.num_updates"]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small model as a folder of diffusers, and under the names of the release."""
    folder = save_folder(peers(shapes(SEED), SEED), tmp_path_factory.mktemp("known") / "folder")
    net, config = weights.load_pretrained(folder)
    return SimpleNamespace(folder=folder, state=net.state_dict(), config=config)


def published(known: SimpleNamespace) -> dict[str, Tensor]:
    """The tensors of a published file: no scale, but tables that follow from the schedule."""
    state = {name: tensor.clone() for name, tensor in known.state.items()
             if name != "scale_factor"}
    state |= {name: torch.ones(()) for name in UNSEEN}
    state[layouts.TEXT + "embeddings.position_ids"] = torch.arange(77)[None]
    return state


def same(net: torch.nn.Module, known: SimpleNamespace, scale: float = model.SCALE) -> bool:
    """Whether every tensor is the known one, to the bit."""
    found = net.state_dict()
    assert found.keys() == known.state.keys() and found["scale_factor"] == torch.tensor(scale)
    return all(torch.equal(tensor, known.state[name]) and not tensor.is_meta
               for name, tensor in found.items() if name != "scale_factor")


def hinted(monkeypatch: pytest.MonkeyPatch, known: SimpleNamespace) -> None:
    """The release's files do not say heads and groups: let them be those of the small model."""
    real = weights.shape_of_model
    monkeypatch.setattr(weights, "shape_of_model",
                        lambda found, hints: real(found, known.config | hints))


class ModelCheckpoint:
    """A callback of the trainer, whose class published files name as a key."""


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> type:
    """The class where the trainer has it, so that it can be written; then it is gone again."""
    name, *_ = weights.TRAINER.rpartition(".")
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    sys.modules[name].ModelCheckpoint = ModelCheckpoint
    monkeypatch.setattr(ModelCheckpoint, "__module__", name)
    return ModelCheckpoint


def with_means(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net's tensors replaced by others, and the true ones as running means."""
    means = {layouts.ema_name(name): tensor for name, tensor in state.items()
             if name.startswith(layouts.UNET)}
    other = {name: -tensor if name.startswith(layouts.UNET) else tensor
             for name, tensor in state.items()}
    return other | means


def old_names(folder: Path) -> None:
    """The autoencoder's attention as diffusers named it until 2023."""
    path, = (folder / "vae").glob("*.safetensors")
    state = {}
    for name, tensor in load_file(path).items():
        for new, old in OLD.items():
            if ".attentions." in name:
                name = name.replace(f".{new}.", f".{old}.")
        state[name] = tensor
    save_file(state, path)


def prefixed(folder: Path) -> None:
    """The text encoder as older versions of transformers wrote it."""
    path, = (folder / "text_encoder").glob("*.safetensors")
    state = {f"text_model.{name}": tensor for name, tensor in load_file(path).items()}
    state["text_model.embeddings.position_ids"] = torch.arange(12)[None]
    save_file(state, path)


def as_bin(folder: Path) -> None:
    """PyTorch's files instead of safetensors."""
    for path in folder.glob("*/*.safetensors"):
        torch.save(load_file(path), path.with_suffix(".bin"))
        path.unlink()


def with_others(folder: Path) -> None:
    """Beside each file two that hold something else: one in 16 bits, one of PyTorch."""
    for path in list(folder.glob("*/*.safetensors")):
        other = {name: -tensor for name, tensor in load_file(path).items()}
        save_file({name: tensor.half() for name, tensor in other.items()},
                  path.with_suffix(".fp16.safetensors"))
        torch.save(other, path.with_suffix(".bin"))


SINGLE = {
    "trainer.ckpt": lambda state, kind: {"state_dict": state, "epoch": 3,
                                         "callbacks": {kind: {"best_model_path": ""}}},
    "bare.ckpt": lambda state, kind: state,
    "ema.ckpt": lambda state, kind: {"state_dict": with_means(state), "global_step": 1},
    "plain.safetensors": lambda state, kind: state,
    "ema.safetensors": lambda state, kind: with_means(state),
    "no_text_model.safetensors": lambda state, kind: {
        name.replace(".text_model.", "."): tensor for name, tensor in state.items()},
    "flat.safetensors": lambda state, kind: {
        name: tensor[..., 0, 0] if ".attn_1." in name and tensor.ndim == 4 else tensor
        for name, tensor in state.items()},
}


@pytest.mark.parametrize("name", SINGLE)
def test_single_files_load_to_the_bit(
        known: SimpleNamespace, tmp_path: Path, trainer: type, name: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    content = SINGLE[name](published(known), trainer)
    path = tmp_path / name
    if path.suffix == ".ckpt":
        torch.save(content, path)
    else:
        save_file({key: tensor.contiguous().clone() for key, tensor in content.items()}, path)
    for part in [part for part in sys.modules if part.startswith("pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, part)
    hinted(monkeypatch, known)
    net, config = weights.load_pretrained(path)
    assert same(net, known) and config == known.config


@pytest.mark.parametrize("change", [None, old_names, prefixed, as_bin, with_others])
def test_folders_load_to_the_bit(known: SimpleNamespace, tmp_path: Path,
                                 change: Callable | None) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(known.folder, folder)
    if change:
        change(folder)
    net, config = weights.load_pretrained(folder)
    assert same(net, known, scale=0.3) and config == known.config
    assert config["unet"]["heads"] == shapes(SEED).unet["attention_head_dim"]


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])
def test_the_file_is_no_longer_needed_when_it_has_been_read(
        known: SimpleNamespace, tmp_path: Path, name: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = tmp_path / name, published(known)
    torch.save(state, path) if name == "x.ckpt" else save_file(state, path)
    hinted(monkeypatch, known)
    net, _ = weights.load_pretrained(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert same(net, known)


def test_our_own_files_say_everything(known: SimpleNamespace, tmp_path: Path) -> None:
    net = model.build(known.config)
    net.load_state_dict(known.state | {"scale_factor": torch.tensor(0.7)})
    words = sd.tokenizer.WordTokenizer(["red", "circle"], 6).state()
    config = known.config | {"tokenizer": words}
    for half in (False, True):
        path = tmp_path / f"{half}.safetensors"
        weights.save(net, config, path, half)
        again, found = weights.load_pretrained(path)
        assert found == config and again.scale_factor.item() == pytest.approx(0.7, rel=1e-3)
        for name, tensor in net.state_dict().items():
            assert torch.allclose(again.state_dict()[name], tensor, rtol=1e-3 if half else 0,
                                  atol=1e-6 if half else 0), name
        with safe_open(path, "pt") as file:
            assert set(file.keys()) == set(net.state_dict())
    assert os.listdir(tmp_path).count("True.safetensors.partial") == 0


def test_a_save_that_is_cut_short_leaves_the_old_file_whole(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_weights: dict, path: Path, _notes: dict) -> None:
        Path(path).write_bytes(b"half of it")
        raise KeyboardInterrupt

    path = tmp_path / "x.safetensors"
    path.write_bytes(b"whole")
    monkeypatch.setattr(weights, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        weights.save(torch.nn.Linear(1, 1), {}, path)
    assert path.read_bytes() == b"whole"


def test_names_are_one_to_one_at_the_published_size() -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    net = model.hollow(model.SD15)
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(block_out_channels=[128, 256, 512, 512], layers_per_block=2,
                            latent_channels=4, down_block_types=["DownEncoderBlock2D"] * 4,
                            up_block_types=["UpDecoderBlock2D"] * 4)
    for peer, ours, namer in ((unet, net.unet, layouts.unet_namer),
                              (vae, net.vae, layouts.vae_namer)):
        state, wanted = peer.state_dict(), ours.state_dict()
        named = {namer(state)(name): tensor.shape for name, tensor in state.items()}
        assert named.keys() == wanted.keys() and len(named) == len(state)
        assert all(weights._fits(tuple(wanted[name].shape), tuple(shape))
                   for name, shape in named.items())


def test_shapes_tell_the_configuration() -> None:
    for config in (model.SD15, model.SMALL):
        found = {name: tuple(t.shape) for name, t in model.hollow(config).state_dict().items()}
        hints = {part: {key: config[part][key] for key in ("heads", "groups")
                        if key in config[part]} for part in config}
        assert layouts.shape_of_model(found, hints) == config
    found = {name: tuple(t.shape) for name, t in model.hollow(model.SD15).state_dict().items()}
    assert layouts.shape_of_model(found, {}) == model.SD15     # as nothing else is said


# ---------------------------------------------------------------- what is refused


def shape_state(config: dict) -> dict[str, Tensor]:
    return {name: torch.zeros(tensor.shape) for name, tensor in model.hollow(
        config).state_dict().items()}


RELATIVES = {
    "Stable Diffusion 2": lambda s: {"cond_stage_model.model.x": torch.ones(1)} | s,
    "with 9 channels where this has 4": lambda s: s | {
        layouts.UNET + "input_blocks.0.0.weight": torch.zeros(64, 9, 3, 3)},
    "Stable Diffusion XL": lambda s: {"conditioner.embedders.0.x": torch.ones(1)} | s,
    "2; this code is for Stable Diffusion 1.x": lambda s: s | {
        layouts.UNET + "middle_block.1.proj_in.weight": torch.zeros(128, 128)},
    "lacks first_stage_model.quant_conv.bias": lambda s: {
        name: t for name, t in s.items() if name != "first_stage_model.quant_conv.bias"},
    "holds lora.up, which": lambda s: s | {"lora.up": torch.ones(1)},
    "gives first_stage_model.quant_conv.bias the shape": lambda s: s | {
        "first_stage_model.quant_conv.bias": torch.zeros(9)},
    "not hold a whole Stable Diffusion 1.x": lambda s: {
        name: t for name, t in s.items() if not name.startswith(layouts.VAE)},
}


@pytest.mark.parametrize("message", RELATIVES)
def test_relatives_and_damaged_files_are_named(tmp_path: Path, message: str) -> None:
    path = tmp_path / "x.safetensors"
    state = RELATIVES[message](shape_state(model.SMALL))
    save_file(state, path, {"config": json.dumps(model.SMALL)})
    with pytest.raises(Refusal, match=message):
        weights.load_pretrained(path)


@pytest.mark.parametrize(("width", "kind"), [(2048, "XL"), (1024, "2"), (768, None)])
def test_relatives_are_known_by_the_width_of_their_texts(width: int, kind: str | None) -> None:
    name = layouts.UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    if kind is None:
        return weights.recognise({name: (8, width)}, Path("x"))
    with pytest.raises(Refusal, match=f"is Stable Diffusion {kind}; this"):
        weights.recognise({name: (8, width)}, Path("x"))


class Hostile:
    """Whoever unpickles it runs a command."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("hostile",)


@pytest.mark.parametrize("name", ["x.ckpt", "folder"])
def test_nothing_in_a_file_is_run(known: SimpleNamespace, tmp_path: Path, name: str,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "folder":
        shutil.copytree(known.folder, "folder")
        as_bin(Path("folder"))
        torch.save({"x": Hostile()}, next(Path("folder", "vae").glob("*.bin")))
    else:
        torch.save({"state_dict": {}, "callbacks": Hostile()}, name)
    with pytest.raises(Refusal, match="cannot be read safely .*wants to run .*mkdir"):
        weights.load_pretrained(Path(name))
    Path("y.ckpt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(Refusal, match="cannot be read safely"):
        weights.load_pretrained(Path("y.ckpt"))
    assert not Path("hostile").exists()


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])
def test_a_truncated_file_is_refused(known: SimpleNamespace, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".ckpt":
        torch.save(published(known), path)
    else:
        save_file(published(known), path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(Refusal, match="cannot be read safely"):
        weights.load_pretrained(path)


def test_a_broken_configuration_is_refused(known: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(known.folder, tmp_path / "folder")
    (tmp_path / "folder" / "unet" / "config.json").write_text("[", encoding="utf-8")
    with pytest.raises(Refusal, match="unet.config.json has a configuration that is no JSON"):
        weights.load_pretrained(tmp_path / "folder")
    save_file(published(known), tmp_path / "x.safetensors", {"config": "[1]"})
    with pytest.raises(Refusal, match="no JSON"):
        weights.load_pretrained(tmp_path / "x.safetensors")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no weights at"):
        weights.load_pretrained(tmp_path / "x.ckpt")
    with pytest.raises(Refusal, match="no weights in unet/"):
        weights.load_pretrained(tmp_path)


def test_a_file_can_be_inspected(known: SimpleNamespace, tmp_path: Path) -> None:
    done = run(weights.__file__, known.folder)
    count = len([name for name in known.state if name.startswith(layouts.UNET)])
    assert done.returncode == 0, done.stderr
    assert f"U-Net          {count:>3} tensors" in done.stdout and "'heads'" in done.stdout
    assert done.stdout.count(" numbers float32\n") == 3
    (tmp_path / "x.safetensors").write_bytes(b"12345678901234567890")
    done = run(weights.__file__, tmp_path / "x.safetensors")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
