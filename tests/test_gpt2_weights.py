"""The published weights in our model: each spelling, each name, and little more memory."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from support import ROOT, load

gpt2 = load("gpt2_from_scratch")
weights, Refusal = gpt2.weights, gpt2.console.Refusal
Tokenizer = weights.Tokenizer
WORDS, CONTEXT = 256, 24


@pytest.fixture(scope="module")
def published() -> SimpleNamespace:
    """A small model of transformers: its weights, some tokens, and what it says of them."""
    from transformers import GPT2Config, GPT2LMHeadModel
    torch.manual_seed(0)
    peer = GPT2LMHeadModel(GPT2Config(
        vocab_size=WORDS, n_positions=CONTEXT, n_layer=3, n_head=2, n_embd=128,
        initializer_range=0.2, bos_token_id=0, eos_token_id=0)).eval()
    tokens = torch.randint(WORDS, (2, CONTEXT))
    state = {name: tensor.contiguous().clone() for name, tensor in peer.state_dict().items()}
    return SimpleNamespace(state=state, tokens=tokens, logits=peer(tokens).logits.detach())


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A folder with the files of a tokenizer of 256 tokens."""
    (tmp_path / "words").mkdir()
    Tokenizer.train("", WORDS).save(tmp_path / "words")
    return tmp_path / "words"


def write(path: Path, state: dict[str, Tensor]) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".bin":
        torch.save(state, path)
    else:
        save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    return path


def spelled(state: dict[str, Tensor], prefix: bool, head: bool, masks: bool) -> dict:
    """The same weights as older and newer versions of transformers have written them."""
    found = {name if prefix else name.removeprefix("transformer."): tensor
             for name, tensor in state.items() if head or name != "lm_head.weight"}
    for number in range(3 if masks else 0):
        start = f"{'transformer.' if prefix else ''}h.{number}.attn."
        found[start + "bias"] = torch.ones(1, 1, CONTEXT, CONTEXT).tril()
        found[start + "masked_bias"] = torch.tensor(-1e4)
    return found


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("name", weights.FILES)
def test_every_spelling_gives_the_logits_of_transformers(
        published: SimpleNamespace, words: Path, tmp_path: Path,
        name: str, prefix: bool, head: bool, masks: bool) -> None:
    write(tmp_path / "gpt" / name, spelled(published.state, prefix, head, masks))
    net, config = weights.open_published(str(tmp_path / "gpt"), tmp_path, words=words)
    logits = net.eval()(published.tokens)
    assert logits.std() > 0.5
    assert torch.allclose(logits, published.logits, rtol=0, atol=1e-4)
    assert torch.allclose(net.double()(published.tokens).float(), published.logits, rtol=0,
                          atol=1e-4)
    shape = {"vocabulary": WORDS, "context": CONTEXT, "layers": 3, "heads": 2, "channels": 128,
             "dropout": 0.0, "bias": True}
    assert {name: config[name] for name in shape} == shape
    assert len(Tokenizer.from_state(config["tokenizer"])) == WORDS
    assert all(parameter.requires_grad and not parameter.is_meta and parameter.is_contiguous()
               for parameter in net.parameters())
    gpt2.checkpoint.restore(gpt2.model.build(config), net.state_dict(), tmp_path)


