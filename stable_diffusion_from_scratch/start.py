"""With which model a run begins: an untrained one, a run's checkpoint, or published weights."""

# no shapes here: configurations

import argparse

from torch import nn

import checkpoint
from console import Refusal, say
from data import Data
from model import NAME, StableDiffusion, build
from options import SIZES
from painter import find_tokenizer
from tokenizer import WordTokenizer, from_state, split
from weights import load_pretrained
from words import prompts, vocabulary

SHOWN = 16           # prompts that are drawn while a model learns
APART = 1.0          # deviation of what stands for words, and for places, at first


def begin(args: argparse.Namespace, data: Data) -> tuple[StableDiffusion, dict]:
    """The model that a run begins with, and what a checkpoint says about it.

    Raises Refusal for weights that cannot be read, or that have another size than asked for.
    """
    if args.weights is None:
        config = fresh_config(args.preset, data)
        model = build(config)
        tell_apart(model)
    elif args.weights.suffix == ".pt":
        saved = checkpoint.load(args.weights, NAME)
        config, model = saved["config"], build(saved["config"])
        checkpoint.restore(model, saved.get("ema", saved["model"]), args.weights)
    else:
        model, config = load_pretrained(args.weights)
        config["tokenizer"] = find_tokenizer(args.weights, args.tokenizer, config).state()
    if config["vae"]["multipliers"] != SIZES[args.preset]["vae"]["multipliers"]:
        raise Refusal(f"{args.weights} is no model of --preset {args.preset}: its autoencoder "
                      "has other levels")
    shown = ([text for text, _ in prompts("trained", SHOWN - 4) + prompts("two", 4)]
             if data.name == "shapes" else data.validation.captions[:SHOWN])
    return model, {**config, "image_size": args.image_size, "data": args.data,
                   "prompts": shown, "seed": args.seed}


def fresh_config(preset: str, data: Data) -> dict:
    """An untrained model that knows the words of the captions."""
    words, length = vocabulary(data.train.captions)
    tokenizer, sizes = WordTokenizer(words, length), SIZES[preset]
    text = {**sizes["text"], "vocabulary": len(tokenizer), "positions": length}
    return {**sizes, "text": text, "tokenizer": tokenizer.state()}


def tell_apart(model: StableDiffusion) -> None:
    """Begin with words and places that differ as much as what the layers add to them.

    CLIP's own start is a fiftieth of that. It has the time to learn; a small model would hear
    hardly any difference between black and white, or between first and second, for its first
    thousand steps.
    """
    for table in model.text.embeddings.values():
        nn.init.normal_(table.weight, std=APART)


def say_unknown(config: dict, captions: list[str]) -> None:
    """Warn of words in captions that the model of a checkpoint has never read."""
    tokenizer = from_state(config["tokenizer"])
    if isinstance(tokenizer, WordTokenizer):
        known = set(tokenizer.tokens)
        strange = {word for text in captions for word in split(text)} - known
        if strange:
            say(f"{len(strange)} words of the captions are new to the model and left out, such "
                f"as {', '.join(sorted(strange)[:5])}")
