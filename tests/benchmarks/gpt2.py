"""GPT-2 against transformers and against the plain way: writing, and a training step.

    python tests/benchmarks/gpt2.py                    # both, on one thread and on all
    python tests/benchmarks/gpt2.py writing --threads 2 --rounds 5

All have the same random weights and have to agree on what they write. The plain way of training
is the same model from PyTorch's own layers with the same mathematics, as one would write it who
has no model of his own.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import timing
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from support import load

gpt2 = load("gpt2_from_scratch")
model, Sampling = gpt2.model, gpt2.generate.Sampling
PROMPT, NEW, QUICK = 32, 128, 8             # tokens that are read and written
CALLS = 5                                   # training steps in a round
SMALL = {"vocabulary": 65, "context": 64, "layers": 4, "heads": 4, "channels": 128}
BATCH = 12                                  # all of nanoGPT's configuration for CPUs


def twins(sizes: dict, bias: bool = True) -> tuple[nn.Module, nn.Module]:
    """Our model and transformers', with the same weights."""
    config = GPT2Config(
        vocab_size=sizes["vocabulary"], n_positions=sizes["context"], n_layer=sizes["layers"],
        n_head=sizes["heads"], n_embd=sizes["channels"], resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=0, eos_token_id=0)
    peer, ours = GPT2LMHeadModel(config), model.GPT(**sizes, bias=bias)
    state = peer.transformer.state_dict()
    names = gpt2.weights.by_our_names(state, Path("memory"))
    if bias:
        ours.load_state_dict({name: state[theirs].T if gpt2.weights.TURNED.search(name)
                              else state[theirs] for name, theirs in names.items()})
    return ours, peer


# ---------------------------------------------------------------- writing


def cached(net: nn.Module, prompt: Tensor, new: int) -> Tensor:
    """Ours, as inference.py has it."""
    steps = gpt2.generate.generate(net, prompt.tolist(), new, Sampling(temperature=0),
                                   torch.Generator())
    return torch.tensor([step[0] for step in steps])


@torch.inference_mode()
def uncached(net: nn.Module, prompt: Tensor, new: int) -> Tensor:
    """Ours, reading the whole text for every token."""
    text = prompt
    for _ in range(new):
        x, _ = net.hidden(text)
        text = torch.cat([text, net.logits(x[:, -1]).argmax(-1, keepdim=True)], dim=1)
    return text[0, PROMPT:]


@torch.inference_mode()
def theirs(net: nn.Module, prompt: Tensor, new: int) -> Tensor:
    """That of transformers, with its cache."""
    text = net.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new,
                        min_new_tokens=new, do_sample=False, pad_token_id=0)
    return text[0, PROMPT:]


def writing(args: argparse.Namespace) -> Iterator[timing.Pair]:
    """128 tokens after 32, at the shape of the smallest published model."""
    torch.manual_seed(0)
    quick, clock = args.quick, timing.CLOCKS[args.clock]
    sizes = SMALL if quick else {"vocabulary": model.VOCABULARY, **model.SIZES["gpt2"]}
    name, new = ("small", QUICK) if quick else ("124M", NEW)
    ours, peer = (net.eval() for net in twins(sizes))
    prompt = torch.randint(sizes["vocabulary"], (1, PROMPT))

    def same(mine: Tensor, other: Tensor) -> str:
        """Once without a cache; all three have to write the same."""
        start = clock()
        slow = uncached(ours, prompt, new)
        speed = new / (clock() - start)
        if not (mine.equal(other) and mine.equal(slow)):
            raise ValueError("they do not write the same")
        return f"the same text; ours without a cache, once: {speed:.1f} tokens/s"

    yield timing.Pair(f"writing {new} tokens after {PROMPT}, {name}", "transformers' generate",
                      lambda: cached(ours, prompt, new), lambda: theirs(peer, prompt, new),
                      amount=(new, "tokens"), remark=same)


# ---------------------------------------------------------------- training


class PlainBlock(nn.Module):
    """A block of PyTorch's own layers."""

    def __init__(self, channels: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(channels, bias=bias) for _ in range(2))
        self.project = nn.Linear(channels, 3 * channels, bias)
        self.combine = nn.Linear(channels, channels, bias)
        self.widen = nn.Linear(channels, 4 * channels, bias)
        self.narrow = nn.Linear(4 * channels, channels, bias)
        self.gate, self.heads = nn.GELU("tanh"), heads

    def forward(self, x: Tensor) -> Tensor:
        """Attention written out, with a mask, and the feed-forward layers."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for part in self.project(self.norm1(x)).chunk(3, dim=-1))
        scores = q @ k.transpose(-2, -1) / q.size(-1) ** 0.5
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        heads = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
        x = x + self.combine(heads.transpose(1, 2).flatten(2))
        return x + self.narrow(self.gate(self.widen(self.norm2(x))))


class Plain(nn.Module):
    """The same model around these blocks."""

    def __init__(self, vocabulary: int, context: int, layers: int, heads: int, channels: int,
                 bias: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, channels)
        self.locate = nn.Embedding(context, channels)
        self.blocks = nn.Sequential(*(PlainBlock(channels, heads, bias)
                                      for _ in range(layers)))
        self.norm = nn.LayerNorm(channels, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        x = self.embed(tokens) + self.locate(torch.arange(tokens.size(1)))
        return self.norm(self.blocks(x)) @ self.embed.weight.T


def trainer(net: nn.Module, tokens: Tensor) -> Callable[[], Tensor]:
    """A training step with the same loss and optimizer for all."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)

    def work() -> Tensor:
        logits = net(tokens[:, :-1])
        logits = getattr(logits, "logits", logits)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss.detach()
    return work


def in_plain_order(net: nn.Module) -> dict[str, Tensor]:
    """Our weights in the order of the plain model's, which has its norms and layers mixed."""
    ours = net.state_dict()
    order = ["embed.weight", "locate.weight"]
    for number in range(len(net.blocks)):
        for part in ("norm1", "norm2", "attend.project", "attend.combine", "think.widen",
                     "think.narrow"):
            order += [f"blocks.{number}.{part}.{kind}" for kind in ("weight", "bias")]
    order += ["norm.weight", "norm.bias"]
    return {name: ours[name] for name in order if name in ours}


def training(args: argparse.Namespace) -> Iterator[timing.Pair]:
    """4 layers, 4 heads, 128 channels, 12 texts of 64."""
    tokens = torch.randint(65, (BATCH, 65))
    for name, bias in (("transformers", True), ("plain layers", True), ("plain layers", False)):
        torch.manual_seed(0)
        ours, peer = twins(SMALL, bias)
        if name != "transformers":
            peer = Plain(**SMALL, bias=bias)
            peer.load_state_dict(dict(zip(peer.state_dict(), in_plain_order(ours).values())))
        yield timing.Pair(f"training step, {'with' if bias else 'without'} biases", name,
                          trainer(ours, tokens), trainer(peer.train(), tokens),
                          (1, 1) if args.quick else (CALLS, CALLS), (1, "steps"),
                          lambda mine, other: f"losses at the end {mine:.4f}, {other:.4f}")


# ---------------------------------------------------------------- both


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parts = {"training": training, "writing": writing}
    parser = timing.parser(__doc__)
    parser.add_argument("what", nargs="*", help="writing, training (default: both)")
    args = timing.parse(parser, argv, rounds=7)
    if unknown := set(args.what) - set(parts):
        parser.error(f"{', '.join(unknown)} is neither writing nor training")
    timing.measure("gpt2", lambda: (pair for name, part in parts.items()
                                    if name in (args.what or parts)
                                    for pair in part(args)), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
