"""GPT-2 against transformers and PyTorch's own layers, to the last gradient."""

import copy
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support import ROOT, load

gpt2 = load("gpt2_from_scratch")
model = gpt2.model
GPT, LayerNorm = model.GPT, model.LayerNorm
PARAMETERS = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080,
              "gpt2-xl": 1_557_611_200}
# vocabulary, context, layers, heads, channels; and how many tokens are read
CONFIGURATIONS = [((97, 24, 3, 4, 48), 24), ((50, 16, 1, 1, 20), 9), ((300, 40, 2, 8, 32), 33),
                  ((11, 7, 5, 3, 12), 1)]
THEIRS = {"embed": "wte", "locate": "wpe", "norm": "ln_f", "norm1": "ln_1", "norm2": "ln_2",
          "attend.project": "attn.c_attn", "attend.combine": "attn.c_proj",
          "think.widen": "mlp.c_fc", "think.narrow": "mlp.c_proj"}


def their_name(name: str) -> str:
    """What transformers calls one of our tensors, written down apart from weights.py."""
    path, kind = name.rsplit(".", 1)
    if path.startswith("blocks."):
        _, number, part = path.split(".", 2)
        return f"transformer.h.{number}.{THEIRS[part]}.{kind}"
    return f"transformer.{THEIRS[path]}.{kind}"


def turned(name: str, tensor: Tensor) -> Tensor:
    """A matrix of a block the other way round; the embeddings stay."""
    return tensor.T if name.startswith("blocks.") and tensor.ndim == 2 else tensor


def twins(shape: tuple[int, ...], dtype: torch.dtype = torch.float64,
          spread: float = 0.2) -> tuple[nn.Module, nn.Module]:
    """Our model and transformers', with the same random weights, no two of them alike."""
    from transformers import GPT2Config, GPT2LMHeadModel
    words, context, layers, heads, channels = shape
    config = GPT2Config(vocab_size=words, n_positions=context, n_layer=layers, n_head=heads,
                        n_embd=channels, initializer_range=spread, bos_token_id=0,
                        eos_token_id=0)
    peer = GPT2LMHeadModel(config).to(dtype).eval()
    with torch.no_grad():                     # biases and norms start as zeros and ones
        for parameter in peer.parameters():
            if parameter.ndim == 1:
                parameter.add_(spread * torch.randn_like(parameter))
    ours, weights = GPT(*shape).to(dtype).eval(), peer.state_dict()
    ours.load_state_dict({name: turned(name, weights[their_name(name)])
                          for name in ours.state_dict()})
    return ours, peer


@pytest.mark.parametrize(("shape", "length"), CONFIGURATIONS)
def test_logits_loss_and_every_gradient_are_those_of_transformers(
        shape: tuple[int, ...], length: int) -> None:
    ours, peer = twins(shape)
    tokens, truth = torch.randint(shape[0], (2, 3, length)).unbind()
    logits, theirs = ours(tokens), peer(tokens).logits
    assert logits.std() > 0.5                 # what is near zero agrees too easily
    assert torch.allclose(logits, theirs, rtol=0, atol=1e-10)
    losses = [F.cross_entropy(found.flatten(0, 1), truth.flatten())
              for found in (logits, theirs)]
    assert abs(losses[0] - losses[1]) <= 1e-10
    for loss in losses:
        loss.backward()
    gradients = {name: parameter.grad for name, parameter in peer.named_parameters()}
    for name, parameter in ours.named_parameters():
        gradient = turned(name, gradients.pop(their_name(name)))
        assert torch.allclose(parameter.grad, gradient, rtol=0, atol=1e-10), name
    assert not gradients


def test_the_smallest_published_shape_agrees_in_single_precision() -> None:
    sizes = model.SIZES["gpt2"]
    shape = (model.VOCABULARY, *(sizes[name] for name in
                                 ("context", "layers", "heads", "channels")))
    ours, peer = twins(shape, torch.float32, 0.02)
    tokens = torch.randint(shape[0], (1, 24))
    with torch.no_grad():
        assert torch.allclose(ours(tokens), peer(tokens).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", PARAMETERS)
def test_published_sizes_have_the_published_numbers_of_parameters(size: str) -> None:
    config = {"vocabulary": model.VOCABULARY, "dropout": 0.0, "bias": True, **model.SIZES[size]}
    net = model.hollow(config)
    assert all(parameter.is_meta for parameter in net.parameters())
    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS[size]
    assert len(net.state_dict()) == 12 * config["layers"] + 4


def test_a_hollow_model_is_the_model_without_its_numbers() -> None:
    config = {"vocabulary": 9, "context": 8, "layers": 2, "heads": 2, "channels": 4,
              "dropout": 0.3, "bias": False}
    random_state = torch.get_rng_state()
    hollow = model.hollow(config)
    assert torch.get_rng_state().equal(random_state)
    net = model.build(config)
    assert {n: w.shape for n, w in net.state_dict().items()} == {
        n: w.shape for n, w in hollow.state_dict().items()}
    assert net.embed.weight.std() > 0 and not net.embed.weight.is_meta    # nothing lingers
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import model; model.hollow("
            f"{config}); sys.exit('torch._dynamo' in sys.modules)")
    home = str(ROOT / "gpt2_from_scratch")
    assert subprocess.run([sys.executable, "-c", code, home], check=False).returncode == 0


# ---------------------------------------------------------------- the parts


@pytest.mark.parametrize(("new", "total"), [(6, 6), (1, 6), (3, 7), (1, 1)])
def test_attention_in_steps_is_the_fused_kernel(new: int, total: int) -> None:
    q = torch.randn(2, 3, new, 5, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, 3, total, 5, dtype=torch.float64, requires_grad=True)
            for _ in range(2))
    keep = gpt2.cache.visible(new, total)
    gathered, weights = model.attention(q, k, v, keep)
    fused = F.scaled_dot_product_attention(q, k, v, keep)
    assert torch.allclose(gathered, fused, rtol=0, atol=1e-12)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, new, dtype=torch.float64))
    up = torch.randn_like(fused)
    for mine, theirs in zip(torch.autograd.grad(gathered, (q, k, v), up),
                            torch.autograd.grad(fused, (q, k, v), up)):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)


