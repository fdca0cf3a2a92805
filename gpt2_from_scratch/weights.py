"""The weights that OpenAI published for GPT-2, in our own model.

    python inference.py --weights gpt2 --download --prompt "The answer is"
    python inference.py --weights model.safetensors --prompt "The answer is"

They lie in the shape that Hugging Face gave them: `model.safetensors` or `pytorch_model.bin`,
with or without "transformer." before the names. Every name in the file has to be accounted
for. One tensor at a time is read and turned, so memory holds little more than the model.
"""

import argparse
import http.client
import re
import urllib.request
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from console import Refusal, from_here, say
from download import TIMEOUT, fetch
from model import GPT, hollow
from tokenizer import Tokenizer

PUBLISHED = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
FILES = ("model.safetensors", "pytorch_model.bin")
SITE = "https://huggingface.co/openai-community/{size}/{kind}/main/{file}"
SHA256 = "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"   # size gpt2 only
WORDS = {  # our name of each file of the tokenizer: Hugging Face's, and its SHA-256
    "encoder.json": ("vocab.json",
                     "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
    "vocab.bpe": ("merges.txt",
                  "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
}
PARTS = {  # their names of the layers, and ours
    "wte": "embed", "wpe": "locate", "ln_f": "norm", "ln_1": "norm1", "ln_2": "norm2",
    "attn.c_attn": "attend.project", "attn.c_proj": "attend.combine",
    "mlp.c_fc": "think.widen", "mlp.c_proj": "think.narrow",
}
TURNED = re.compile(r"(attend|think)\.\w+\.weight")
NO_WEIGHTS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")   # causal masks of older files
HEAD = "lm_head.weight"      # the embedding once more; most files leave it out
HEAD_WIDTH = 64              # channels a head, in all published sizes


def translated(theirs: str) -> str:
    """Our name of a tensor. Raises KeyError if GPT-2 has no such thing."""
    block, layer, kind = re.fullmatch(r"(h\.\d+\.)?(.+)\.(weight|bias)", theirs).groups()
    return f"{(block or '').replace('h.', 'blocks.')}{PARTS[layer]}.{kind}"


def by_our_names(names: Iterable[str], path: Path) -> dict[str, str]:
    """Our name of each tensor that matters, with the file's. Raises Refusal at others."""
    found = {}
    for name in names:
        plain = name.removeprefix("transformer.")
        if NO_WEIGHTS.fullmatch(plain):
            continue
        try:
            ours = HEAD if plain == HEAD else translated(plain)
        except (KeyError, AttributeError):
            raise Refusal(f"{path} holds {name}, which GPT-2 does not have: name a file of "
                          "GPT-2's weights") from None
        if ours in found:
            raise Refusal(f"{path} holds both {found[ours]} and {name}: keep one of them")
        found[ours] = name
    return found


def opened(path: Path) -> tuple[dict[str, tuple], Callable[[str], Tensor]]:
    """The shape of every tensor in a file, and a function that reads one of them, once."""
    if path.suffix == ".safetensors":
        def read(name: str) -> Tensor:       # closed after each, or all pages would stay
            with safe_open(path, "pt") as file:
                return file.get_tensor(name).clone()
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, read
    with warnings.catch_warnings(action="ignore"):      # a damaged file ends in one sentence
        weights = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}, weights.pop


def shape_of_model(shapes: dict[str, tuple]) -> dict:
    """What `model.build` needs, read off the shapes. Raises KeyError where one is missing."""
    (vocabulary, channels), (context, _) = shapes["embed.weight"], shapes["locate.weight"]
    blocks = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    return {"vocabulary": vocabulary, "context": context, "layers": len(blocks),
            "heads": channels // HEAD_WIDTH, "channels": channels, "dropout": 0.0,
            "bias": True}


def compare(wanted: dict[str, tuple], found: dict[str, tuple], path: Path) -> None:
    """Raises Refusal if a tensor is missing, is none of the model's, or has another shape."""
    for name in wanted | found:
        if name not in found:
            raise Refusal(f"{path} lacks {name}: it does not hold a whole GPT-2")
        if found[name] != wanted.get(name):
            raise Refusal(f"{path} gives {name} the shape {found[name]}, the model has "
                          f"{wanted.get(name, 'no such tensor')}: it is no GPT-2")


def read_weights(path: Path) -> tuple[GPT, dict]:
    """The model in a file of published weights, on the CPU, and its shape.

    The original multiplies from the other side, so the matrices of its blocks have to be
    turned; one of the four is square and would fit the wrong way, too. Raises Refusal if a
    name or a shape is not as it should be.
    """
    shapes, read = opened(path)
    names = by_our_names(shapes, path)
    head = names.pop(HEAD, None)
    turned = {name for name in names if TURNED.search(name)}
    found = {name: shapes[theirs][:: -1 if name in turned else 1]
             for name, theirs in names.items()}
    config = shape_of_model(found)
    if config["channels"] % HEAD_WIDTH:
        raise Refusal(f"{path} has {config['channels']} channels, no multiple of {HEAD_WIDTH}: "
                      "how many heads share them is not in the file, and no published size")
    model = hollow(config)           # without memory: the tensors of the file move in
    compare({name: tuple(w.shape) for name, w in model.state_dict().items()}, found, path)
    weights = {"embed.weight": read(names.pop("embed.weight")).float()}
    if head and not torch.equal(read(head).float(), weights["embed.weight"]):
        raise Refusal(f"{path} names tokens with another matrix than it reads them with: it is "
                      "no GPT-2")
    for name, theirs in names.items():
        tensor = read(theirs).float()
        weights[name] = tensor.T.contiguous() if name in turned else tensor
    model.load_state_dict(weights, assign=True)
    return model, config


# ---------------------------------------------------------------- where the files are


def stated_hash(size: str) -> str:
    """The SHA-256 that the site itself states of a size's weights.

    It finds a broken download; that of size gpt2, which stands above, finds a false file, too.
    Raises Refusal without a network.
    """
    url = SITE.format(size=size, kind="raw", file=FILES[0])
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return re.search(r"sha256:([0-9a-f]{64})", answer.read(1000).decode())[1]
    except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
        raise Refusal(f"the weights of {size} could not be fetched ({url}: {error}): fetch "
                      f"{FILES[0]} yourself and name its path") from None


def download(size: str, folder: Path) -> None:
    """Bring the weights of a size and the files of the tokenizer into a folder."""
    for file, (theirs, sha256) in WORDS.items():
        fetch([SITE.format(size=size, kind="resolve", file=theirs)], folder / file, sha256)
    sha256 = SHA256 if size == "gpt2" else stated_hash(size)
    fetch([SITE.format(size=size, kind="resolve", file=FILES[0])], folder / FILES[0], sha256)


def find(source: str, data_dir: Path, fetch_it: bool = False) -> Path:
    """The file of weights that a size or a path stands for. Raises Refusal if there is none."""
    known = source in PUBLISHED
    path = data_dir / source if known else Path(source)
    if known and fetch_it:
        download(source, path)
    for file in [path / name for name in FILES] if known or path.is_dir() else [path]:
        if file.is_file():
            return file
    advice = ("say --download to fetch them" if known else
              f"name a {' or '.join(FILES)}, or one of {', '.join(PUBLISHED)}")
    raise Refusal(f"there are no weights at {from_here(path)}: {advice}")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which published weights, and where they are."""
    add = parser.add_argument
    add("--weights", metavar="NAME|PATH",
        help=f"OpenAI's weights: {', '.join(PUBLISHED)} in --data-dir, or a file or folder")
    add("--download", action="store_true", help="fetch the --weights that are named")
    add("--tokenizer", metavar="DIR", type=Path,
        help="where encoder.json and vocab.bpe lie (default: beside the --weights)")
    add("--data-dir", metavar="DIR", type=Path, default=Path(__file__).with_name("data"),
        help="where weights lie or are downloaded to (default: data/ in this folder)")


def open_published(source: str, data_dir: Path, fetch_it: bool = False,
                   words: Path | None = None) -> tuple[GPT, dict]:
    """The model with published weights, on the CPU, and all that a checkpoint's config holds.

    The arguments are the flags above. Raises Refusal if something is not to be had, or is
    something else.
    """
    path = find(source, data_dir, fetch_it)
    words = words or path.parent
    tokenizer = Tokenizer.load(words)
    try:
        model, config = read_weights(path)
    except Refusal:
        raise
    except Exception as error:  # a damaged or foreign file fails in many ways
        raise Refusal(f"{path} does not hold the weights of GPT-2 ({type(error).__name__}): "
                      "fetch it again, or name another file") from error
    if len(tokenizer) != config["vocabulary"]:
        raise Refusal(f"the tokenizer in {words} has {len(tokenizer):,} tokens, "
                      f"the model {config['vocabulary']:,}: name the folder of the right one")
    say(f"using {from_here(path)}")
    return model, {**config, "tokenizer": tokenizer.state(), "data": "WebText"}