def test_every_weight_of_the_file_is_in_the_model_once(
        published: SimpleNamespace, words: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", spelled(published.state, False, False, False))
    net, _ = weights.read_weights(path)
    sums = sorted(tensor.double().sum().item() for tensor in net.state_dict().values())
    theirs = sorted(tensor.double().sum().item() for name, tensor in published.state.items()
                    if name != "lm_head.weight")
    assert sums == pytest.approx(theirs)


@pytest.mark.parametrize("name", weights.FILES)
def test_the_file_is_no_longer_needed_when_it_has_been_read(
        published: SimpleNamespace, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, published.state)
    net, _ = weights.read_weights(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert torch.allclose(net.eval()(published.tokens), published.logits, rtol=0, atol=1e-4)


def test_half_precision_files_become_single(published: SimpleNamespace, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in published.state.items()}
    net, _ = weights.read_weights(write(tmp_path / "half.safetensors", half))
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert torch.allclose(net.eval()(published.tokens), published.logits, rtol=0, atol=0.3)


# ---------------------------------------------------------------- what is refused


def without(state: dict, name: str) -> dict:
    return {key: tensor for key, tensor in state.items() if key != name}


WRONG: dict[str, tuple[Callable[[dict], dict], str]] = {
    "missing": (lambda s: without(s, "transformer.h.1.mlp.c_fc.bias"),
                "lacks blocks.1.think.widen.bias"),
    "no end": (lambda s: without(s, "transformer.ln_f.weight"), "lacks norm.weight"),
    "no embedding": (lambda s: without(s, "transformer.wte.weight"), "KeyError"),
    "missing block": (lambda s: {k: t for k, t in s.items() if ".h.1." not in k},
                      "lacks blocks.1."),
    "strange": (lambda s: s | {"transformer.h.0.attn.rope": torch.ones(2)},
                "holds transformer.h.0.attn.rope, which GPT-2 does not have"),
    "strange layer": (lambda s: s | {"score.weight": torch.ones(2)}, "holds score.weight"),
    "strange buffer": (lambda s: s | {"wte.attn.bias": torch.ones(2)}, "holds wte.attn.bias"),
    "no mask": (lambda s: s | {"h.0.attn.bias_x": torch.ones(2)}, "holds h.0.attn.bias_x"),
    "twice": (lambda s: s | {"wpe.weight": s["transformer.wpe.weight"]},
              "holds both transformer.wpe.weight and wpe.weight"),
    "wrong shape": (lambda s: s | {"transformer.h.2.mlp.c_proj.weight": torch.ones(128, 512)},
                    "gives blocks.2.think.narrow.weight the shape (512, 128), the model has "
                    "(128, 512)"),
    "extra block": (lambda s: s | {"transformer.h.7.ln_1.bias": torch.ones(128)},
                    "lacks blocks.3."),
    "another head": (lambda s: s | {"lm_head.weight": s["lm_head.weight"] + 1e-3},
                     "names tokens with another matrix"),
    "nothing": (lambda s: {}, "KeyError"),
}


@pytest.mark.parametrize("name", weights.FILES)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_with_too_little_too_much_or_something_else_is_refused(
        published: SimpleNamespace, words: Path, tmp_path: Path, wrong: str,
        name: str) -> None:
    change, said = WRONG[wrong]
    path = write(tmp_path / name, change(dict(published.state)))
    with pytest.raises(Refusal) as refused:
        weights.open_published(str(path), tmp_path, words=words)
    assert said in str(refused.value) and str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", weights.FILES)
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_cut_file_is_refused_in_one_sentence_and_nothing_is_written(
        published: SimpleNamespace, words: Path, tmp_path: Path, name: str,
        share: float, capsys: pytest.CaptureFixture) -> None:
    whole = write(tmp_path / name, published.state).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    before = sorted(tmp_path.rglob("*"))
    code = gpt2.inference.main(["--weights", str(tmp_path / name), "--tokenizer", str(words),
                                "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert (code, said.out) == (1, "") and len(said.err.splitlines()) == 1
    assert said.err.startswith(f"error: {tmp_path / name} does not hold the weights of GPT-2")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tokenizer_that_does_not_fit_and_files_that_are_not_there_are_refused(
        published: SimpleNamespace, words: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", published.state)
    (tmp_path / "others").mkdir()
    Tokenizer.train("abab " * 9, WORDS + 1).save(tmp_path / "others")
    cases = [(str(path), tmp_path / "others", "has 257 tokens, the model 256"),
             (str(path), tmp_path / "none", "none"), (str(path), None, str(tmp_path)),
             (str(tmp_path / "no.bin"), words, f"at {tmp_path}/no.bin: name a model.safeten"),
             (str(words), words, f"there are no weights at {words}: name a model.safetensors"),
             ("gpt2-large", words, "say --download to fetch them")]
    for source, folder, said in cases:
        with pytest.raises(Refusal) as refused:
            weights.open_published(source, tmp_path, words=folder)
        assert said in str(refused.value), source


# ---------------------------------------------------------------- memory


MEASURE = """
import re, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
import weights
torch.ones(9) @ torch.ones(9)
def peak():      # ru_maxrss would begin with the memory of the process that started this one
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
net, _ = weights.read_weights(Path(sys.argv[2]))
print((peak() - before) / Path(sys.argv[2]).stat().st_size)
"""


@pytest.mark.parametrize("name", weights.FILES)
def test_reading_takes_little_more_memory_than_the_file(tmp_path: Path, name: str) -> None:
    """Peak of a process of its own, above what importing has taken: at most 1.3 files."""
    width, state = 512, {"transformer.wte.weight": torch.zeros(20_000, 512),
                         "transformer.wpe.weight": torch.zeros(512, 512)}
    layers = {"ln_1": (width,), "ln_2": (width,), "attn.c_attn": (width, 3 * width),
              "attn.c_proj": (width, width), "mlp.c_fc": (width, 4 * width),
              "mlp.c_proj": (4 * width, width)}
    layers = {f"h.{number}.{name}": shape for number in range(12)
              for name, shape in layers.items()} | {"ln_f": (width,)}
    for layer, shape in layers.items():
        state[f"transformer.{layer}.weight"] = torch.zeros(shape)
        state[f"transformer.{layer}.bias"] = torch.zeros(shape[-1])
    state["lm_head.weight"] = state["transformer.wte.weight"]
    path = write(tmp_path / name, state)
    assert path.stat().st_size > 190e6
    home = str(ROOT / "gpt2_from_scratch")
    done = subprocess.run([sys.executable, "-c", MEASURE, home, str(path)], check=True,
                          capture_output=True, encoding="utf-8")
    assert 0.7 < float(done.stdout) <= 1.3       # the head is in the file twice


# ---------------------------------------------------------------- fetching


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server on this machine that stands for the real one, and the folder that it serves."""
    served = tmp_path / "served"

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(served))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(weights, "SITE", f"http://127.0.0.1:{server.server_port}"
                                         "/{size}/{kind}/main/{file}")
    yield served
    server.shutdown()
    server.server_close()


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", ["gpt2", "gpt2-xl"])
def test_weights_are_fetched_whole_and_proven_or_not_at_all(
        published: SimpleNamespace, words: Path, tmp_path: Path, site: Path,
        monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    """Of size gpt2 the hash is known; of the others it is the one that the site states."""
    home = site / size / "resolve" / "main"
    home.mkdir(parents=True)
    write(home / "model.safetensors", published.state)
    names = {}
    for ours, (theirs, _) in weights.WORDS.items():
        (home / theirs).write_bytes((words / ours).read_bytes())
        names[ours] = (theirs, sha(words / ours))
    monkeypatch.setattr(weights, "WORDS", names)
    right = sha(home / "model.safetensors")
    pointer = site / size / "raw" / "main" / "model.safetensors"
    pointer.parent.mkdir(parents=True)

    def state(sha256: str) -> None:
        pointer.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\n"
                           "size 12\n" if size != "gpt2" else "never read")
        monkeypatch.setattr(weights, "SHA256", sha256)

    state("0" * 64)
    with pytest.raises(Refusal, match="could not be fetched"):
        weights.open_published(size, tmp_path / "data", fetch_it=True)
    assert not list((tmp_path / "data").rglob("model*"))
    state(right)
    for _ in range(2):                       # the second time nothing is fetched
        net, config = weights.open_published(size, tmp_path / "data", fetch_it=True)
        (home / "model.safetensors").unlink(missing_ok=True)
    assert torch.allclose(net.eval()(published.tokens), published.logits, rtol=0, atol=1e-4)
    weights.open_published(size, tmp_path / "data")
    pointer.unlink()
    if size != "gpt2":
        with pytest.raises(Refusal, match="the weights of gpt2-xl could not be fetched"):
            weights.open_published(size, tmp_path / "data", fetch_it=True)


def test_the_hashes_of_the_tokenizer_are_those_of_openais_files(shared: Callable) -> None:
    folder = shared("gpt2_bpe") / "gpt2_bpe"
    assert {name: sha(folder / name) for name in weights.WORDS} == {
        name: sha256 for name, (_, sha256) in weights.WORDS.items()}
    assert len(json.loads((folder / "encoder.json").read_text())) == gpt2.model.VOCABULARY
