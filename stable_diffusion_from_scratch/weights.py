"""Published weights of Stable Diffusion 1.x in our own model, whichever file they come in.

    python weights.py v1-5-pruned-emaonly.safetensors       # what a file holds

Read are single files (.safetensors; .ckpt, with or without a trainer around the weights, with
or without running means) and folders of diffusers (.safetensors or .bin, old names and new).
Every tensor has to be accounted for, and no code inside a file is ever run.
"""

# no shapes here: names, and shapes as plain numbers

import argparse
import json
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from console import Refusal, from_here, one_line_errors, say
from layouts import FOLDERS, TEXT, UNET, VAE, below, ema_name, shape_of_model
from model import SCALE, StableDiffusion, hollow

EXTRAS = re.compile(   # tables that follow from the schedule; counts of running means
    r"(sqrt_|log_|posterior_)?\w*(betas|alphas_cumprod\w*|variance\w*|mean_coef[12])"
    r"|logvar|lvlb_weights|model_ema\.(decay|num_updates)|.*\bposition_ids")
TRAINER = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
PARTS = {"U-Net": UNET, "autoencoder": VAE, "text encoder": TEXT}
ENDINGS = (".safetensors", ".bin")


class Source(NamedTuple):
    """An opened file or folder: what is in it, and a way to read one tensor after the other."""

    shapes: dict[str, tuple]            # by our names
    read: Callable[[str], Tensor]       # by our name
    hints: dict                         # what the file says of its configuration
    remarks: list[str]                  # for people


class _Stub:
    """Stands for a class of the trainer that some files name; nothing is made of it."""


# ---------------------------------------------------------------- opening


def _opened(path: Path) -> tuple[dict[str, tuple], Callable[[str], Tensor], dict[str, str]]:
    """The shapes in one file, a function that reads a tensor, and its notes about itself."""
    if not path.is_file():
        raise Refusal(f"there are no weights at {from_here(path)}: name a file, or a folder of "
                      "diffusers")
    if path.suffix == ".safetensors":
        def read(name: str) -> Tensor:       # closed after each, or all pages would stay
            with safe_open(path, "pt") as file:
                return file.get_tensor(name)
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            return shapes, read, file.metadata() or {}
    with torch.serialization.safe_globals([(_Stub, TRAINER)]), \
            warnings.catch_warnings(action="ignore"):
        found = torch.load(path, map_location="cpu", weights_only=True,
                           mmap=zipfile.is_zipfile(path))
    weights = found.get("state_dict", found)
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    return {name: tuple(t.shape) for name, t in tensors.items()}, tensors.__getitem__, {}


def _open(path: Path) -> tuple[dict[str, tuple], Callable[[str], Tensor], dict[str, str]]:
    """The same, or a sentence that says why not."""
    try:
        return _opened(path)
    except (Refusal, MemoryError):
        raise
    except Exception as error:          # a damaged, foreign or hostile file fails in many ways
        why = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it wants to run {why[1]}" if why else type(error).__name__
        raise Refusal(f"{from_here(path)} cannot be read safely ({what}): fetch it again, or "
                      "name another file") from error


def _open_folder(folder: Path) -> Source:
    """The three parts of a folder of diffusers under our names."""
    shapes, places, hints = {}, {}, {}
    for part, (prefix, namer) in FOLDERS.items():
        files = [path for ending in ENDINGS
                 for path in sorted((folder / part).glob(f"*{ending}"))]
        plain = [path for path in files if "." not in path.stem]     # no .fp16, no .non_ema
        if not files:
            raise Refusal(f"{from_here(folder)} has no weights in {part}/: it is no folder of "
                          "Stable Diffusion")
        path = (plain or files)[0]
        found, read, _ = _open(path)
        found = {name: shape for name, shape in found.items() if not EXTRAS.fullmatch(name)}
        ours = namer(found)
        for name, shape in found.items():
            try:
                mine = prefix + ours(name)
            except (KeyError, AttributeError, ValueError):
                raise Refusal(f"{from_here(path)} holds {name}, which Stable Diffusion 1.x "
                              "does not have: name another folder") from None
            shapes[mine], places[mine] = shape, (read, name)
        config = folder / part / "config.json"
        hints |= _hints(part, _json(config.read_text(), config) if config.exists() else {})
    return Source(shapes, lambda name: places[name][0](places[name][1]), hints, ["diffusers"])


def _json(text: str, path: Path) -> dict:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refusal(f"{from_here(path)} has a configuration that is no JSON: fetch it again")
    return found


def _hints(part: str, config: dict) -> dict:
    """What a config.json says that shapes do not; diffusers calls heads their width."""
    names = {"unet": {"heads": "attention_head_dim", "groups": "norm_num_groups"},
             "vae": {"groups": "norm_num_groups"},
             "text_encoder": {"heads": "num_attention_heads"}}
    found = {ours: config[theirs] for ours, theirs in names[part].items() if theirs in config}
    hints = {part.removesuffix("_encoder"): found}
    return hints | ({"scale": config["scaling_factor"]} if "scaling_factor" in config else {})


