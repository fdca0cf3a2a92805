"""The table of show_params.py against counting, and the pictures against what they show."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from support import ROOT, load, run

gpt2 = load("gpt2_from_scratch")
model, show, pictures = gpt2.model, gpt2.show_params, gpt2.pictures
HOME = ROOT / "gpt2_from_scratch"
CONFIG = {"vocabulary": 256, "context": 24, "layers": 3, "heads": 2, "channels": 32,
          "dropout": 0.0, "bias": True, "data": "nothing"}
PROMPT = "one two\none"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A checkpoint of a model of bytes with random weights, and metrics beside it."""
    torch.manual_seed(0)
    tokenizer = gpt2.reader.Tokenizer.train(PROMPT, 256)
    config = CONFIG | {"tokenizer": tokenizer.state()}
    net, out = model.build(config), tmp_path_factory.mktemp("trained")
    with torch.no_grad():
        net.embed.weight.mul_(8)
    gpt2.checkpoint.save(out / "best.pt", {"folder": model.NAME, "config": config,
                                           "model": net.state_dict()})
    (out / "metrics.csv").write_text(
        "step,lr,train_loss,validation_loss,nats_per_character,bits_per_character,seconds\n"
        "2,0.2,4.5,4.75,2.5,3.6,2\n3,0.1,4.0,4.25,2.25,3.2,3\n")
    return SimpleNamespace(out=out, best=out / "best.pt", net=net.eval(), tokenizer=tokenizer)


# ---------------------------------------------------------------- the table


def columns(said: str) -> dict[str, dict[str, str]]:
    """The printed table by column and row; cells are what ends a line."""
    lines = said.splitlines()
    found = {name: {} for name in lines[0].split()}
    for line in lines[1:]:
        for place, cells in enumerate(found.values()):
            start = 24 + 17 * place
            cells[line[:24].strip()] = line[start : start + 17].strip()
    return found


def test_the_published_sizes_stand_beside_the_paper(capsys: pytest.CaptureFixture) -> None:
    assert show.main([]) == 0
    found = columns(capsys.readouterr().out)
    assert list(found) == ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
    assert [one["parameters"] for one in found.values()] == [
        "124,439,808", "354,823,168", "774,030,080", "1,557,611,200"]
    assert [one["with a head of its own"] for one in found.values()] == [
        "163,037,184", "406,286,336", "838,359,040", "1,638,022,400"]
    assert [one["the paper says"] for one in found.values()] == [
        "117M", "345M", "762M", "1542M"]
    small = found["gpt2"]
    assert small["kB of cache a token"] == "73.7" and small["MB of cache, full"] == "75.5"
    assert small["MB of weights"] == small["MB of gradients"] == "497.8"
    assert small["MB of AdamW's averages"] == "995.5"
    assert small["GFLOP a token, training"] == "0.854"      # three times (17)
    assert small["layers, heads, channels"] == "12 12 768"
    assert small["vocabulary, context"] == "50257 1024"
    for one in found.values():
        assert sum(int(one[part].replace(",", "")) for part in show.PARTS) == int(
            one["parameters"].replace(",", ""))


def test_parts_are_counted_as_they_stand_in_a_real_model() -> None:
    for bias in (True, False):
        net = model.build(CONFIG | {"bias": bias})
        blocks = list(net.blocks)

        def size(*modules: torch.nn.Module) -> int:
            return sum(p.numel() for module in modules for p in module.parameters())

        assert show.count(net) == {
            "token embedding": 256 * 32, "position embedding": 24 * 32,
            "attention": size(*(block.attend for block in blocks)),
            "feed-forward": size(*(block.think for block in blocks)),
            "norms": size(net.norm, *(n for b in blocks for n in (b.norm1, b.norm2)))}


@pytest.mark.parametrize("tokens", [1, 7, 24])
def test_arithmetic_is_what_pytorch_counts(tokens: int) -> None:
    net = model.build(CONFIG)
    with FlopCounterMode(display=False) as counter:      # which does not know the fused kernel
        net.logits(net.hidden(torch.zeros(2, tokens, dtype=torch.long), seen=[])[0])
    assert counter.get_total_flops() == 2 * tokens * show.flops_per_token(CONFIG, tokens)


