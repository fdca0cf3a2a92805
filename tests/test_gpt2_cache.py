"""A cache changes nothing: every split, chunk, batch and padding, and beyond the context."""

import pytest
import torch
from torch import Tensor

from support import load

gpt2 = load("gpt2_from_scratch")
GPT, Sampling, generate = gpt2.model.GPT, gpt2.generate.Sampling, gpt2.generate.generate
WORDS, CONTEXT, GREEDY = 37, 12, Sampling(temperature=0)


@pytest.fixture(scope="module")
def net() -> GPT:
    """A model whose matrices are so large that every position and token matters."""
    torch.manual_seed(1)
    made = GPT(WORDS, CONTEXT, 3, 2, 16).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if "norm" not in name:
            parameter.normal_(std=0.4)
    return made


def read_in(net: GPT, tokens: Tensor, sizes: list[int],
            padding: Tensor | None = None) -> Tensor:
    """Logits of all tokens (B, T, V), read through a cache in chunks of these sizes."""
    cache, logits = net.cache(len(tokens), CONTEXT, padding), []
    for chunk in tokens.split(sizes, dim=1):
        x, cache = net.hidden(chunk, cache)
        logits.append(net.logits(x))
    assert cache.length == sum(sizes)
    return torch.cat(logits, dim=1)


def texts(*lengths: int) -> list[list[int]]:
    return [torch.randint(WORDS, (length,)).tolist() for length in lengths]


# ---------------------------------------------------------------- one read after the other


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_every_split_gives_the_logits_of_one_read(net: GPT, batch: int) -> None:
    tokens = torch.randint(WORDS, (batch, CONTEXT))
    whole = net(tokens)
    assert whole.std() > 0.5
    for first in range(1, CONTEXT):
        found = read_in(net, tokens, [first, CONTEXT - first])
        assert torch.allclose(found, whole, rtol=0, atol=1e-5), first


@pytest.mark.parametrize("sizes", [[1] * 12, [2] * 6, [3] * 4, [7, 5], [1, 3, 7, 1], [12],
                                   [4, 1, 1, 6], [11, 1]])
def test_every_size_of_chunk_gives_the_logits_of_one_read(net: GPT, sizes: list[int]) -> None:
    tokens = torch.randint(WORDS, (3, CONTEXT))
    found = read_in(net, tokens, sizes)
    assert torch.allclose(found, net(tokens), rtol=0, atol=1e-5)
    last, cache = net.extend(tokens[:, :5], net.cache(3, 12))
    assert torch.allclose(last, net(tokens)[:, 4], rtol=0, atol=1e-5)
    last, _ = net.extend(tokens[:, 5:], cache)
    assert torch.allclose(last, net(tokens)[:, -1], rtol=0, atol=1e-5)


def test_in_double_precision_the_cache_costs_nothing_at_all(net: GPT) -> None:
    double = GPT(WORDS, CONTEXT, 3, 2, 16).double().eval()
    double.load_state_dict(net.state_dict())     # and with gradients, which need no cache
    tokens = torch.randint(WORDS, (2, CONTEXT))
    found = read_in(double, tokens, [4, 1, 2, 5])
    assert torch.allclose(found, double(tokens), rtol=0, atol=1e-11)


@pytest.mark.parametrize("lengths", [(3, 7), (7, 3, 5), (1, 7, 7, 2), (4,)])
@pytest.mark.parametrize("sizes", [[7], [6, 1], [2, 5], [1] * 7])
def test_texts_of_different_lengths_are_read_as_if_each_were_alone(
        net: GPT, lengths: tuple[int, ...], sizes: list[int]) -> None:
    rows = texts(*lengths)
    tokens = gpt2.generate.pad(rows)
    padding = (tokens == gpt2.generate.NOTHING).sum(1)
    longest = max(lengths)
    assert padding.tolist() == [longest - length for length in lengths]
    sizes = sizes if sum(sizes) == longest else [longest]
    for nothing in (0, 5):                   # what stands in the padding is never looked at
        filled = tokens.where(tokens != gpt2.generate.NOTHING, nothing)
        found = read_in(net, filled, sizes, padding)
        assert torch.isfinite(found).all()
        for row, text in enumerate(rows):
            alone = net(torch.tensor([text]))[0]
            assert torch.allclose(found[row, -len(text) :], alone, rtol=0, atol=1e-5)


def test_what_may_be_seen_is_what_the_words_say() -> None:
    for padding in (None, torch.tensor([0, 2, 5])):
        for new, total in ((1, 1), (1, 6), (4, 6), (6, 6)):
            keep = gpt2.cache.visible(new, total, padding)
            assert keep.shape == (1 if padding is None else 3, 1, new, total)
            for row in range(len(keep)):
                begin = 0 if padding is None else padding[row].item()
                for i in range(new):
                    query = total - new + i
                    seen = [key for key in range(total)
                            if begin <= key <= query or key == query]
                    assert keep[row, 0, i].nonzero().flatten().tolist() == seen


# ---------------------------------------------------------------- memory


