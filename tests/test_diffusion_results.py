"""What the README says of the weights that come with the folder."""

import re

import pytest

from support import ROOT, load

diffusion = load("diffusion_from_scratch")
WEIGHTS = str(ROOT / "diffusion_from_scratch" / "pretrained.pt")
pytestmark = pytest.mark.slow


def measured(capsys: pytest.CaptureFixture, guidance: str) -> tuple[list[float], list[float]]:
    """The rows of drawn digits and of real ones, distance to "as asked"; no copies."""
    flags = ["--checkpoint", WEIGHTS, "--count", "450", "--guidance", guidance]
    assert diffusion.evaluate.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "; 0 copies among 450" in lines[4]
    return tuple([float(word) for word in re.findall(r"\d+\.\d+", line)] for line in lines[2:4])


def test_drawn_digits_are_near_real_ones_in_all_their_variety(
        capsys: pytest.CaptureFixture) -> None:
    (distance, _, recall, right), (floor, *_) = measured(capsys, "0")
    assert distance < 0.03 and floor < 0.011
    assert recall >= 0.8 and right >= 90


def test_guidance_draws_what_was_asked(capsys: pytest.CaptureFixture) -> None:
    (distance, precision, _, right), (_, usual, *_) = measured(capsys, "1")
    assert right >= 97 and precision >= usual and distance < 0.04
