"""The encoder against PyTorch's own, with padding and without; positions, dropout, counts."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support import load

transformer = load("transformer_from_scratch")
model = transformer.model
B, T, C, H, F_HIDDEN, K, V = 3, 7, 16, 4, 24, 5, 40
KEEP = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [0, 0, 1, 1, 1, 0, 1]]).bool()


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Numbers from N(0, 1) in double precision, always the same."""
    return torch.randn(*shape, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def shake(module: nn.Module, seed: int = 1) -> nn.Module:
    """The module in double precision with all parameters moved, norms and biases too."""
    module = module.double()
    for number, parameter in enumerate(module.parameters()):
        parameter.data += 0.3 * draw(*parameter.shape, seed=seed + number)
    return module


def same_weights(ours: nn.Module, theirs: nn.TransformerEncoderLayer) -> None:
    """Copy a block of ours into a layer of PyTorch's."""
    pairs = {"self_attn.in_proj_weight": ours.attend.project.weight,
             "self_attn.in_proj_bias": ours.attend.project.bias,
             "self_attn.out_proj.weight": ours.attend.combine.weight,
             "self_attn.out_proj.bias": ours.attend.combine.bias,
             "linear1.weight": ours.think.widen.weight, "linear1.bias": ours.think.widen.bias,
             "linear2.weight": ours.think.narrow.weight, "linear2.bias": ours.think.narrow.bias,
             "norm1.weight": ours.norm1.weight, "norm1.bias": ours.norm1.bias,
             "norm2.weight": ours.norm2.weight, "norm2.bias": ours.norm2.bias}
    theirs.load_state_dict({name: value.detach().clone() for name, value in pairs.items()})


def peer(norm: str, activation: str) -> nn.TransformerEncoderLayer:
    """PyTorch's layer of the same kind, without dropout."""
    return nn.TransformerEncoderLayer(C, H, F_HIDDEN, 0.0, activation, batch_first=True,
                                      norm_first=norm == "pre", dtype=torch.float64)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """The gradients of a block of either kind, by PyTorch's names."""
    found = {name: p.grad for name, p in module.named_parameters()}
    ours = {"attend.project.weight": "self_attn.in_proj_weight",
            "attend.project.bias": "self_attn.in_proj_bias",
            "attend.combine.weight": "self_attn.out_proj.weight",
            "attend.combine.bias": "self_attn.out_proj.bias",
            "think.widen.weight": "linear1.weight", "think.widen.bias": "linear1.bias",
            "think.narrow.weight": "linear2.weight", "think.narrow.bias": "linear2.bias"}
    return {ours.get(name, name): grad for name, grad in found.items()}


def classifier(positions: bool = True) -> nn.Module:
    """A small classifier without dropout, in double precision."""
    torch.manual_seed(0)
    return shake(model.TransformerClassifier(V, K, C, H, 2, F_HIDDEN, 0.0,
                                             positions=positions)).eval()


# ---------------------------------------------------------------- parity


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_block_is_pytorchs(norm: str, activation: str, written_out: bool) -> None:
    """Outputs at real tokens and all gradients, with padding in the middle and at both ends."""
    ours = shake(model.EncoderBlock(C, H, F_HIDDEN, 0.0, norm, activation))
    theirs = peer(norm, activation)
    same_weights(ours, theirs)
    target, found = draw(B, T, C, seed=9) * KEEP[..., None], []
    for block in (ours, theirs):
        x = draw(B, T, C).requires_grad_()
        y = (block(x, KEEP[:, None, None], [] if written_out else None) if block is ours
             else block(x, src_key_padding_mask=~KEEP))
        (y * target).sum().backward()
        found.append((y[KEEP].detach(), x.grad, gradients(block)))
    (y, dx, grads), (y2, dx2, grads2) = found
    assert y.std() > 0.3 and torch.allclose(y, y2, rtol=0, atol=1e-10)
    assert torch.allclose(dx, dx2, rtol=0, atol=1e-10)
    assert grads.keys() == grads2.keys()
    for name, grad in grads.items():
        assert torch.allclose(grad, grads2[name], rtol=0, atol=1e-10), name


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_whole_encoder_is_pytorchs(norm: str) -> None:
    """Three blocks, and behind pre-norm ones a last normalisation."""
    torch.manual_seed(0)
    ours = shake(model.TransformerClassifier(V, K, C, H, 3, F_HIDDEN, 0.0, norm=norm))
    layer = peer(norm, "relu")
    last = nn.LayerNorm(C, dtype=torch.float64) if norm == "pre" else None
    theirs = nn.TransformerEncoder(layer, 3, last, enable_nested_tensor=False)
    for block, layer in zip(ours.blocks, theirs.layers):
        same_weights(block, layer)
    if last:
        last.load_state_dict(ours.norm.state_dict())
    tokens = torch.arange(1, B * T + 1).reshape(B, T) * KEEP
    x = (ours.embed(tokens) * math.sqrt(C) + model.waves(T, C)).detach().requires_grad_()
    y = theirs(x, src_key_padding_mask=~KEEP)
    z = ours.encode(tokens)
    assert torch.allclose(z[KEEP], y[KEEP], rtol=0, atol=1e-10)
    mean = torch.stack([row[keep].mean(0) for row, keep in zip(y, KEEP)])
    logits = mean @ ours.classify.weight.T + ours.classify.bias
    assert torch.allclose(ours(tokens), logits, rtol=0, atol=1e-10)
    logits[:, 2].sum().backward()
    ours(tokens)[:, 2].sum().backward()
    others = gradients(theirs.layers[0])
    for name, grad in gradients(ours.blocks[0]).items():
        assert torch.allclose(grad, others[name], rtol=0, atol=1e-10), name
    for row, grad in zip(tokens[KEEP], x.grad[KEEP]):
        mine = ours.embed.weight.grad[row] / math.sqrt(C)
        assert torch.allclose(mine, grad, rtol=0, atol=1e-10)


def test_attention_weights_are_pytorchs_head_by_head() -> None:
    ours = shake(model.MultiHeadAttention(C, H))
    theirs = nn.MultiheadAttention(C, H, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict({"in_proj_weight": ours.project.weight,
                            "in_proj_bias": ours.project.bias,
                            "out_proj.weight": ours.combine.weight,
                            "out_proj.bias": ours.combine.bias})
    x = draw(B, T, C)
    y = ours(x, KEEP[:, None, None], weights := [])
    y2, weights2 = theirs(x, x, x, key_padding_mask=~KEEP, average_attn_weights=False)
    assert torch.allclose(*weights, weights2, rtol=0, atol=1e-10)
    assert torch.allclose(y, y2, rtol=0, atol=1e-10)


def test_attention_is_a_loop_over_queries() -> None:
    """Without matrices: a softmax over a query's products with the keys, over the root of D."""
    q, k, v = (draw(1, 1, 4, 3, seed=s) for s in range(3))
    found, weights = model.attention(q, k, v)
    for i in range(4):
        scores = torch.stack([(q[0, 0, i] * k[0, 0, j]).sum() / math.sqrt(3) for j in range(4)])
        shares = scores.exp() / scores.exp().sum()
        assert torch.allclose(weights[0, 0, i], shares, rtol=0, atol=1e-12)
        gathered = sum(shares[j] * v[0, 0, j] for j in range(4))
        assert torch.allclose(found[0, 0, i], gathered, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_layer_norm_is_pytorchs(scale: float) -> None:
    """Also where a token is nearly constant, which is where the place of ε shows."""
    ours = shake(model.LayerNorm(C))
    x = (draw(B, T, C) * scale + 3).requires_grad_()
    x2 = x.detach().clone().requires_grad_()
    y, y2 = ours(x), F.layer_norm(x2, (C,), ours.weight, ours.bias, 1e-5)
    assert torch.allclose(y, y2, rtol=0, atol=1e-10)
    (y**2).sum().backward()
    (y2**2).sum().backward()
    assert torch.allclose(x.grad, x2.grad, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- padding


@pytest.fixture
def net() -> nn.Module:
    """A small classifier that leaves nothing out."""
    return classifier()


@pytest.mark.parametrize("more", [1, 9])
def test_padding_on_the_right_changes_nothing(net: nn.Module, more: int) -> None:
    tokens = torch.tensor([[5, 9, 3, 9]])
    padded = F.pad(tokens, (0, more))
    assert torch.allclose(net(tokens), net(padded), rtol=0, atol=1e-12)


def test_padding_on_the_left_changes_nothing_but_the_positions() -> None:
    net = classifier(positions=False)
    tokens = torch.tensor([[5, 9, 3, 9]])
    assert torch.allclose(net(tokens), net(F.pad(tokens, (3, 0))), rtol=0, atol=1e-12)


def test_batch_mates_change_nothing(net: nn.Module) -> None:
    texts = [[5, 9, 3], [7, 8, 2, 30, 4, 4, 1], [6]]
    alone = torch.cat([net(torch.tensor([text])) for text in texts])
    together = net(transformer.tokenizer.pad(texts, 100))
    assert torch.allclose(alone, together, rtol=0, atol=1e-12)


def test_nothing_looks_at_padding(net: nn.Module) -> None:
    """Exactly zero; and each word's shares add to 1, while training with dropout too."""
    tokens = torch.tensor([[5, 9, 0, 3, 0], [0, 0, 8, 0, 0]])
    for p in (0.0, 0.5):
        for block in net.blocks:
            block.attend.dropout = p
        weights = net.train(p > 0).attentions(tokens)
        assert weights.shape == (2, 2, H, 5, 5)
        for text in range(2):
            keep = tokens[text] != 0
            assert (weights[:, text, :, :, ~keep] == 0).all()
            sums = weights[:, text].sum(-1)
            assert torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("written_out", [False, True])
def test_a_text_of_nothing_but_padding_stays_finite(kind: torch.dtype,
                                                    written_out: bool) -> None:
    torch.manual_seed(0)
    net = model.TransformerClassifier(V, K, C, H, 2, F_HIDDEN, 0.0).to(kind)
    tokens = torch.tensor([[0, 0, 0], [4, 0, 5]])
    if written_out:
        encode = net.encode
        net.encode = lambda tokens: encode(tokens, [])
    logits = net(tokens)
    logits.float().pow(2).sum().backward()
    assert logits.isfinite().all() and torch.equal(logits[0], net.classify.bias)
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    encode = model.TransformerClassifier.encode
    encode(net, tokens, seen := [])
    assert len(seen) == 2 and all((weights[0] == 0).all() for weights in seen)


def test_both_attentions_agree_where_a_query_may_see_nothing() -> None:
    q, k, v = (draw(2, 1, 3, 4, seed=s) for s in range(3))
    keep = torch.tensor([[[[True, False, True]]], [[[False] * 3]]])
    fused = F.scaled_dot_product_attention(q, k, v, keep)
    assert torch.allclose(model.attention(q, k, v, keep)[0], fused, rtol=0, atol=1e-12)


def test_padding_learns_nothing(net: nn.Module) -> None:
    net(torch.tensor([[5, 0, 3]])).sum().backward()
    assert (net.embed.weight.grad[0] == 0).all() and (net.embed.weight.grad[5] != 0).any()


# ---------------------------------------------------------------- positions


def test_a_shift_rotates_the_encoding() -> None:
    """PE(p + k) = R(k) PE(p), where R turns each pair of channels by its own angle."""
    table, channels = model.waves(60, C).double(), torch.arange(0, C, 2)
    angle = 5 / 10_000 ** (channels.double() / C)
    for position in (0, 7, 54):
        sine, cosine = table[position, ::2], table[position, 1::2]
        there = torch.stack([sine * angle.cos() + cosine * angle.sin(),
                             cosine * angle.cos() - sine * angle.sin()], 1).flatten()
        assert torch.allclose(there, table[position + 5], rtol=0, atol=1e-6)


def test_the_encoding_is_the_papers() -> None:
    """PE(pos, 2i) = sin(pos / 10000^(2i / C)), and the cosine beside it."""
    table = model.waves(50, 6)
    for position, pair in ((0, 0), (3, 1), (49, 2)):
        angle = position / 10_000 ** (2 * pair / 6)
        assert table[position, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[position, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_odd_widths_end_with_a_sine() -> None:
    slowest = (torch.arange(9) / 10_000 ** (6 / 7)).sin()
    assert torch.allclose(model.waves(9, 7)[:, 6], slowest, rtol=0, atol=1e-6)
    assert model.waves(9, 1).shape == (9, 1)


def test_the_order_of_words_counts_only_with_positions() -> None:
    tokens, order = torch.tensor([[5, 9, 3, 8, 2]]), torch.tensor([3, 0, 4, 2, 1])
    for positions in (True, False):
        net = classifier(positions)
        change = (net(tokens) - net(tokens[:, order])).abs().max()
        assert change > 1e-2 if positions else change < 1e-12


def test_the_table_moves_with_the_model_and_ends() -> None:
    locate = model.PositionalEncoding(C, 6)
    assert not locate.state_dict()
    assert locate.to(torch.bfloat16).table.dtype == torch.bfloat16
    locate(torch.zeros(1, 6, C, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="7 tokens but the model reads at most 6: shorten it"):
        locate(torch.zeros(1, 7, C))


# ---------------------------------------------------------------- the rest


def test_dropout_stands_where_the_paper_says_and_obeys() -> None:
    """Without it training and use are the same; with it each of its places changes numbers."""
    tokens = torch.tensor([[5, 9, 3, 8, 2]])
    still = model.TransformerClassifier(V, K, C, H, 2, F_HIDDEN, 0.0)
    assert torch.equal(still.train()(tokens), still.eval()(tokens))
    shaky = model.TransformerClassifier(V, K, C, H, 1, F_HIDDEN, 0.5).train()
    places = [shaky.drop, shaky.blocks[0].drop, shaky.blocks[0].attend]
    for place in places:
        one = copy.deepcopy(shaky)
        for other in (one.drop, one.blocks[0].drop):
            other.p = 0.0
        one.blocks[0].attend.dropout = 0.0
        assert torch.equal(one(tokens), one(tokens))
        if place is shaky.drop:
            one.drop.p = 0.5
        elif place is shaky.blocks[0].drop:
            one.blocks[0].drop.p = 0.5
        else:
            one.blocks[0].attend.dropout = 0.5
        assert not torch.equal(one(tokens), one(tokens))


@pytest.mark.parametrize("std", [1.0, 0.1])
def test_words_start_as_large_as_asked_for(std: float) -> None:
    torch.manual_seed(0)
    net = model.TransformerClassifier(2000, K, 64, embedding_std=std)
    words = net.embed.weight[1:] * net.scale
    assert words.std().item() == pytest.approx(std, rel=0.01)
    assert words.mean().abs() < 0.02 and (net.embed.weight[0] == 0).all()
    assert net.scale == 8


def test_the_first_loss_is_that_of_guessing() -> None:
    torch.manual_seed(0)
    net = model.TransformerClassifier(V, K).eval()
    tokens = torch.randint(1, V, (200, 12), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % K
    assert F.cross_entropy(net(tokens), labels).item() == pytest.approx(math.log(K), abs=0.35)


@pytest.mark.parametrize("channels,hidden", [(16, 24), (512, 2048)])
def test_parameters_are_those_of_the_formula(channels: int, hidden: int) -> None:
    """A block has 4 C² + 2 C F weights, and 9 C + F biases and scales."""
    with torch.device("meta"):
        net = model.EncoderBlock(channels, 8, hidden)
    block = 4 * channels**2 + 2 * channels * hidden + 9 * channels + hidden
    assert sum(p.numel() for p in net.parameters()) == block


def test_heads_must_share_the_channels_evenly() -> None:
    with pytest.raises(ValueError, match="16 channels cannot be shared among 3 heads"):
        model.MultiHeadAttention(16, 3)


def test_the_table_counts_everything(capsys: pytest.CaptureFixture) -> None:
    assert model.main([]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    parts = {line[0]: int(line[-1].replace(",", "")) for line in lines[1:]}
    total = parts.pop("total")
    assert sum(parts.values()) == total
    assert parts["embed"] == 411 * 64 and parts["blocks.0.attend"] == 4 * 64**2 + 4 * 64
    assert parts["blocks.1.think"] == 2 * 64 * 256 + 256 + 64
    with pytest.raises(SystemExit):
        model.main(["--heads", "3"])
