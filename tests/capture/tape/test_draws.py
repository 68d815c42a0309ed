"""Draws of lowered programs: their distributions, their order, what decides them."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import oarlock
from oarlock.capture.lowering.draws import eager_draws
from oarlock.capture.to_static import StaticFunction
from oarlock.errors import ModelError, UserError
from oarlock.evaluate import evaluate
from oarlock.ops.random import GENERATOR

COUNT = 20_000
CHANCE = 1e-9  # that a right generator fails
# Dvoretzky, Kiefer, Wolfowitz, with Massart's constant: P(sup |F_n - F| > e) <= 2 exp(-2 n e**2)
FAR = math.sqrt(math.log(2 / CHANCE) / (2 * COUNT))


def program_of(fn, *args):
    static = StaticFunction(fn)
    with torch.no_grad():
        static(*args)
    (program,) = static.programs  # compared with eager that draws the same numbers
    return program


def normal_cdf(x):
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


CONTINUOUS = {
    "rand": (lambda x: torch.rand(COUNT), lambda x: np.clip(x, 0, 1)),
    "rand_like": (lambda x: torch.rand_like(x), lambda x: np.clip(x, 0, 1)),
    "randn": (lambda x: torch.randn(COUNT), normal_cdf),
    "randn_like": (lambda x: torch.randn_like(x), normal_cdf),
    "uniform_": (lambda x: x.clone().uniform_(-1, 3), lambda x: np.clip((x + 1) / 4, 0, 1)),
    "normal_": (lambda x: x.clone().normal_(2.0, 3.0), lambda x: normal_cdf((x - 2) / 3)),
    "normal": (lambda x: torch.normal(x, 2.0), lambda x: normal_cdf(x / 2)),
    "exponential_": (lambda x: x.clone().exponential_(2.0), lambda x: 1 - np.exp(-2 * x)),
    "cauchy_": (lambda x: x.clone().cauchy_(1.0, 2.0), lambda x: 0.5 + np.arctan((x - 1) / 2) / np.pi),
    "log_normal_": (
        lambda x: x.clone().log_normal_(0.5, 0.25), lambda x: normal_cdf((np.log(x) - 0.5) / 0.25)
    ),
    "rrelu": (lambda x: -F.rrelu(x - 1, 0.1, 0.5, True), lambda x: np.clip((x - 0.1) / 0.4, 0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTINUOUS)
def test_draws_have_their_distribution(name):
    fn, cdf = CONTINUOUS[name]
    zeros = torch.zeros(COUNT)
    drawn = np.sort(evaluate(program_of(fn, zeros), zeros.numpy()).astype(np.float64))
    expected, ranks = cdf(drawn), np.arange(COUNT + 1) / COUNT
    assert np.max(expected - ranks[:-1]) < FAR and np.max(ranks[1:] - expected) < FAR


WEIGHTS = (0.0, 1.0, 3.0, 4.0, 2.0)
DISCRETE = {
    "bernoulli": (lambda x: torch.bernoulli(x + 0.2), {0: 0.8, 1: 0.2}),
    "bernoulli_": (lambda x: x.clone().bernoulli_(0.7), {0: 0.3, 1: 0.7}),
    "dropout": (lambda x: F.dropout(x + 3, 0.25, True), {0: 0.25, 4: 0.75}),
    "randint": (lambda x: torch.randint(-2, 2, (COUNT,)), dict.fromkeys(range(-2, 2), 0.25)),
    "randint_like": (lambda x: torch.randint_like(x, 4), dict.fromkeys(range(4), 0.25)),
    "random_": (lambda x: x.long().random_(2, 4), {2: 0.5, 3: 0.5}),
    "geometric_": (lambda x: x.clone().geometric_(0.5), {1: 0.5, 2: 0.25, 3: 0.125}),
    "multinomial": (
        lambda x: torch.multinomial(torch.tensor(WEIGHTS).expand(COUNT, 5), 1)[:, 0],
        {i: w / sum(WEIGHTS) for i, w in enumerate(WEIGHTS)},
    ),
    "multinomial with replacement": (
        lambda x: torch.multinomial(torch.tensor(WEIGHTS), COUNT, True),
        {i: w / sum(WEIGHTS) for i, w in enumerate(WEIGHTS)},
    ),
    # without replacement, the second: sum over j of p_j p_i / (1 - p_j)
    "multinomial without replacement": (
        lambda x: torch.multinomial(torch.tensor((1.0, 3.0)).expand(COUNT, 2), 2)[:, 1],
        {0: 0.75, 1: 0.25},
    ),
    "gumbel_softmax": (
        lambda x: F.gumbel_softmax(torch.tensor(WEIGHTS[1:]).log().expand(COUNT, 4)).argmax(-1),
        {i: w / sum(WEIGHTS) for i, w in enumerate(WEIGHTS[1:])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DISCRETE)
def test_choices_have_their_probabilities(name):
    fn, chances = DISCRETE[name]
    zeros = torch.zeros(COUNT)
    drawn = evaluate(program_of(fn, zeros), zeros.numpy())
    far = math.sqrt(math.log(2 * len(chances) / CHANCE) / (2 * COUNT))  # Hoeffding, 1963
    for value, chance in chances.items():
        share = np.mean(np.isclose(drawn, value))
        assert share == 0 if chance == 0 else abs(share - chance) < far


def test_wide_integers_and_permutations():
    def fn(x):
        return torch.randint(0, 1 << 40, (COUNT,)), torch.randperm(COUNT)

    wide, order = evaluate(program_of(fn, torch.zeros(1)), np.zeros(1, np.float32))
    low = wide % 1024  # bits that 32 random ones do not reach
    far = math.sqrt(math.log(2 / CHANCE) / (2 * COUNT))
    assert abs(np.mean(low < 512) - 0.5) < far and wide.max() > 1 << 39
    assert sorted(order) == list(range(COUNT)) and abs(np.corrcoef(order, wide)[0, 1]) < 2 * far


class Dropped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(4, 5, 2, dropout=0.5, batch_first=True)
        self.block = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.alpha, self.feature = torch.nn.AlphaDropout(0.3), torch.nn.Dropout2d(0.4)

    def forward(self, x, image):
        return self.rnn(x)[0], self.block(torch.cat([x, x], -1)), self.alpha(x), self.feature(image)


def test_layers_in_training_mode_draw_what_eager_draws():
    torch.manual_seed(0)
    program_of(Dropped().forward, torch.randn(2, 3, 4), torch.randn(2, 6, 3, 3))


def sampled(start, limit, weights):
    """Tokens until the last one of the vocabulary is drawn."""
    token, tokens = start, [start]
    steps = 0
    while steps < limit:
        token = torch.multinomial(torch.softmax(weights[token], -1), 1)[0]
        tokens.append(token)
        steps += 1
        if token == weights.shape[0] - 1:
            break
    return torch.stack(tokens)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from oarlock import Predictor

weights = np.zeros((6, 6), np.float32)
predictor = Predictor(sys.argv[1], threads=1, seed=int(sys.argv[2]))
runs = [predictor(np.array(0), np.array(50), weights).tolist() for _ in range(30)]
predictor.reset()
assert predictor(np.array(0), np.array(50), weights).tolist() == runs[0]
print(runs)
"""


