"""The names that others have for our tensors, and what shapes say of a model.

The original release names layers by their place in the network, and so do we. The library
diffusers names them by what they are, in three folders. Every rule here is one to one.
"""

# no shapes here: names, and shapes as plain numbers

import re
from collections.abc import Callable, Iterable

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = "cond_stage_model.transformer.text_model."
HEADS = {"unet": 8, "text": 64}      # heads, and channels of a head, in all published models
GROUPS = 32                          # of channels, in every group norm of them
BLOCK = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
         "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
LOOK = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
        "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}  # below: before 2023


def unet_namer(names: Iterable[str]) -> Callable[[str], str]:
    """A function from diffusers' names of a U-Net, all of which it has to see, to ours.

    An upsampling stands behind the attention of its level, if there is one: at place 2, else
    at place 1. Raises KeyError or AttributeError for a name that a U-Net does not have.
    """
    names = list(names)
    blocks = len({name for name in names
                  if re.fullmatch(r"down_blocks\.0\.resnets\.\d+\.conv1\.weight", name)})
    looks = {name.split(".")[1] for name in names if re.match(r"up_blocks\.\d+\.att", name)}
    step = blocks + 1

    def place(side: str, level: str, kind: str, number: str) -> str:
        if kind == "downsamplers":
            return f"input_blocks.{step * (int(level) + 1)}.0"
        if kind == "upsamplers":
            return f"output_blocks.{step * (int(level) + 1) - 1}.{2 if level in looks else 1}"
        at = step * int(level) + int(number) + (side == "down")
        stem = "input_blocks" if side == "down" else "output_blocks"
        return f"{stem}.{at}.{int(kind == 'attentions')}"

    def ours(name: str) -> str:
        stem, ending = name.rsplit(".", 1)
        if stem in ENDS:
            return f"{ENDS[stem]}.{ending}"
        if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", stem):
            kind, number, layer = found.groups()
            where = f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}"
        else:
            side, level, kind, number, layer = re.fullmatch(
                r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", stem).groups()
            where = place(side, level, kind, number)
            if kind in ("downsamplers", "upsamplers"):
                layer = {"downsamplers": "op", "upsamplers": "conv"}[kind]
        return f"{where}.{BLOCK[layer] if kind == 'resnets' else layer}.{ending}"

    return ours


def vae_namer(names: Iterable[str]) -> Callable[[str], str]:
    """A function from diffusers' names of an autoencoder, all of which it sees, to ours.

    Its first level on the way up is our last. Raises KeyError or AttributeError for a name
    that an autoencoder does not have.
    """
    levels = len({name.split(".")[2] for name in names
                  if name.startswith("decoder.up_blocks.")})

    def ours(name: str) -> str:
        stem, ending = name.rsplit(".", 1)
        if found := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.+)", stem):
            return f"{found[1]}.mid.attn_1.{LOOK[found[2]]}.{ending}"
        if found := re.fullmatch(r"(\w+)\.mid_block\.resnets\.(\d)\.(.+)", stem):
            stem = f"{found[1]}.mid.block_{int(found[2]) + 1}.{found[3]}"
        elif found := re.fullmatch(r"(\w+)\.(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", stem):
            half, side, level, kind, number, layer = found.groups()
            at = int(level) if side == "down" else levels - 1 - int(level)
            change = {"resnets": f"block.{number}"}.get(kind, f"{side}sample")
            stem = f"{half}.{side}.{at}.{change}.{layer}"
        stem = stem.replace("conv_norm_out", "norm_out").replace("conv_shortcut",
                                                                 "nin_shortcut")
        return f"{stem}.{ending}"

    return ours


def text_namer(_names: Iterable[str]) -> Callable[[str], str]:
    """A function from the names of a text encoder, with or without `text_model.`, to ours."""
    return lambda name: name.removeprefix("text_model.")


FOLDERS = {"unet": (UNET, unet_namer), "vae": (VAE, vae_namer),
           "text_encoder": (TEXT, text_namer)}       # of diffusers: our prefix and names


def ema_name(name: str) -> str:
    """What the release calls the running mean of one of the U-Net's tensors."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


# ---------------------------------------------------------------- what shapes say


def below(shapes: dict[str, tuple], prefix: str) -> dict[str, tuple]:
    """The shapes whose names begin so, without the beginning."""
    return {name.removeprefix(prefix): shape for name, shape in shapes.items()
            if name.startswith(prefix)}


def count(names: Iterable[str], stem: str) -> int:
    """How many different numbers follow a stem: layers of a list."""
    return len({found[1] for name in names
                if (found := re.match(re.escape(stem) + r"\.(\d+)\.", name))})


def shape_of_unet(shapes: dict[str, tuple]) -> dict:
    """What `model.UNet` needs, but for heads and groups. Raises KeyError where one is missing.

    A stage that holds a halving ends a level.
    """
    channels, latents = shapes["input_blocks.0.0.weight"][:2]
    levels = [[]]
    for number in range(1, count(shapes, "input_blocks")):
        stage = f"input_blocks.{number}"
        if f"{stage}.0.op.weight" in shapes:
            levels.append([])
        else:
            levels[-1].append(stage)
    return {"latents": latents, "out": shapes["out.2.weight"][0], "channels": channels,
            "multipliers": [shapes[f"{level[0]}.0.in_layers.2.weight"][0] // channels
                            for level in levels],
            "blocks": len(levels[0]),
            "attention": [f"{level[0]}.1.norm.weight" in shapes for level in levels],
            "context": shapes["middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1],
            "depth": count(shapes, "middle_block.1.transformer_blocks")}


def shape_of_vae(shapes: dict[str, tuple]) -> dict:
    """What `vae_model.AutoencoderKL` needs, but for groups. Raises KeyError, as above."""
    channels, pixels = shapes["encoder.conv_in.weight"][:2]
    widths = [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0]
              for level in range(count(shapes, "encoder.down"))]
    return {"pixels": pixels, "latents": shapes["post_quant_conv.weight"][0],
            "channels": channels, "multipliers": [width // channels for width in widths],
            "blocks": count(shapes, "encoder.down.0.block")}


def shape_of_text(shapes: dict[str, tuple]) -> dict:
    """What `text_encoder.TextEncoder` needs. Raises KeyError where something is missing."""
    vocabulary, channels = shapes["embeddings.token_embedding.weight"]
    return {"vocabulary": vocabulary, "channels": channels,
            "positions": shapes["embeddings.position_embedding.weight"][0],
            "layers": count(shapes, "encoder.layers"),
            "heads": max(1, channels // HEADS["text"])}


def shape_of_model(shapes: dict[str, tuple], hints: dict[str, dict]) -> dict[str, dict]:
    """A model's whole configuration, of its shapes and of what a file says besides.

    Heads and groups leave no trace in shapes; without hints they are those of the published
    models. Raises KeyError where a tensor is missing.
    """
    plain = {"heads": HEADS["unet"], "groups": GROUPS}
    found = {"unet": plain | shape_of_unet(below(shapes, UNET)),
             "vae": {"groups": GROUPS} | shape_of_vae(below(shapes, VAE)),
             "text": shape_of_text(below(shapes, TEXT))}
    return {part: config | hints.get(part, {}) for part, config in found.items()}