def test_a_model_that_is_watched_says_the_same_and_shows_where_it_looks() -> None:
    net, tokens = GPT(31, 12, 2, 2, 8, dropout=0.4).double(), torch.randint(31, (3, 12))
    seen = []
    watched, _ = net.eval().hidden(tokens, seen=seen)
    assert torch.allclose(net.logits(watched), net(tokens), rtol=0, atol=1e-12)
    for mode in (True, False):               # with dropout, too, the weights are shares
        weights = net.train(mode).attentions(tokens)
        assert weights.shape == (2, 3, 2, 12, 12)
        assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 2, 12).double())
        assert torch.equal(weights.triu(1), torch.zeros_like(weights))
    assert torch.allclose(weights, torch.stack(seen), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_the_norm_is_pytorchs(bias: bool) -> None:
    """On rows that hardly vary, too, where ε and the divisor matter."""
    norm = LayerNorm(6, bias).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    x = torch.randn(5, 4, 6, dtype=torch.float64) * torch.tensor([1e3, 1, 1e-3, 0])[:, None]
    x = (x + 7).requires_grad_()
    found = norm(x)
    expected = F.layer_norm(x, (6,), norm.weight, norm.bias)
    assert torch.allclose(found, expected, rtol=0, atol=1e-11)
    up, inputs = torch.randn_like(x), (x, *norm.parameters())
    for mine, theirs in zip(torch.autograd.grad(found, inputs, up),
                            torch.autograd.grad(expected, inputs, up)):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-9)
    assert len(inputs) == 2 + bias
    (slope,) = torch.autograd.grad(norm(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):     # never a wrong number
        slope.square().sum().backward()


def test_the_gate_is_the_formula_and_not_gausss() -> None:
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    formula = x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    assert torch.allclose(model.gelu(x), formula, rtol=0, atol=1e-14)
    off = (model.gelu(x) - F.gelu(x)).abs().max()
    assert 1e-4 < off < 5e-4                 # as the docstring says


def test_without_biases_there_are_none() -> None:
    net = GPT(20, 8, 2, 2, 8, bias=False)
    assert not [name for name, _ in net.named_parameters() if name.endswith("bias")]
    full = GPT(20, 8, 2, 2, 8)
    weights = full.state_dict()
    full.load_state_dict(weights | net.state_dict())     # biases start as zeros
    tokens = torch.randint(20, (2, 8))
    assert torch.allclose(net(tokens), full(tokens), rtol=0, atol=1e-6)


# ---------------------------------------------------------------- the beginning


def test_weights_start_as_openai_had_them() -> None:
    net = GPT(1000, 256, 6, 4, 64)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert torch.equal(parameter, torch.ones(64)), name
        else:
            residual = name.endswith(("combine.weight", "narrow.weight"))
            std = 0.01 if name == "locate.weight" else 0.02 / math.sqrt(12 if residual else 1)
            assert parameter.std().item() == pytest.approx(std, rel=0.03), name
            assert abs(parameter.mean().item()) < 0.05 * std, name


@pytest.mark.parametrize("words", [65, 5000])
def test_at_first_every_token_is_as_likely_as_any_other(words: int) -> None:
    net, tokens = GPT(words, 32, 4, 4, 64), torch.randint(words, (2, 8, 32))
    loss = F.cross_entropy(net(tokens[0]).flatten(0, 1), tokens[1].flatten())
    assert loss.item() == pytest.approx(math.log(words), abs=0.1)


def test_one_matrix_reads_tokens_and_names_them() -> None:
    net = GPT(17, 8, 1, 2, 8).double()
    tokens = torch.tensor([[3, 5, 3]])
    assert [name for name in net.state_dict() if "embed" in name] == ["embed.weight"]
    for one in (net, copy.deepcopy(net), copy.deepcopy(net).to(torch.float32)):
        before = one(tokens)
        with torch.no_grad():
            one.embed.weight[11] += 1        # which no text here has: only its logit changes
        changed = (one(tokens) != before).any(1)[0]
        assert changed.nonzero().flatten().tolist() == [11]
    reading, naming = (net.embed.weight.detach().clone().requires_grad_() for _ in range(2))
    x = F.embedding(tokens, reading) + net.locate.weight[:3]
    loss = (net.norm(net.blocks[0](x)) @ naming.T).square().sum()
    net(tokens).square().sum().backward()
    both = sum(torch.autograd.grad(loss, (reading, naming)))
    assert torch.allclose(net.embed.weight.grad, both, rtol=1e-12)


# ---------------------------------------------------------------- what may depend on what


def test_no_token_hears_of_the_future() -> None:
    net = GPT(13, 10, 3, 2, 16).double()
    rows = F.one_hot(torch.randint(13, (1, 10)), 13).double().requires_grad_()
    net.embed.forward = lambda tokens: rows @ net.embed.weight    # which has gradients
    logits = net(rows.argmax(-1))[0]
    for t in range(10):
        gradient = torch.autograd.grad(logits[t].sum(), rows, retain_graph=True)[0][0]
        assert torch.equal(gradient[t + 1 :], torch.zeros(9 - t, 13).double())
        assert gradient[: t + 1].abs().amax(1).min() > 0     # and of the whole past


def test_another_future_leaves_the_past_as_it_was_to_the_bit() -> None:
    net, tokens = GPT(13, 10, 2, 2, 16).eval(), torch.randint(13, (4, 10))
    for t in range(1, 10):
        other = tokens.clone()
        other[:, t:] = (other[:, t:] + 1) % 13
        assert torch.equal(net(tokens)[:, :t], net(other)[:, :t])
        assert (net(tokens)[:, t:] != net(other)[:, t:]).any(-1).all()


def test_batch_mates_do_not_matter_and_the_order_of_tokens_does() -> None:
    net, tokens = GPT(13, 10, 2, 2, 16).double().eval(), torch.randint(13, (5, 10))
    for row in range(5):
        alone = net(tokens[row : row + 1])[0]
        assert torch.allclose(net(tokens)[row], alone, rtol=0, atol=1e-12)
    swapped = tokens[:, [1, 0, *range(2, 10)]]
    assert (net(swapped)[:, -1] - net(tokens)[:, -1]).abs().max() > 1e-6


def test_dropout_is_where_gpt2_has_it_and_nowhere_without(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """On the sum of the embeddings, on the attention, and on what each block adds, twice."""
    dropped, kernel, plain = [], F.scaled_dot_product_attention, F.dropout
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a: dropped.append(
        ("attention", a[4])) or kernel(*a))
    monkeypatch.setattr(F, "dropout", lambda x, p, training, inplace: dropped.append(
        ("sum", p * training)) or plain(x, p, training, inplace))
    tokens, net = torch.randint(13, (2, 10)), GPT(13, 10, 2, 2, 16, dropout=0.25)
    assert not torch.equal(net.train()(tokens), net(tokens))
    block = ["attention", "sum", "sum"]
    assert dropped == [(place, 0.25) for place in ["sum", *block, *block]] * 2
    dropped.clear()
    assert torch.equal(net.eval()(tokens), net(tokens))
    assert {share for _, share in dropped} == {0}
    net = GPT(13, 10, 2, 2, 16)
    assert torch.equal(net.train()(tokens), net.eval()(tokens))


def test_a_text_can_be_learned_by_heart() -> None:
    net, tokens = GPT(30, 17, 2, 4, 32), torch.randint(30, (4, 17))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(80):
        loss = F.cross_entropy(net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_half_precision_is_near_and_finite() -> None:
    net, tokens = GPT(30, 16, 2, 4, 32), torch.randint(30, (4, 16))
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(tokens)
    assert logits.dtype == torch.bfloat16 and torch.isfinite(logits).all()
    assert torch.allclose(logits.float(), net(tokens), rtol=0, atol=0.05)


# ---------------------------------------------------------------- refusals, and the table


def test_impossible_shapes_and_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="10 channels cannot be shared among 4 heads"):
        GPT(9, 8, 1, 4, 10)
    net = GPT(9, 8, 1, 1, 4)
    assert net(torch.zeros(1, 8, dtype=torch.long)).shape == (1, 8, 9)
    with pytest.raises(ValueError, match="has 9 tokens but there is room for 8: shorten it"):
        net(torch.zeros(1, 9, dtype=torch.long))


def test_the_table_adds_up(capsys: pytest.CaptureFixture) -> None:
    flags = "--layers 2 --vocabulary 100 --context 128 --heads 4 --channels 128"
    assert model.main(flags.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[-1].replace(",", "") for line in lines[1:]]
    assert sum(map(int, rows[:-1])) == int(rows[-1])
    expected = GPT(100, 128, 2, 4, 128)
    assert int(rows[-1]) == sum(parameter.numel() for parameter in expected.parameters())
    assert lines[3].split() == ["blocks.0.norm1", "20×128", "256"]
    assert lines[-2].split()[-2:] == ["20×100", "0"]
    with pytest.raises(SystemExit, match="2"):
        model.main(["--heads", "3"])
