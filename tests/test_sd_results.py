"""What the README says of the weights that come with the folder of Stable Diffusion."""

import re

import pytest

from support import ROOT, load

sd = load("stable_diffusion_from_scratch")
WEIGHTS = str(ROOT / "stable_diffusion_from_scratch" / "pretrained.pt")
pytestmark = pytest.mark.slow


def test_the_weights_draw_what_they_are_asked_for(capsys: pytest.CaptureFixture) -> None:
    assert sd.evaluate.main(["--checkpoint", WEIGHTS, "--count", "64"]) == 0
    said = capsys.readouterr().out.splitlines()
    table = {line[:30].strip(): [float(part) for part in re.findall(r"([\d.]+)%", line)[:5]]
             for line in said[1:8]}
    colour, shape, both, *_ = table["as asked"]
    assert colour >= 99 and shape >= 98 and both >= 97
    assert min(table["real pictures"]) >= 99
    assert min(table["real, through the autoencoder"]) >= 98
    assert table["real, captions shuffled"][2] < 6 and table["without a prompt"][2] < 10
    assert table["held-out pairs"][2] >= 97 and table["two things, related"][4] >= 95
    pixels, pointed, filled = (re.findall(r"[\d.]+", line) for line in said[8:11])
    assert float(pixels[1]) >= 34 and 0.95 <= float(pixels[2]) <= 1.05
    assert float(pointed[0]) >= 85 and float(pointed[1]) < 30 and float(filled[0]) >= 95
    assert float(filled[2]) == 0      # what stays is what the autoencoder makes of it
