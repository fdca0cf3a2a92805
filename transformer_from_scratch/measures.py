"""How good answers are, how sure one may be of that, and what linear models answer."""

# N texts, K classes

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import make_pipeline
from torch import Tensor

from data import Data
from tokenizer import split

Z = 1.959964       # standard deviations that hold 95 % of a normal distribution


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `right` of `count` were seen (E. Wilson, 1927)."""
    share = right / count
    middle = share + Z**2 / (2 * count)
    margin = Z * (share * (1 - share) / count + Z**2 / (4 * count**2)) ** 0.5
    scale = 1 + Z**2 / count
    low, high = (middle - margin) / scale, (middle + margin) / scale         # (16)
    return max(low, 0.0), min(high, 1.0)         # rounding may leave the range


def accuracy(answers: Tensor, labels: Tensor) -> str:                  # (N,), (N,)
    """The share of right answers, in words, with its 95 % interval."""
    right = int((answers == labels).sum())
    low, high = wilson(right, len(labels))
    return f"{right / len(labels):.2%} (95 % interval {low:.1%} to {high:.1%})"


def confusion(truth: Tensor, answers: Tensor, classes: int) -> Tensor:   # (N,), (N,)
    """How often class i was answered as class j: counts (K, K)."""
    return torch.bincount(truth * classes + answers, minlength=classes**2).reshape(
        classes, classes)                                              # (K, K)


def linear_answers(data: Data, longest: int = 3) -> dict[str, Tensor]:
    """What two linear models answer to the test texts, each (N,).

    They see how often a word, or up to `longest` words in a row, occur (TF-IDF), and nothing
    of where. They learn from the validation texts too, as they have nothing to stop by.
    """
    texts, labels = data.train.texts + data.validation.texts, torch.cat(
        [data.train.labels, data.validation.labels])
    answers = {}
    for name, model in {"logistic regression": LogisticRegression(C=10, max_iter=1000),
                        "naive Bayes": ComplementNB()}.items():
        counts = TfidfVectorizer(tokenizer=split, token_pattern=None, lowercase=False,
                                 ngram_range=(1, longest), sublinear_tf=True)
        fitted = make_pipeline(counts, model).fit(texts, labels.numpy())
        answers[name] = torch.from_numpy(np.asarray(fitted.predict(data.test.texts)))
    return answers
