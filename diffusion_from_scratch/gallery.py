"""The pictures that a question is about: numbers of the test set, or files."""

# N pictures, C channels, H height and W width

import argparse
import functools
from pathlib import Path

import torch
from torch import Tensor

from console import Refusal
from data import Part, load, on_disk, to_input
from painter import Painter
from reading import read


class Gallery:
    """Finds pictures and makes them what the model reads."""

    def __init__(self, painter: Painter, args: argparse.Namespace) -> None:
        self.painter, self.config, self.args = painter, painter.config, args

    def find(self, words: list[str]) -> tuple[Tensor, Tensor | None]:
        """Pictures in the model's range (N, C, H, W), and labels (N,) if the model knows any.

        The label of a file is not known. Raises Refusal for what is no picture.
        """
        found = [self.numbered(int(word)) if word.isdecimal() else self.read_file(Path(word))
                 for word in words]
        x = to_input(torch.stack([image for image, _ in found]), self.config["centred"])
        labels = torch.tensor([label for _, label in found])           # (N,)
        return x, labels if self.painter.classes else None             # (N, C, H, W), (N,)

    def numbered(self, number: int) -> tuple[Tensor, int]:
        """A test picture (C, H, W) and its label. Raises Refusal if there is none."""
        if number >= len(self.test.images):
            name = self.args.data or self.config["data"]
            raise Refusal(f"{name} has the test pictures 0 to {len(self.test.images) - 1}")
        return self.test.images[number], int(self.test.labels[number])

    @functools.cached_property
    def test(self) -> Part:
        """The test pictures, of the model's size. Raises Refusal if there are none."""
        name = self.args.data or self.config["data"]
        if not self.args.data and not on_disk(name, self.args.data_dir):
            raise Refusal(f"{name} is not on this disk: say where with --data-dir, or name "
                          "another set with --data, or files")
        data = load(name, self.args.data_dir, self.config["image_size"], self.config["seed"])
        self.painter.check_size(data)
        return data.test

    def read_file(self, path: Path) -> tuple[Tensor, int]:
        """A file as bytes of the model's size (C, H, W), and the label that tells nothing."""
        channels, height, width = self.config["shape"]
        try:
            image = read(path, (height, width))                        # (3, H, W)
        except ValueError as error:
            raise Refusal(str(error)) from None
        grey = image.float().mean(0, keepdim=True).round().byte()      # (1, H, W)
        return (grey if channels == 1 else image), len(self.painter.classes)
