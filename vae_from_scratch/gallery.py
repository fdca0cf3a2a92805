"""The pictures that a question is about: numbers of the test set, files, folders of files."""

# N pictures, C channels, H height and W width

import argparse
from pathlib import Path

import torch
from torch import Tensor

from console import Refusal, say
from data import CREATURES, QUICK, Data, binarised, load, on_disk, read_all, to_input
from evaluation import inputs_of
from reading import files_in

FIRST = 12           # test pictures where none are named


class Gallery:
    """The pictures that are asked about: numbers of the test set, files, folders of files."""

    def __init__(self, config: dict, args: argparse.Namespace) -> None:
        self.config, self.args = config, args

    def data(self, counts: tuple[int, int, int] = CREATURES) -> Data:
        """The data of the checkpoint, or those asked for; `counts` are creatures of each part.

        Raises Refusal if they are not to be had, or have another size than the model reads.
        """
        name = self.args.data or self.config["data"]
        if not self.args.data and not on_disk(name, self.args.data_dir):
            raise Refusal(f"{name} is not on this disk: say where with --data-dir, or name "
                          "another set with --data")
        data = load(name, self.args.data_dir, self.config["image_size"], self.config["seed"],
                    counts=counts)
        seen = data.digest, data.shortened(QUICK).digest       # the latter in smoke runs
        if Path(name).is_dir() and name == self.config["data"] and (
                self.config["data_digest"] not in seen):
            say(f"{name} has changed since training: test pictures may have been trained on")
        if data.train.images.shape[1:] != torch.Size(self.config["shape"]):
            theirs, ours = ("×".join(map(str, shape)) for shape in
                            (data.train.images.shape[1:], self.config["shape"]))
            raise Refusal(f"{name} has pictures of {theirs}, the model reads {ours}: name "
                          "files")
        return data

    def find(self, words: list[str]) -> tuple[Tensor, list[str]]:
        """The pictures (N, C, H, W) that words name, and what to call them.

        A file that is no picture is left out, and said so. Raises Refusal if none is left.
        """
        if all(word.isdecimal() for word in words):
            part = self.data((1, 1, CREATURES[2])).test    # the same in any company
            numbers = [int(word) for word in words] or list(range(min(FIRST, len(part.images))))
            if max(numbers) >= len(part.images):
                name = self.args.data or self.config["data"]
                raise Refusal(f"{name} has the test pictures 0 to {len(part.images) - 1}")
            x = inputs_of(part.some(torch.tensor(numbers)), self.config)
            return x, [str(number) for number in numbers]
        files = [file for word in words for file in
                 (files_in(Path(word)) if Path(word).is_dir() else [Path(word)])]
        read = read_all(files, self.config["image_size"])
        good = [(file, x) for file, x in zip(files, read) if isinstance(x, Tensor)]
        for error in read:
            if isinstance(error, ValueError):
                say(f"left out: {error}")
        if not good:
            raise Refusal("none of these is a picture: name files, folders of files, or "
                          "numbers of test pictures")
        x = to_input(torch.stack([x for _, x in good]))                # (N, 3, H, W)
        grey = self.config["shape"][0] == 1
        x = x.mean(1, keepdim=True) if grey else x                     # (N, C, H, W)
        x = binarised(x, self.config["seed"]) if self.config["binarise"] else x
        return x, [str(file) for file, _ in good]
