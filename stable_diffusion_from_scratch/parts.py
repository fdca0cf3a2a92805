"""What Stable Diffusion is made of, block by block: classes, shapes, numbers of parameters."""

# B images, P pixels of a side, S tokens of a prompt

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from layouts import TEXT, UNET, VAE

Block = tuple[str, nn.Module, nn.Module]    # key, what is counted, whose output is looked at


def made_of(block: nn.Module) -> str:
    """The classes of what a row or list of layers holds; of anything else its own class."""
    children = list(block.children())
    lists = [isinstance(child, nn.ModuleList) for child in children]
    if not isinstance(block, nn.Sequential | nn.ModuleDict | nn.ModuleList) and not any(lists):
        return type(block).__name__
    layers = [layer for child, is_list in zip(children, lists)
              for layer in (child if is_list else [child])]
    counts = Counter(type(layer).__name__ for layer in layers
                     if not isinstance(layer, nn.Identity))
    return ", ".join(f"{number} {name}" if number > 1 else name
                     for name, number in counts.items())


def unet_blocks(unet: nn.Module) -> Iterator[Block]:
    """The blocks of a U-Net, in the order in which they work."""
    lists = {name: getattr(unet, name) for name in ("input_blocks", "output_blocks")}
    ways = {name: [(f"{name}.{number}", stage, stage) for number, stage in enumerate(stages)]
            for name, stages in lists.items()}
    yield "time_embed", unet.time_embed, unet.time_embed
    yield from ways["input_blocks"]
    yield "middle_block", unet.middle_block, unet.middle_block
    yield from ways["output_blocks"]
    yield "out", unet.out, unet.out


def vae_blocks(vae: nn.Module) -> Iterator[Block]:
    """The blocks of an autoencoder, in the order in which they work."""
    for half, side in (("encoder", "down"), ("decoder", "up")):
        coder = getattr(vae, half)
        levels = list(enumerate(getattr(coder, side)))
        middle = [(f"{half}.mid", coder.mid, coder.mid["block_2"])]
        sized = [(f"{half}.{side}.{number}", level, level) for number, level in levels]
        if half == "decoder":
            yield "post_quant_conv", vae.post_quant_conv, vae.post_quant_conv
        yield f"{half}.conv_in", coder.conv_in, coder.conv_in
        yield from sized + middle if side == "down" else middle + sized[::-1]
        yield f"{half}.norm_out", coder.norm_out, coder.norm_out
        yield f"{half}.conv_out", coder.conv_out, coder.conv_out
        if half == "encoder":
            yield "quant_conv", vae.quant_conv, vae.quant_conv


def text_blocks(text: nn.Module) -> Iterator[Block]:
    """The blocks of a text encoder; its layers are all alike and stand in one row."""
    layers = text.encoder["layers"]
    yield "embeddings", text.embeddings, text.embeddings["token_embedding"]
    yield f"encoder.layers.0 to {len(layers) - 1}", layers, layers[-1]
    yield "final_layer_norm", text.final_layer_norm, text.final_layer_norm


def table(model: nn.Module, side: int) -> dict[str, list[tuple[str, str, str, int]]]:
    """For each prefix of keys: key, classes, output shape and parameters of every block.

    The shapes are those of a real forward pass for pictures of `side` pixels.
    """
    blocks = {UNET: list(unet_blocks(model.unet)), VAE: list(vae_blocks(model.vae)),
              TEXT: list(text_blocks(model.text))}
    shapes, hooks = {}, []

    def record(module: nn.Module, _inputs: object, output: Tensor) -> None:
        shapes[module] = "×".join(map(str, output.shape[1:]))

    for rows in blocks.values():
        hooks += [seen.register_forward_hook(record) for _, _, seen in rows]
    device = model.scale_factor.device
    context = model.text(torch.zeros(1, model.text.positions, dtype=torch.long, device=device))
    x = torch.zeros(1, 3, side, side, device=device)                   # (B, 3, P, P)
    latents = model.vae.encode(x).mean                                 # (B, ...)
    model.unet(latents, torch.zeros(1, device=device), context)
    model.decode(latents)
    for hook in hooks:
        hook.remove()
    return {prefix: [(key, made_of(block), shapes[seen],
                      sum(p.numel() for p in block.parameters())) for key, block, seen in rows]
            for prefix, rows in blocks.items()}
