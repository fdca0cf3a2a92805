"""What the README says of the weights that come with the folder, and of the collapse."""

import re
from pathlib import Path

import pytest

from support import ROOT, load

vae = load("vae_from_scratch")
WEIGHTS = str(ROOT / "vae_from_scratch" / "pretrained.pt")
pytestmark = pytest.mark.slow


def numbers(line: str) -> list[float]:
    return [float(word) for word in re.findall(r"-?\d+\.?\d*", line.replace(",", ""))]


def test_the_weights_of_the_folder_are_as_good_as_it_says(
        capsys: pytest.CaptureFixture) -> None:
    assert vae.evaluate.main(["--checkpoint", WEIGHTS]) == 0
    said = {line[:22].strip(): numbers(line[22:])
            for line in capsys.readouterr().out.splitlines()}
    sharp, linear = said["PSNR"][0], said["PSNR"][2]
    assert sharp >= linear + 3
    assert said["linear probe"][0] >= 95 and said["hue, circular R\u00b2"][0] >= 0.9
    right, collateral = said["attribute arithmetic"]
    assert right >= 80 and collateral <= 15
    assert said["memorisation"][:2] == [0, 2000]


def test_collapse_is_total_and_every_cure_helps(tmp_path: Path,
                                                capsys: pytest.CaptureFixture) -> None:
    assert vae.collapse.main(["--out", str(tmp_path)]) == 0
    rows = [numbers(line[12:]) for line in capsys.readouterr().out.splitlines()[1:5]]
    dead, *cured = rows                      # each: -ELBO, reconstruction, KL, active units
    assert dead[3] == 0
    for cost, _, _, active in cured:
        assert active >= 8 and abs(cost - dead[0]) <= 1