def test_a_sampling_loop_runs_without_torch(tmp_path):
    static = StaticFunction(sampled)
    for n in (6, 7):
        static(torch.tensor(0), torch.tensor(4), torch.zeros(n, n))
    static.save(tmp_path / "sampled.oar")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "sampled.oar")]
    found = [
        subprocess.run([*command, seed], check=True, capture_output=True, text=True).stdout
        for seed in ("3", "3", "4")
    ]
    assert found[0] == found[1] != found[2]
    runs = eval(found[0])
    assert len({tuple(run) for run in runs}) > 20
    assert all(run[0] == 0 and 5 not in run[:-1] and len(run) <= 51 for run in runs)


def test_seed_state_and_clones():
    program = program_of(lambda x: torch.randn_like(x), torch.zeros(6))
    x = np.zeros(6, np.float32)
    predictor = oarlock.Predictor(program, threads=1, seed=7)
    first, second = predictor(x), predictor(x)
    assert not np.array_equal(first, second)
    assert predictor.state[GENERATOR].tolist() == [7, 2]
    assert np.array_equal(predictor.clone()(x), first)
    assert not np.array_equal(predictor.clone(seed=8)(x), first)
    predictor.reset()
    assert np.array_equal(predictor(x), first)
    assert np.array_equal(evaluate(program, x), oarlock.Predictor(program, threads=1)(x))


def test_a_seed_that_nothing_uses_is_refused():
    program = program_of(lambda x: x + 1, torch.zeros(6))
    with pytest.raises(UserError, match="seed=7: the program draws no random numbers"):
        oarlock.Predictor(program, threads=1, seed=7)


