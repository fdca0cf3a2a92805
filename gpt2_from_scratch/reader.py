"""A trained model with its tokenizer: what it writes, what it expects, how surprised it is."""

# S tokens of a text, T tokens of a window, N of them that are scored, C channels, V vocabulary

import codecs
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from console import Refusal
from data import as_text
from generate import Sampling, generate
from model import GPT
from tokenizer import Tokenizer


class Reader:
    """A model and the tokenizer of its checkpoint. Raises Refusal if they do not fit."""

    def __init__(self, model: GPT, config: dict) -> None:
        self.model, self.context = model.eval(), config["context"]
        self.tokenizer = Tokenizer.from_state(config["tokenizer"])
        self.device = model.embed.weight.device
        if len(self.tokenizer) != len(model.embed.weight):
            raise Refusal(f"the tokenizer has {len(self.tokenizer):,} tokens, the model "
                          f"{len(model.embed.weight):,}: use another checkpoint")

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt. Raises ValueError if there are none, or too many to read."""
        tokens = self.tokenizer.encode(text)
        if not tokens:
            raise ValueError("the prompt is empty: write at least one character")
        if len(tokens) > self.context:
            raise ValueError(f"the prompt has {len(tokens)} tokens but the model reads at most "
                             f"{self.context}: shorten it")
        return tokens

    def spell(self, token: int) -> str:
        """A token as text; bytes that are no whole character become a sign that says so."""
        return self.tokenizer.bytes_of(token).decode("utf-8", "replace")

    def one_token(self, text: str) -> int:
        """The token that a text is. Raises ValueError if it is none or several."""
        tokens = self.tokenizer.encode(text, allow_special=True)
        if len(tokens) != 1:
            raise ValueError(f"{text!r} is {len(tokens)} tokens: name a text that is one")
        return tokens[0]

    def write(self, prompts: list[str], count: int, sampling: Sampling, seed: int,
              stop: int | None = None) -> Iterator[list[str]]:
        """The texts that follow prompts, piece by piece: at each step one piece for each.

        A piece is empty while the bytes of a character are incomplete. The same seed draws the
        same texts. Raises ValueError, before the first piece, if a prompt cannot be read.
        """
        texts = [self.encode(prompt) for prompt in prompts]
        generator = torch.Generator(self.device).manual_seed(seed)
        pens = [codecs.getincrementaldecoder("utf-8")("replace") for _ in texts]
        for step in generate(self.model, texts, count, sampling, generator, stop):
            yield ["" if token is None else pen.decode(self.tokenizer.bytes_of(token))
                   for token, pen in zip(step, pens)]
        yield [pen.decode(b"", final=True) for pen in pens]

    @torch.inference_mode()
    def expects(self, text: str, count: int) -> list[tuple[int, float]]:
        """The tokens that are likeliest to follow a text, each with its probability."""
        logits = self.model(self.tensor(self.encode(text)))[0, -1]     # (V,)
        best = logits.float().softmax(-1).topk(min(count, len(logits)))
        return list(zip(best.indices.tolist(), best.values.tolist()))

    def tensor(self, tokens: list[int]) -> Tensor:
        """Tokens as a batch of one text, on the model's device."""
        return torch.tensor([tokens], device=self.device)              # (1, S)

    @torch.inference_mode()
    def surprise(self, tokens: list[int], stride: int) -> Tensor:
        """What the model would have needed to be told, in nats, for every token but the first.

        -log p of each token, given those before it. A text longer than the context is read in
        windows that start `stride` tokens apart, and each scores what no earlier one did: with
        a small stride every token has much before it, and reading takes long. Where windows do
        not overlap, the first token of each has nothing before it and is left out.
        """
        text, losses, done = self.tensor(tokens), [], 0
        for begin in range(0, len(tokens), stride):
            window = text[:, begin : begin + self.context]             # (1, T)
            end, done = begin + window.size(1), max(done, begin + 1)
            x, _ = self.model.hidden(window)
            logits = self.model.logits(x[0, done - 1 - begin : -1])    # (N, V)
            losses.append(F.cross_entropy(logits.float(), text[0, done:end],
                                          reduction="none"))           # (N,)  (15)
            done = end
            if end == len(tokens):
                break
        return torch.cat(losses).cpu()


def judge(reader: Reader, text: str, stride: int | None = None) -> dict:
    """How surprised a model is at a text, in the units in which people compare models.

    Perplexity depends on how long the tokens are; nats a character and bits a byte do not.
    Only the characters of scored tokens count. Windows are half a context apart unless a
    `stride` is given. Raises ValueError for a text that is too short, and for a stride that
    would leave tokens out.
    """
    tokens, stride = reader.tokenizer.encode(text), stride or max(1, reader.context // 2)
    if len(tokens) < 2:
        raise ValueError(f"the text has {len(tokens)} tokens, and the first cannot be judged: "
                         "take a longer one")
    if stride > reader.context:
        raise ValueError(f"a stride of {stride} would leave tokens out, as the model reads "
                         f"{reader.context} at once: choose a smaller one")
    losses = reader.surprise(tokens, stride)                           # (N,)
    total = losses.double().sum().item()
    mean = total / len(losses)
    unscored = range(0, len(tokens), stride) if stride == reader.context else (0,)
    scored = b"".join(reader.tokenizer.bytes_of(token) for place, token in enumerate(tokens)
                      if place not in unscored)
    characters = sum(byte & 0xC0 != 0x80 for byte in scored)    # all but those that go on
    return {"tokens": len(tokens), "scored": len(losses), "stride": stride,
            "nats_per_token": mean, "perplexity": math.exp(mean),      # (16)
            "nats_per_character": total / max(1, characters),
            "bits_per_byte": total / len(scored) / math.log(2)}


def printable(text: str) -> str:
    """A text from the command line whose broken bytes became a sign that can be printed."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def text_of(path: str) -> str:
    """The text of a file, or of standard input for "-". Raises Refusal if it is none."""
    try:
        with (open(0, "rb", closefd=False) if path == "-" else open(path, "rb")) as file:
            return as_text(file.read(), path)
    except OSError as error:
        raise Refusal(f"{path!r} cannot be read ({error.strerror}): name a text file") from None