def _open_single(path: Path) -> Source:
    """A file with all three parts, under the names of the release, which are ours."""
    shapes, read, notes = _open(path)
    bare = TEXT.removesuffix("text_model.")
    ours = {re.sub(f"^{bare}(?!text_model)", TEXT, name): name for name in shapes}
    ours = {mine: name for mine, name in ours.items() if not EXTRAS.fullmatch(mine)}
    means = {mine: ema_name(mine) for mine in ours if ema_name(mine) in ours}
    remarks = ["original names"]
    if means:
        remarks.append(f"running means of {len(means)} tensors, which are used")
        ours = {mine: means.get(mine, name) for mine, name in ours.items()
                if mine not in means.values()}
    hints = _json(notes.get("config", "{}"), path)
    return Source({mine: shapes[name] for mine, name in ours.items()},
                  lambda mine: read(ours[mine]), hints, remarks)


def open_source(path: Path) -> Source:
    """A file or a folder of weights, opened. Raises Refusal if it cannot be read safely."""
    return _open_folder(path) if path.is_dir() else _open_single(path)


# ---------------------------------------------------------------- checking


def recognise(shapes: dict[str, tuple], path: Path) -> None:
    """Raises Refusal for a relative of Stable Diffusion 1.x, and says which it is."""
    looks = f"{UNET}middle_block.1"
    context = shapes.get(f"{looks}.transformer_blocks.0.attn2.to_k.weight", (0, 768))
    linear = len(shapes.get(f"{looks}.proj_in.weight", (0,) * 4)) == 2
    kind = None
    if any(name.startswith("conditioner.") for name in shapes) or context[1] == 2048:
        kind = "Stable Diffusion XL"
    elif linear or context[1] == 1024 or any(n.startswith("cond_stage_model.model.")
                                             for n in shapes):
        kind = "Stable Diffusion 2"
    elif (inputs := shapes.get(f"{UNET}input_blocks.0.0.weight", (0, 4))[1]) > 4:
        kind = f"a model for inpainting or the like, with {inputs} channels where this has 4"
    if kind:
        raise Refusal(f"{from_here(path)} is {kind}; this code is for Stable Diffusion 1.x: "
                      "name another file")


def _fits(wanted: tuple, found: tuple) -> bool:
    """Whether a shape is the wanted one, or lacks only the ones of a 1×1 convolution."""
    return found == wanted or len(wanted) == 4 and wanted[2:] == (1, 1) and found == wanted[:2]


def compare(wanted: dict[str, tuple], found: dict[str, tuple], path: Path) -> None:
    """Raises Refusal if a tensor is missing, is none of the model's, or has another shape."""
    for name in wanted | found:
        if name not in found:
            raise Refusal(f"{from_here(path)} lacks {name}: it does not hold a whole Stable "
                          "Diffusion 1.x")
        if name not in wanted:
            raise Refusal(f"{from_here(path)} holds {name}, which Stable Diffusion 1.x does "
                          "not have: name another file")
        if not _fits(wanted[name], found[name]):
            raise Refusal(f"{from_here(path)} gives {name} the shape {found[name]}, the model "
                          f"has {wanted[name]}: name another file")


def shaped(source: Source, path: Path) -> tuple[StableDiffusion, dict]:
    """The model of a file, without memory: its tensors can move in; and its configuration."""
    recognise(source.shapes, path)
    try:
        config = shape_of_model(source.shapes, source.hints)
        return hollow(config), config
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise Refusal(f"{from_here(path)} does not hold a whole Stable Diffusion 1.x "
                      f"({error}): name another file") from None


def load_pretrained(path: Path) -> tuple[StableDiffusion, dict]:
    """The model in a file or folder, on the CPU in 32 bits, and its configuration.

    Raises Refusal, in one sentence, for anything that is not a whole Stable Diffusion 1.x.
    """
    path = Path(path)
    source = open_source(path)
    model, config = shaped(source, path)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    compare(wanted, {"scale_factor": (), **source.shapes}, path)
    weights = {name: source.read(name).to(torch.float32, copy=True).reshape(shape)
               for name, shape in wanted.items() if name in source.shapes}
    weights.setdefault("scale_factor", torch.tensor(source.hints.get("scale", SCALE)))
    model.load_state_dict(weights, assign=True)
    say(f"using {from_here(path)} ({', '.join(source.remarks)})")
    notes = ("tokenizer", "image_size", "prompts")     # what our own files say besides
    return model.eval(), config | {key: source.hints[key] for key in notes
                                   if key in source.hints}


def save(model: StableDiffusion, config: dict, path: Path, half: bool = False) -> None:
    """Write a model as .safetensors under the names of the release, whole or not at all."""
    weights = {name: (tensor.half() if half else tensor).detach().cpu().contiguous()
               for name, tensor in model.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    save_file(weights, partial, {"format": "pt", "config": json.dumps(config)})
    os.replace(partial, path)


# ---------------------------------------------------------------- looking


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print what a file or folder of weights holds."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("path", type=Path, help="a file, or a folder of diffusers")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    source = open_source(args.path)
    print(f"{args.path}: {', '.join(source.remarks)}")
    for part, prefix in PARTS.items():
        shapes = below(source.shapes, prefix)
        numbers = sum(torch.Size(shape).numel() for shape in shapes.values())
        kinds = {str(source.read(prefix + name).dtype)[6:] for name in list(shapes)[:1]}
        print(f"{part:13} {len(shapes):>4} tensors {numbers:>12,} numbers {''.join(kinds)}")
    others = [name for name in source.shapes if not name.startswith(tuple(PARTS.values()))]
    print(f"{'others':13} {len(others):>4} tensors {' '.join(others[:3])}")
    _, config = shaped(source, args.path)
    print(*(f"{part}: {settings}" for part, settings in config.items()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
