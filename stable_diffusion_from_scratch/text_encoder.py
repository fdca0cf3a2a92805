"""The text encoder of CLIP: what the tokens of a prompt have become after reading it.

A. Radford and others, "Learning Transferable Visual Models From Natural Language Supervision",
2021. A causal transformer. Stable Diffusion 1.x uses every token of its last layer, the padding
too: a model that was trained with it reads something in it.

Names of layers are those of the published files.
"""

# B prompts, S tokens of a prompt, E channels of a token, L layers

import torch
from torch import Tensor, nn

from attention import Attention


def quick_gelu(x: Tensor) -> Tensor:
    """x·sigmoid(1.702 x), the gate that CLIP was trained with; GELU differs by up to 0.02."""
    return x * torch.sigmoid(1.702 * x)                                # (10)


class SelfAttention(Attention):
    """N heads, none of which sees a token that comes later; padding hides from no one."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared among {heads} heads: "
                             f"choose a multiple of {heads}")
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (
            nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:                            # (B, S, E)
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return self.out_proj(self.gather(q, k, v, self.heads, causal=True))    # (B, S, E)


class FeedForward(nn.Module):
    """Two layers that every token passes alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:                            # (B, S, E)
        return self.fc2(quick_gelu(self.fc1(x)))                       # (B, S, E)


class Layer(nn.Module):
    """Attention, then the feed-forward layers, each behind a norm and beside a way around."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(channels, heads)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.mlp = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:                            # (B, S, E)
        x = x + self.self_attn(self.layer_norm1(x))                    # (B, S, E)
        return x + self.mlp(self.layer_norm2(x))                       # (B, S, E)


class TextEncoder(nn.Module):
    """Tokens (B, S) to what they mean in their place (B, S, E), behind the last norm."""

    def __init__(self, vocabulary: int = 49_408, positions: int = 77, layers: int = 12,
                 heads: int = 12, channels: int = 768) -> None:
        super().__init__()
        self.positions = positions
        self.embeddings = nn.ModuleDict({
            "token_embedding": nn.Embedding(vocabulary, channels),
            "position_embedding": nn.Embedding(positions, channels)})
        self.encoder = nn.ModuleDict({
            "layers": nn.ModuleList(Layer(channels, heads) for _ in range(layers))})
        self.final_layer_norm = nn.LayerNorm(channels)
        nn.init.normal_(self.embeddings["token_embedding"].weight, std=0.02)
        nn.init.normal_(self.embeddings["position_embedding"].weight, std=0.01)

    def forward(self, tokens: Tensor) -> Tensor:                       # (B, S)
        if tokens.size(1) > self.positions:
            raise ValueError(f"the prompt has {tokens.size(1)} tokens but there is room for "
                             f"{self.positions}: shorten it")
        places = self.embeddings["position_embedding"].weight[: tokens.size(1)]    # (S, E)
        x = self.embeddings["token_embedding"](tokens) + places        # (B, S, E)
        for layer in self.encoder["layers"]:
            x = layer(x)                                               # (B, S, E)
        return self.final_layer_norm(x)                                # (B, S, E)