def test_the_model_remembers_nothing(net: GPT) -> None:
    tokens = torch.randint(WORDS, (2, CONTEXT))
    before, state = net(tokens), {k: v.clone() for k, v in net.state_dict().items()}
    names = {name: set(vars(module)) for name, module in net.named_modules()}
    one, two = net.cache(2, CONTEXT), net.cache(2, CONTEXT)
    for t in range(6):                       # two texts in turn, each with its own cache
        _, one = net.extend(tokens[:, t : t + 1], one)
        _, two = net.extend(tokens.flip(1)[:, t : t + 1], two)
    for cache, text in ((one, tokens), (two, tokens.flip(1))):
        x, _ = net.hidden(text[:, 6:], cache)
        assert torch.allclose(net.logits(x), net(text)[:, 6:], rtol=0, atol=1e-5)
    assert torch.equal(net(tokens), before)
    assert names == {name: set(vars(module)) for name, module in net.named_modules()}
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def test_memory_is_set_aside_once_and_is_as_large_as_it_has_to_be(net: GPT) -> None:
    cache = net.cache(2, 9)
    assert cache.keys.shape == cache.values.shape == (3, 2, 2, 9, 8) and cache.room == 9
    assert net.cache(1, 1000).room == CONTEXT
    place = cache.keys.data_ptr()
    for _ in range(9):
        _, cache = net.extend(torch.zeros(2, 1, dtype=torch.long), cache)
        assert cache.keys.data_ptr() == place
    with pytest.raises(ValueError, match="has 10 tokens but there is room for 9: shorten it"):
        net.extend(torch.zeros(2, 1, dtype=torch.long), cache)


def test_an_older_cache_can_go_another_way(net: GPT) -> None:
    tokens = torch.randint(WORDS, (1, 10))
    _, begun = net.extend(tokens[:, :4], net.cache(1, CONTEXT))
    ways = [tokens[:, 4:], tokens[:, 4:].flip(1)]
    for way in (*ways, *ways):
        last, _ = net.extend(way, begun)
        whole = net(torch.cat([tokens[:, :4], way], dim=1))
        assert torch.allclose(last, whole[:, -1], rtol=0, atol=1e-5)


# ---------------------------------------------------------------- generation


def by_hand(net: GPT, prompt: list[int], count: int) -> list[int]:
    """The likeliest continuation, without a cache: the last tokens are read anew each time."""
    text = list(prompt)
    for _ in range(count):
        logits = net(torch.tensor([text[-CONTEXT:]]))[0, -1]
        text.append(int(logits.argmax()))
    return text[len(prompt) :]


def written(net: GPT, prompts: list[list[int]], count: int, stop: int | None = None,
            sampling: Sampling = GREEDY) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [list(row) for row in zip(*generate(net, prompts, count, sampling, generator, stop))]


@pytest.mark.parametrize("lengths", [(5,), (1,), (12,), (3, 9), (12, 1, 5), (2, 2, 11, 7)])
def test_texts_go_on_as_without_a_cache_far_beyond_the_context(
        net: GPT, lengths: tuple[int, ...]) -> None:
    prompts = texts(*lengths)
    expected = [by_hand(net, prompt, 40) for prompt in prompts]
    assert written(net, prompts, 40) == expected
    assert len(set(map(tuple, expected))) == len(lengths)    # not all the same to it
    assert len({token for row in expected for token in row}) > 2


def test_eleven_hundred_tokens_are_those_of_reading_anew(net: GPT) -> None:
    prompt = texts(4)
    assert written(net, prompt, 1100) == [by_hand(net, prompt[0], 1100)]


def test_drawing_is_the_same_with_and_without_a_cache(net: GPT) -> None:
    prompts, sampling = texts(3, 3, 3), Sampling(temperature=1.3, top_k=20)
    text, generator = torch.tensor(prompts), torch.Generator().manual_seed(3)
    for _ in range(30):
        logits = net(text[:, -CONTEXT:])[:, -1]
        token = gpt2.generate.draw(logits, sampling, generator)
        text = torch.cat([text, token[:, None]], dim=1)
    assert written(net, prompts, 30, sampling=sampling) == text[:, 3:].tolist()


def test_a_prompt_longer_than_the_context_is_read_from_its_end(net: GPT) -> None:
    prompts = texts(30, 4)
    assert written(net, prompts, 5) == [by_hand(net, prompt, 5) for prompt in prompts]


def test_each_row_ends_at_its_own_stop_and_all_when_the_last_has(net: GPT) -> None:
    prompts = texts(5, 8, 3)
    free = written(net, prompts, 30)
    stop = next(token for token in free[1][2:] if token in free[0] and token not in free[1][:2])
    found = written(net, prompts, 30, stop)
    for row, one in zip(free, found):
        end = row.index(stop) if stop in row else len(row)
        assert one == [*row[:end], *[None] * (len(one) - end)]
    ends = [row.index(stop) if stop in row else 29 for row in free]
    assert len(found[0]) == max(ends) + 1 and len(set(ends)) > 1
