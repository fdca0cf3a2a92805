"""Measures of quality against closed forms, the judge, the table, and what is worth what."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support import load

diffusion = load("diffusion_from_scratch")
measures, judging, evaluating = diffusion.measures, diffusion.judge, diffusion.evaluate
checkpoint, Refusal = diffusion.checkpoint, diffusion.console.Refusal


def cloud(count: int, size: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)).double()


# ---------------------------------------------------------------- measures


def test_the_distance_of_two_gaussians_is_the_closed_form() -> None:
    a = cloud(500)
    assert abs(measures.frechet(a, a)) < 1e-9
    assert measures.frechet(a + 2, a) == pytest.approx(4 * 6 / a.T.cov().trace().item())
    b = a * torch.tensor([1.0, 2, 3, 1, 1, 1])
    expected = (b.std(0) - a.std(0)).square().sum() / a.T.cov().trace()
    centred = a - a.mean(0)
    white = torch.linalg.qr(centred)[0] * 499**0.5           # of exactly no correlation
    stretch = torch.tensor([1.0, 2, 3, 1, 1, 1]).double()
    assert measures.frechet(white * stretch, white) == pytest.approx((1 + 4) / 6, abs=1e-9)
    assert measures.frechet(b, a) == pytest.approx(expected.item(), abs=0.4)


def test_the_distance_is_that_of_the_matrix_square_root_and_bears_flat_clouds() -> None:
    a, b = cloud(300), cloud(200, seed=1) @ cloud(6, seed=2) + 0.5
    (m, s), (n, r) = measures.moments(a), measures.moments(b)
    assert torch.allclose(s, torch.from_numpy(np.cov(a.numpy().T)))
    values = np.linalg.eigvals((s @ r).numpy())
    expected = (m - n).square().sum() + s.trace() + r.trace() - 2 * np.sqrt(values.real).sum()
    assert measures.frechet(a, b) == pytest.approx((expected / r.trace()).item(), rel=1e-9)
    ratio = r.trace() / s.trace()
    assert measures.frechet(b, a) == pytest.approx(measures.frechet(a, b) * ratio.item())
    flat = a.clone()
    flat[:, 3:] = 0
    assert measures.frechet(flat, flat) == pytest.approx(0, abs=1e-9)
    assert 0 < measures.frechet(flat, a) < 1


def test_precision_and_recall_tell_what_is_wrong() -> None:
    real = cloud(800, 2)
    same = measures.compare(cloud(800, 2, 1), real)
    assert same.precision > 0.9 and same.recall > 0.9
    narrow = measures.compare(0.1 * cloud(800, 2, 1), real)
    assert narrow.precision > 0.99 and narrow.recall < 0.3
    wide = measures.compare(5 * cloud(800, 2, 1), real)
    assert wide.precision < 0.3 and wide.recall > narrow.recall
    few = real[:20].repeat(40, 1) + 1e-3 * cloud(800, 2, 2)            # learned by heart
    assert measures.compare(few, real).recall < 0.1
    far = torch.cat([real, real + 100])        # it is taken from all of this, not its start
    assert measures.compare(real, far, most=len(real)).recall == pytest.approx(0.5, abs=0.05)
    kinds = 20 * torch.arange(10).repeat(400)[:, None] + cloud(4000, 2, 3)   # 0 to 9, in turn
    real = kinds[torch.randperm(4000)]
    assert measures.compare(kinds, real, most=800).recall > 0.9


def test_neighbourhoods_reach_to_the_third_neighbour() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [6.0], [10.0]]).double()
    assert measures.radii(line).tolist() == [6, 5, 3, 5, 9]
    points = torch.tensor([[6.1], [-6.0], [-6.5], [19.5]]).double()
    assert measures.covered(points, line) == 0.5


def test_the_nearest_picture_is_found_with_its_distance() -> None:
    x = torch.rand(30, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    places, distances = measures.nearest(x[[7, 3]] + 2 / 255, x)
    assert places.tolist() == [7, 3]
    assert (255 * distances).tolist() == pytest.approx([2, 2], rel=1e-3)


# ---------------------------------------------------------------- the judge


def test_the_judge_that_comes_with_the_folder_knows_digits() -> None:
    judge, test = judging.open_judge(), diffusion.data.digits().test
    features, answers = judge.judge(evaluating.as_floats(test))
    assert features.shape == (450, 64) and features.dtype == torch.float64
    assert (answers == test.labels).double().mean() >= 0.99
    assert checkpoint.digest(dict(judge.state_dict())) == judging.HASH


def test_the_judge_knows_mnist_and_the_measures_rank_spoiled_digits(shared: Callable) -> None:
    """Anchors: a blur, too little ink, digits left out, some learned by heart."""
    data, judge = diffusion.data.mnist(shared("MNIST")), judging.open_judge()
    test = data.test.some(slice(4000))
    real, answers = judge.judge(evaluating.as_floats(test))
    assert (answers == test.labels).double().mean() >= 0.985
    others = judging.others(data)
    assert len(others.labels) == 5_000 + 15_000
    some = evaluating.spread_out(others, 1000)
    assert torch.equal(some.labels, others.labels[::20])
    x = evaluating.as_floats(some)

    def of(pictures: Tensor) -> measures.Quality:
        return measures.compare(judge.judge(pictures)[0], real)

    floor, blurred = of(x), of(F.avg_pool2d(F.pad(x, (1,) * 4), 3, 1))
    noisy = of((x + 0.4 * torch.randn_like(x)).clamp(0, 1))
    half = of(x[some.labels < 5])
    assert floor.distance < 0.02 < blurred.distance and noisy.distance > 0.05
    assert half.distance > 0.05 and of(1 - x).distance > 0.5
    assert floor.recall > 0.75 and floor.precision > 0.75
    by_heart = of(x[:50].repeat(20, 1, 1, 1))
    assert by_heart.recall < 0.3 and by_heart.distance < 0.3


def test_another_judge_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = judging.Judge()
    contents = {"folder": judging.NAME, "model": other.state_dict()}
    checkpoint.save(tmp_path / "judge.pt", contents)
    with pytest.raises(Refusal, match="is another judge than the one that belongs to this"):
        judging.open_judge(tmp_path / "judge.pt")


def test_a_judge_learns_and_always_the_same() -> None:
    part = diffusion.data.digits().train.some(slice(640))
    one, two = (judging.train_judge(part, 2) for _ in range(2))
    digests = {checkpoint.digest(dict(each.state_dict())) for each in (one, two)}
    assert len(digests) == 1
    test = diffusion.data.digits().test
    right = one.judge(evaluating.as_floats(test))[1] == test.labels
    assert right.double().mean() > 0.5
    generator = torch.Generator().manual_seed(0)
    assert judging.spoiled(part.images[:3], generator).shape == (3, 1, 28, 28)


# ---------------------------------------------------------------- the table


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained")
    assert diffusion.train.main(["--quick", "--steps", "6", "--out-dir", str(out)]) == 0
    return out / "best.pt"


def test_the_table_is_what_the_measures_say(best: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ["--checkpoint", str(best), "--count", "100", "--steps", "3", "--seed", "2"]
    assert evaluating.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    painter = diffusion.painter.Painter.open(best, torch.device("cpu"))
    drawn = painter.samples(100, diffusion.diffusion.Sampling(steps=3), 2)
    judge, data = judging.open_judge(), diffusion.data.digits()
    real, _ = judge.judge(evaluating.as_floats(data.test))
    features, answers = judge.judge(drawn)
    found = measures.compare(features, real)
    right = (answers == painter.labels(100)).double().mean().item()
    assert lines[2].split() == ["drawn", "100", f"{found.distance:.4f}",
                                f"{found.precision:.3f}", f"{found.recall:.3f}", f"{right:.1%}"]
    floor = lines[3].split()
    theirs, _ = judge.judge(evaluating.as_floats(evaluating.spread_out(data.train, 100)))
    assert floor[:5] == ["real,", "the", "floor", "100",
                         f"{measures.frechet(theirs, real):.4f}"] and float(floor[4]) < 0.1
    assert float(floor[7].rstrip("%")) >= 98
    apart = 255 * measures.nearest(drawn, evaluating.as_floats(data.train))[1]
    assert f"{apart.median():.1f} grey levels away in the median" in lines[4]
    assert "0 copies among 100" in lines[4]


def test_copies_are_counted(capsys: pytest.CaptureFixture) -> None:
    data = diffusion.data.digits()
    evaluating.say_memory(evaluating.as_floats(data.train.some(slice(7))), data)
    assert "7 copies among 7" in capsys.readouterr().out
    test, train = (evaluating.as_floats(part) for part in (data.test, data.train))
    apart = measures.nearest(test, train)[1]
    evaluating.say_memory(evaluating.as_floats(data.test.some(apart.topk(7).indices)), data)
    assert "0 copies among 7" in capsys.readouterr().out


def test_what_cannot_be_measured_is_refused(best: Path, tmp_path: Path,
                                            capsys: pytest.CaptureFixture) -> None:
    flags = ["--checkpoint", str(best), "--steps", "2"]
    with pytest.raises(SystemExit, match="2"):
        evaluating.main([*flags, "--count", "99"])
    capsys.readouterr()
    for more, words in ((["--data", "cifar10"], "the judge knows digits only"),
                        (["--steps", "2000"], "2000 steps are not possible")):
        assert evaluating.main([*flags, *more]) == 1
        assert words in capsys.readouterr().err
    contents = checkpoint.load(best)
    del contents["version"]
    contents["config"] = {**contents["config"], "data": "mnist"}
    checkpoint.save(tmp_path / "mnist.pt", contents)
    assert evaluating.main(["--checkpoint", str(tmp_path / "mnist.pt"), "--data-dir",
                            str(tmp_path)]) == 1
    assert "mnist is not on this disk" in capsys.readouterr().err


# ---------------------------------------------------------------- the ablation


def test_the_ablation_changes_one_thing_a_row(capsys: pytest.CaptureFixture) -> None:
    torch.set_num_threads(1)
    rows = ["predict-x0", "from-0-to-1", "no-ema", "ddim-10-steps"]
    assert diffusion.ablation.main(["--quick", "--steps", "3", "--count", "100", "--only",
                                    *rows]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0][2:] for line in lines[2:]] == ["real digits", *rows]
    values = [float(line.split(" | ")[1]) for line in lines[2:]]
    assert len(set(values)) == 5 and values[0] < 0.1
    options, plain = diffusion.options, diffusion.options.parser().parse_args([])
    for flags in diffusion.ablation.CHANGES.values():
        changed = vars(options.parser().parse_args(flags))
        assert sum(changed[name] != value for name, value in vars(plain).items()) <= 2
