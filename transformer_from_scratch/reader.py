"""What a trained network makes of a text, and what of the text made it think so."""

# T tokens, K classes

import torch
from torch import Tensor, nn

from tokenizer import Tokenizer, pad, split

TELLING = 3          # words that are named as reasons
LEAST = 0.01         # a word that moves the probability less than this is no reason
AT_ONCE = 64         # texts of a batch
LOOKS = 3            # words that are named of those a word looks at


class Reader:
    """A trained model with its vocabulary and its classes."""

    def __init__(self, model: nn.Module, config: dict) -> None:
        self.model, self.config = model.eval(), config
        self.classes, self.longest = config["classes"], config["longest"]
        self.tokenizer = Tokenizer(config["vocabulary"])
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def probabilities(self, texts: list[list[int]]) -> Tensor:
        """Of each class for texts of token numbers: (B, K), on the CPU."""
        logits = [self.model(pad(texts[i : i + AT_ONCE], self.longest).to(self.device))
                  for i in range(0, len(texts), AT_ONCE)]
        return torch.cat(logits).float().softmax(-1).cpu()

    def answer(self, text: str) -> dict:
        """Class, all probabilities, telling words; how many words are known, and which are not.

        `not_read` counts the words that were too many. A punctuation mark is no known word.

        Raises ValueError for a text without words.
        """
        words, numbers = self.words(text), self.tokenizer.encode(text)
        numbers = numbers[: self.longest]
        belief = self.probabilities([numbers])[0]                      # (K,)
        best, unknown = int(belief.argmax()), self.tokenizer.unknown(" ".join(words))
        return {"answer": self.classes[best],
                "probabilities": dict(zip(self.classes, belief.tolist())),
                "telling": self.telling(words, numbers, best, belief[best].item()),
                "known": sum(word[0].isalnum() and word not in unknown for word in words),
                "unknown": unknown,
                "not_read": len(split(text)) - len(words)}

    def words(self, text: str) -> list[str]:
        """The words that are read. Raises ValueError if there are none."""
        words = split(text)[: self.longest]
        if not words:
            raise ValueError("there are no words in the text: write some")
        return words

    def telling(self, words: list[str], numbers: list[int], best: int,
                belief: float) -> dict[str, float]:
        """The words without which the answer loses most probability, and how much (17).

        Each place in the text is left out in turn; a word that stands there twice counts with
        the place that matters more.
        """
        if len(numbers) < 2:
            return {}
        without = [numbers[:i] + numbers[i + 1 :] for i in range(len(numbers))]
        losses = belief - self.probabilities(without)[:, best]         # (T,)  (17)
        found = {}
        for i in losses.argsort(descending=True).tolist():
            if losses[i] >= LEAST and len(found) < TELLING:
                found.setdefault(words[i], losses[i].item())
        return found

    def attention(self, text: str) -> tuple[list[str], Tensor]:
        """The words, and how much each takes from each: (layers, H, T, T), on the CPU."""
        words = self.words(text)
        tokens = pad([self.tokenizer.encode(text)], self.longest).to(self.device)   # (1, T)
        return words, self.model.attentions(tokens)[:, 0].float().cpu()


def printable(text: str) -> str:
    """A text from the command line whose broken bytes became a sign that can be printed."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def in_words(found: dict) -> str:
    """An answer as a sentence for people."""
    shares = sorted(found["probabilities"].items(), key=lambda item: -item[1])
    said = ", ".join(f"{name} {share:.1%}" for name, share in shares)
    if found["telling"]:
        said += "; without " + ", ".join(f"“{word}” {loss:.2f} less"
                                         for word, loss in found["telling"].items())
    if found["unknown"]:
        said += "; unknown: " + ", ".join(found["unknown"])
    return said


def looked_at(reader: Reader, text: str, layer: int, head: int) -> list[str]:
    """For each word of a text, the words from which a head of a layer takes most.

    Layers and heads are counted from 1. Raises ValueError if there is no such head.
    """
    words, weights = reader.attention(text)
    layers, heads = weights.shape[:2]
    if not (1 <= layer <= layers and 1 <= head <= heads):
        raise ValueError(f"there are layers 1 to {layers} with heads 1 to {heads}")
    lines = []
    for word, row in zip(words, weights[layer - 1, head - 1]):
        best = row.topk(min(LOOKS, len(words)))
        seen = ", ".join(f"{words[i]} {share:.0%}" for share, i in
                         zip(best.values.tolist(), best.indices.tolist()))
        lines.append(f"{word:>15} ← {seen}")
    return lines