def test_the_cache_is_as_large_as_the_table_says(trained: SimpleNamespace) -> None:
    cache = trained.net.cache(1, 24)
    held = sum(tensor.numel() * tensor.element_size() for tensor in (cache.keys, cache.values))
    column = show.column(CONFIG)
    assert column["MB of cache, full"] == f"{held / 1e6:,.1f}"
    assert column["kB of cache a token"] == f"{held / 24e3:,.1f}"


def test_any_size_and_checkpoint_can_be_shown_together(
        trained: SimpleNamespace, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert show.main(["tiny", "--checkpoint", str(trained.best)]) == 0
    found = columns(capsys.readouterr().out)
    assert list(found) == ["tiny", "best.pt"]
    total = sum(parameter.numel() for parameter in trained.net.parameters())
    assert found["best.pt"]["parameters"] == f"{total:,}"
    assert show.main(["--checkpoint", str(trained.best)]) == 0
    assert list(columns(capsys.readouterr().out)) == ["best.pt"]
    assert show.main(["--checkpoint", str(tmp_path / "none.pt")]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: there is no checkpoint ")
    with pytest.raises(SystemExit, match="2"):
        show.main(["huge"])
    assert "there is no size huge: choose of gpt2, " in capsys.readouterr().err


MEASURE = """
import re, sys, time
from pathlib import Path
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1000
import torch
before = peak()
sys.path.insert(0, sys.argv[1])
import show_params
assert show_params.main([]) == 0
print(peak() - before, "torch._dynamo" in sys.modules, time.process_time())
"""


def test_all_sizes_are_shown_at_once_and_in_no_memory() -> None:
    """1.5 billion parameters are 6 GB; here there are none, so what is taken is importing."""
    result = run("-c", MEASURE, HOME)
    assert result.returncode == 0, result.stderr
    megabytes, compiler, seconds = result.stdout.splitlines()[-1].split()
    print(f"show_params.py took {seconds} s, {megabytes} MB beyond importing torch")
    assert int(megabytes) <= 50 and compiler == "False"
    assert float(seconds) <= 9               # of computing, with importing: 3 s


def test_a_terminal_that_lacks_a_sign_ends_nothing(
        trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    said = run(HOME / "inference.py", "--checkpoint", trained.best, "--prompt", "über",
               "--tokens", 1)
    assert said.returncode == 0 and said.stdout.startswith("?ber"), said.stderr


# ---------------------------------------------------------------- pictures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict:
    """The figures that are saved, by the names of their files."""
    found, write = {}, pictures.save
    monkeypatch.setattr(pictures, "save", lambda figure, path: found.update(
        {path.name: figure}) or write(figure, path))
    return found


@pytest.fixture
def visualize(trained: SimpleNamespace, tmp_path: Path) -> Callable[..., int]:
    return lambda *flags: gpt2.visualize.main(
        ["--checkpoint", str(trained.best), "--out", str(tmp_path / "out"), *flags])


def test_everything_that_is_drawn_was_computed(
        trained: SimpleNamespace, drawn: dict, visualize: Callable, tmp_path: Path,
        capsys: pytest.CaptureFixture) -> None:
    assert visualize("--prompt", PROMPT) == 0
    names = ["attention.png", "surprise.png", "lens.png"]
    assert list(drawn) == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert capsys.readouterr().out == f"wrote {', '.join(names)} to {tmp_path / 'out'}\n"
    net, labels = trained.net, list(PROMPT.replace(" ", "·").replace("\n", "⏎"))
    tokens = torch.tensor([trained.tokenizer.encode(PROMPT)])
    weights = net.attentions(tokens)[:, 0]
    for number, axis in enumerate(drawn["attention.png"].axes):
        layer, head = divmod(number, 2)
        assert axis.get_title() == f"layer {layer + 1}, head {head + 1}"
        assert np.allclose(axis.images[0].get_array(), weights[layer, head], atol=1e-5)
        rows = [text.get_text() for text in axis.get_yticklabels()]
        assert rows == (labels if head == 0 else [""] * len(labels))
    with torch.no_grad():
        x, guesses = net.embed(tokens) + net.locate.weight[: len(PROMPT)], []
        for step in range(4):                # what each sum would say, by hand
            guesses.append((F.layer_norm(x, (32,), net.norm.weight, net.norm.bias)[0]
                            @ net.embed.weight.T).softmax(-1).max(-1))
            x = net.blocks[step](x) if step < 3 else x
    axis = drawn["lens.png"].axes[0]
    assert np.allclose(axis.images[0].get_array(), torch.stack([g.values for g in guesses]),
                       atol=1e-5)
    written = [text.get_text() for text in axis.texts]
    assert written == [pictures.shown(gpt2.reader.Reader.spell(
        SimpleNamespace(tokenizer=trained.tokenizer), token))[:10]
        for guess in guesses for token in guess.indices.tolist()]


def test_the_redder_a_token_the_less_it_was_expected(
        trained: SimpleNamespace, drawn: dict, visualize: Callable) -> None:
    assert visualize("--prompt", PROMPT) == 0
    tokens = torch.tensor(trained.tokenizer.encode(PROMPT))
    losses = F.cross_entropy(trained.net(tokens[None])[0, :-1], tokens[1:], reduction="none")
    bars = drawn["surprise.png"].axes[0].patches
    reds = [bar.get_facecolor() for bar in bars]
    assert len(reds) == len(PROMPT)
    strength = (losses / math.log(256)).clamp(max=1)
    expected = pictures.matplotlib.colormaps["Reds"](0.9 * strength.detach().numpy())
    assert np.allclose(reds[1:], expected, atol=0.02)
    assert reds[0][0] == reds[0][1] == reds[0][2]        # grey: nothing came before it
    assert [(bar.get_x(), round(bar.get_y())) for bar in bars][7:9] == [(7, 0), (0, 1)]


def test_each_token_has_the_colour_of_its_own_loss(drawn: dict, tmp_path: Path) -> None:
    pictures.draw_surprise(["a", "bc", "d", "e"], [0.5, 2.0, 9.0], 4.0, tmp_path / "some.png")
    reds = [bar.get_facecolor() for bar in drawn["some.png"].axes[0].patches]
    scale = pictures.matplotlib.colormaps["Reds"]
    assert reds[1:] == [scale(0.9 * share) for share in (0.125, 0.5, 1)]


def test_running_text_breaks_where_it_has_to() -> None:
    assert pictures.lay_out(["ab", "cdefg", "\n", "h", "i\nj"], 4) == [
        (0, 0, 0, "ab"), (1, 0, 2, "cd"), (1, 1, 0, "efg"), (2, 1, 3, "\n"), (3, 2, 0, "h"),
        (4, 2, 1, "i\n"), (4, 3, 0, "j")]


def test_curves_are_the_numbers_of_the_table(
        trained: SimpleNamespace, drawn: dict, tmp_path: Path) -> None:
    pictures.draw_curves(trained.out / "metrics.csv", tmp_path / "loss.png",
                         {"3-gram": 2.05, "5-gram": 1.67})
    with (trained.out / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses, characters, rate = drawn["loss.png"].axes
    for line, name in ((losses.lines[0], "train_loss"), (losses.lines[1], "validation_loss"),
                       (characters.lines[0], "nats_per_character"), (rate.lines[0], "lr")):
        assert list(line.get_xdata()) == [2, 3]
        assert list(line.get_ydata()) == [float(row[name]) for row in rows]
    assert [line.get_ydata()[0] for line in characters.lines[1:]] == [2.05, 1.67]
    assert [text.get_text() for text in characters.texts] == ["3-gram", "5-gram"]


def test_signs_that_cannot_be_drawn_become_others_and_dollars_are_no_mathematics(
        trained: SimpleNamespace, tmp_path: Path) -> None:
    assert pictures.shown(" a\n\t\0世") == "·a⏎\ufffd\ufffd世"
    result = run(HOME / "visualize.py", "--checkpoint", trained.best, "--out", tmp_path,
                 "--prompt", "a$b$ 世\t")
    assert (result.returncode, len(result.stderr.splitlines())) == (0, 1), result.stderr


def test_a_text_that_cannot_be_drawn_is_refused(
        drawn: dict, visualize: Callable, capsys: pytest.CaptureFixture) -> None:
    for prompt, said in (("", "the prompt is empty"), ("a", "has 1 tokens: choose one of 2 to"),
                         ("x" * 25, "has 25 tokens but the model reads at most 24")):
        assert visualize("--prompt", prompt) == 1
        assert said in capsys.readouterr().err.splitlines()[-1]
    assert not drawn