def test_seeds_in_the_code_are_those_of_the_program():
    def fn(x, seed):
        a = torch.rand_like(x)
        torch.manual_seed(seed)
        b = torch.rand_like(x)
        own = torch.Generator().manual_seed(5)
        return a, b, torch.rand(6, generator=own), torch.rand_like(x)

    program = program_of(fn, torch.zeros(6), 5)
    predictor = oarlock.Predictor(program, threads=1)
    x = np.zeros(6, np.float32)
    (a, b, c, d), (e, f, g, h) = (predictor(x, 5) for _ in range(2))
    assert np.array_equal(b, c) and np.array_equal(b, f) and np.array_equal(c, g)
    assert np.array_equal(d, h) and not np.array_equal(a, e)


def test_a_seed_for_a_generator_from_outside_is_refused():
    own = torch.Generator()

    def fn(x):
        own.manual_seed(3)
        return x + torch.rand(6, generator=own)

    with pytest.raises(oarlock.errors.UnsupportedError, match="a generator from outside"):
        program_of(fn, torch.zeros(6))


def picked(logits, limit, generator=None, top_k: int = 3, top_p: float = 0.9):
    """Tokens by temperature, top-k and top-p until the first one is drawn."""
    token, tokens, n = torch.zeros(1, dtype=torch.long), [], 0
    while n < limit:
        row = logits[token] / 0.7
        row = row.masked_fill(row < row.topk(top_k).values[:, -1:], -torch.inf)
        ordered, places = row.sort(descending=True)
        is_over = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1) > top_p
        row = row.masked_fill(is_over.scatter(1, places, is_over), -torch.inf)
        token = torch.multinomial(row.softmax(-1), 1, generator=generator)[:, 0]
        tokens.append(token)
        n += 1
        if token == 0:
            break
    return torch.cat(tokens), torch.empty(3).exponential_(generator=generator)


def picked_alone(logits, limit, seed: int = 3):
    return picked(logits, limit, torch.Generator().manual_seed(seed))


LOGITS = [(torch.randn(n, n, generator=torch.Generator().manual_seed(n)), torch.tensor(k))
          for n, k in ((5, 4), (7, 9), (6, 30))]  # fmt: skip


def test_a_generator_that_the_code_makes():
    static = StaticFunction(picked_alone)
    for call in LOGITS:
        for got, want in zip(static(*call), picked_alone(*call)):
            assert torch.equal(got, want)
    (program,) = static.programs
    for call in LOGITS:
        with eager_draws():
            wants = picked_alone(*call)
        for got, want in zip(oarlock.Predictor(program, threads=1)(*map(np.asarray, call)), wants):
            np.testing.assert_allclose(got, want, rtol=1e-6)


def test_generators_that_are_given():
    """Each call draws from its own; a program has one, which ``Predictor(seed=)`` seeds."""
    static = StaticFunction(picked)
    for seed, call in enumerate([*LOGITS, LOGITS[0]]):
        given = [torch.Generator().manual_seed(seed) for _ in range(2)]
        for got, want in zip(static(*call, given[0]), picked(*call, given[1])):
            assert torch.equal(got, want)
        assert torch.equal(given[0].get_state(), given[1].get_state())
    assert len(static.tapes) == 1 and static.captures <= 2
    (program,) = static.programs
    call, own = [*map(np.asarray, LOGITS[2]), None], torch.Generator()
    with eager_draws([own]):
        wants = picked(*LOGITS[2], own)
    for got, want in zip(oarlock.Predictor(program, threads=1)(*call), wants):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    runs = [oarlock.Predictor(program, threads=1, seed=s)(*call)[1] for s in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


def two_generators(x, a, b):
    return torch.rand_like(x) + torch.rand(3, generator=a) * torch.rand(3, generator=b)


def test_one_generator_or_two():
    static, x = StaticFunction(two_generators), torch.zeros(3)

    def call(fn, is_one):
        torch.manual_seed(1)
        a, b = torch.Generator().manual_seed(4), torch.Generator().manual_seed(5)
        return fn(x, a, a if is_one else b)

    for is_one in (True, False, True, False):
        assert torch.equal(call(static, is_one), call(two_generators, is_one))


def test_probabilities_are_checked():
    program = program_of(lambda p: torch.multinomial(p, 1), torch.ones(3))
    for wrong, message in ((np.array([1, -1, 1], np.float32), "element < 0"),
                           (np.zeros(3, np.float32), "sum of probabilities <= 0")):  # fmt: skip
        with pytest.raises(ModelError, match=message):
            evaluate(program, wrong)


def test_calls_of_static_functions_draw_what_torch_draws():
    static = oarlock.to_static(lambda x: F.dropout(x, 0.5, True) + torch.rand_like(x))
    x = torch.ones(50)
    static(x)
    torch.manual_seed(3)
    got = static(x)
    torch.manual_seed(3)
    assert torch.equal(got, F.dropout(x, 0.5, True) + torch.rand_like(x))
