"""Random draws of a program: uniform and normal numbers of a counter-based generator, and what torch
makes of them.

The generator is a state of the program, ``ops.random.GENERATOR``: each draw reads it and adds one to
its count, so draws in branches and loops come in the order of the run.  They differ from those of
PyTorch, whose generator a process without torch does not have; ``eager_draws`` gives eager code the
draws of a program, to compare the two.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from oarlock.capture.arrays import dtype_of
from oarlock.capture.lowering.generators import key_of
from oarlock.ops.random import Rand, RandN, generator

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
WORD = 2.0**-32
FEW = 1 << 20  # whole numbers that one draw of 32 bits chooses among, nearly evenly
SEEN = 0x6F61726C6F636B  # no seed of the user's
TOO_FEW = (
    "invalid multinomial distribution (with replacement=False, not enough non-negative category "
    "to sample)"
)
PROBABILITIES = "probability tensor contains either `inf`, `nan` or element < 0"


def rule(*overloads: str) -> Callable[[Rule], Rule]:
    """Register a rule for overloads; it is called with the mode active that gives ``draw``."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(overloads, function))
        return function

    return register


class EagerDraws(TorchDispatchMode):
    """Eager code draws what a program draws that has not been run before.

    A generator whose seed is not ``SEEN`` was given one since.

    Args: outer: generators from outside of the code, for which the program has its own.
    """

    def __init__(self, outer: Iterable[torch.Generator] = ()) -> None:
        super().__init__()
        self.outer = {key_of(x) for x in outer}
        self.states: dict[int, np.ndarray] = {key_of(torch.default_generator): generator()}
        self.own: torch.Generator = torch.default_generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = RULES.get(str(func))
        if found is not None:
            result = drawn(self, self, found, args, kwargs or {})
            if result is not NotImplemented:
                return result
        return func(*args, **(kwargs or {}))

    def draw(self, record: type, like: torch.Tensor) -> torch.Tensor:
        """Numbers in the shape and dtype of a tensor."""
        own = torch.default_generator if key_of(self.own) in self.outer else self.own
        key, dtype = key_of(own), dtype_of(like.dtype)
        if own.initial_seed() != SEEN:
            self.states[key] = generator(own.initial_seed())
            own.manual_seed(SEEN)
        numbers = record(shape=tuple(like.shape), dtype=dtype).reference(self.states[key])
        self.states[key][1] += 1
        return torch.from_numpy(np.asarray(numbers)).to(like.dtype)

    def require(self, condition: torch.Tensor, message: str) -> None:
        """Raises: RuntimeError unless the condition holds."""
        if not bool(condition):
            raise RuntimeError(message)


@contextlib.contextmanager
def eager_draws(outer: Iterable[torch.Generator] = ()) -> Iterator[None]:
    """Draw as ``EagerDraws`` does; torch's own generator stays as it is."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(SEEN)
    try:
        with EagerDraws(outer):
            yield
    finally:
        torch.set_rng_state(before)


def drawn(r: Any, mode: Any, call: Rule, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The result of a rule, whose draws come from the generator that the call names."""
    given = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Generator)]
    before, r.own = r.own, given[0] if given else r.own
    try:
        with mode:
            return call(
                r,
                *(x for x in args if not isinstance(x, torch.Generator)),
                **{k: v for k, v in kwargs.items() if k != "generator"},
            )
    finally:
        r.own = before


# ---- the numbers that others are made of


def uniform(r: Any, like: torch.Tensor) -> torch.Tensor:
    """In [0, 1), in the shape and dtype of a tensor."""
    return r.draw(Rand, like)


def normal(r: Any, like: torch.Tensor) -> torch.Tensor:
    return r.draw(RandN, like)


def fine(r: Any, like: torch.Tensor) -> torch.Tensor:
    """In (0, 1), float64, in steps of 2**-32: never 0, never 1."""
    return uniform(r, torch.empty_like(like, dtype=torch.float64)) + WORD / 2


def whole(r: Any, like: torch.Tensor, low: Any, high: Any) -> torch.Tensor:
    """Whole numbers from ``low`` to below ``high``."""
    wide, count = torch.empty_like(like, dtype=torch.float64), high - low
    u = uniform(r, wide)
    if not isinstance(count, int) or count > FEW:
        u = u + torch.floor(uniform(r, wide) * FEW) * (WORD / FEW)
    return (torch.floor(u * count).to(torch.int64) + low).to(like.dtype)


# ---- torch.rand and its like


def _made(size: Any, dtype: Any = None, **_: Any) -> torch.Tensor:
    return torch.empty(size, dtype=dtype)


def _like(x: torch.Tensor, dtype: Any = None, **_: Any) -> torch.Tensor:
    return torch.empty_like(x, dtype=dtype)


@rule("aten.rand.default", "aten.rand.generator")
def rand(r: Any, size: Any, *rest: Any, **options: Any) -> torch.Tensor:
    return uniform(r, _made(size, **options))


@rule("aten.randn.default", "aten.randn.generator")
def randn(r: Any, size: Any, *rest: Any, **options: Any) -> torch.Tensor:
    return normal(r, _made(size, **options))


@rule("aten.rand_like.default")
def rand_like(r: Any, x: torch.Tensor, **options: Any) -> torch.Tensor:
    return uniform(r, _like(x, **options))


@rule("aten.randn_like.default")
def randn_like(r: Any, x: torch.Tensor, **options: Any) -> torch.Tensor:
    return normal(r, _like(x, **options))


def _or_long(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "dtype": options.get("dtype") or torch.int64}


@rule("aten.randint.default", "aten.randint.generator")
def randint(r: Any, high: Any, size: Any, **options: Any) -> torch.Tensor:
    return whole(r, _made(size, **_or_long(options)), 0, high)


@rule("aten.randint.low", "aten.randint.low_generator")
def randint_from(r: Any, low: Any, high: Any, size: Any, **options: Any) -> torch.Tensor:
    return whole(r, _made(size, **_or_long(options)), low, high)


@rule("aten.randint_like.default")
def randint_like(r: Any, x: torch.Tensor, high: Any, **options: Any) -> torch.Tensor:
    return whole(r, _like(x, **options), 0, high)


@rule("aten.randint_like.low_dtype")
def randint_like_from(r: Any, x: torch.Tensor, low: Any, high: Any, **options: Any) -> Any:
    return whole(r, _like(x, **options), low, high)


@rule("aten.randperm.default", "aten.randperm.generator")
def randperm(r: Any, n: Any, **options: Any) -> torch.Tensor:
    order = torch.argsort(uniform(r, torch.empty(n, dtype=torch.float64)), stable=True)
    return order.to(options.get("dtype") or torch.int64)


# ---- in place


@rule("aten.uniform_.default")
def uniform_(r: Any, x: torch.Tensor, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return x.copy_(uniform(r, x) * (high - low) + low)


@rule("aten.normal_.default")
def normal_(r: Any, x: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    return x.copy_(normal(r, x) * std + mean)


@rule("aten.log_normal_.default")
def log_normal_(r: Any, x: torch.Tensor, mean: float = 1.0, std: float = 2.0) -> torch.Tensor:
    return x.copy_(torch.exp(normal(r, x) * std + mean))


@rule("aten.exponential_.default")
def exponential_(r: Any, x: torch.Tensor, rate: float = 1.0) -> torch.Tensor:
    """Inverse of the distribution function; never 0."""
    return x.copy_(-torch.log(fine(r, x)) / rate)


@rule("aten.cauchy_.default")
def cauchy_(r: Any, x: torch.Tensor, median: float = 0.0, sigma: float = 1.0) -> torch.Tensor:
    return x.copy_(torch.tan((fine(r, x) - 0.5) * math.pi) * sigma + median)


@rule("aten.geometric_.default")
def geometric_(r: Any, x: torch.Tensor, p: float) -> torch.Tensor:
    return x.copy_(torch.clamp(torch.ceil(torch.log(fine(r, x)) / math.log1p(-p)), min=1.0))


@rule("aten.random_.from")
def random_from(r: Any, x: torch.Tensor, low: int, high: int | None) -> torch.Tensor:
    return x.copy_(whole(r, x, low, _most(x.dtype) + 1 if high is None else high))


@rule("aten.random_.to")
def random_to(r: Any, x: torch.Tensor, high: int) -> torch.Tensor:
    return x.copy_(whole(r, x, 0, high))


@rule("aten.random_.default")
def random_(r: Any, x: torch.Tensor) -> torch.Tensor:
    return x.copy_(whole(r, x, 0, _most(x.dtype) + 1))


def _most(dtype: torch.dtype) -> int:
    """The largest whole number that ``random_`` gives.  Raises: NotImplementedError."""
    if dtype.is_floating_point:
        most = round(2 / torch.finfo(dtype).eps)
    else:
        most = 1 if dtype is torch.bool else torch.iinfo(dtype).max
    if most > 1 << 52:
        raise NotImplementedError("draws of more than 52 bits; give random_ a range")
    return most


# ---- distributions


@rule("aten.normal.Tensor_Tensor", "aten.normal.Tensor_float")
def normal_around(r: Any, mean: torch.Tensor, std: Any = 1.0, **_: Any) -> torch.Tensor:
    like = torch.broadcast_tensors(mean, std)[0] if isinstance(std, torch.Tensor) else mean
    return normal(r, torch.empty_like(like)) * std + mean


@rule("aten.normal.float_Tensor")
def normal_spread(r: Any, mean: float, std: torch.Tensor, **_: Any) -> torch.Tensor:
    return normal(r, torch.empty_like(std)) * std + mean


@rule("aten.normal.float_float")
def normal_sized(r: Any, mean: float, std: float, size: Any, **options: Any) -> torch.Tensor:
    return normal(r, _made(size, **options)) * std + mean


@rule("aten.normal_functional.default")
def normal_functional(r: Any, x: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> Any:
    return normal(r, x) * std + mean


@rule("aten.bernoulli.default")
def bernoulli(r: Any, x: torch.Tensor) -> torch.Tensor:
    return (fine(r, x) < x).to(x.dtype)


@rule("aten.bernoulli.p")
def bernoulli_p(r: Any, x: torch.Tensor, p: float) -> torch.Tensor:
    return (fine(r, x) < p).to(x.dtype)


@rule("aten.bernoulli_.float", "aten.bernoulli_.Tensor")
def bernoulli_(r: Any, x: torch.Tensor, p: Any = 0.5) -> torch.Tensor:
    return x.copy_(fine(r, x) < p)


@rule("aten.multinomial.default")
def multinomial(r: Any, x: torch.Tensor, count: int, replacement: bool = False) -> torch.Tensor:
    """The first arrivals of a race in which ``i`` takes exponential time of rate ``x[i]``; with
    replacement, the inverse of the distribution function."""
    r.require(torch.isfinite(x).all() & (x >= 0).all(), PROBABILITIES)
    r.require((x.sum(-1) > 0).all(), "invalid multinomial distribution (sum of probabilities <= 0)")
    if replacement and count != 1:
        return _chosen(r, x, count)
    if count != 1:
        r.require(((x > 0).sum(-1) >= count).all(), TOO_FEW)
    speed = x.to(torch.float64) / -torch.log(fine(r, x))
    return speed.argmax(-1, keepdim=True) if count == 1 else speed.topk(count, -1).indices


def _chosen(r: Any, x: torch.Tensor, count: int) -> torch.Tensor:
    ends = torch.cumsum(x.to(torch.float64), -1)
    u = fine(r, ends[..., -1:].expand(*x.shape[:-1], count)) * ends[..., -1:]
    return (u.unsqueeze(-1) >= ends.unsqueeze(-2)).sum(-1)


# ---- layers in training mode


def _dropout(noise_of: Callable[[Any], Any], alpha: bool) -> Rule:
    def call(r: Any, x: torch.Tensor, p: float, train: bool) -> Any:
        if not train or p == 0:
            return NotImplemented
        if p == 1:
            return x * 0
        noise = noise_of(x).bernoulli_(1 - p)
        return _scaled(x, noise, p) if alpha else x * (noise / (1 - p))

    return call


def _scaled(x: torch.Tensor, noise: torch.Tensor, p: float) -> torch.Tensor:
    """Mean and variance stay (Klambauer et al., 2017): dropped elements are the least of SELU."""
    least = 1.7580993408473766
    a = 1 / math.sqrt((least * least * p + 1) * (1 - p))
    return x * (noise * a) + ((noise - 1) * (least * a) + least * a * p)


def _feature_noise(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty((*x.shape[:2], *[1] * (x.dim() - 2)))


def _in_place(call: Rule) -> Rule:
    def write(r: Any, x: torch.Tensor, p: float, train: bool) -> torch.Tensor:
        found = call(r, x, p, train)
        return x if found is NotImplemented else x.copy_(found)

    return write


for _name, _noise, _alpha in (
    ("dropout", torch.empty_like, False), ("alpha_dropout", torch.empty_like, True),
    ("feature_dropout", _feature_noise, False), ("feature_alpha_dropout", _feature_noise, True),
):  # fmt: skip
    _rule = rule(f"aten.{_name}.default")(_dropout(_noise, _alpha))
    rule(f"aten.{_name}_.default")(_in_place(_rule))


@rule("aten.native_dropout.default")
def native_dropout(r: Any, x: torch.Tensor, p: float, train: bool | None) -> Any:
    if not train or p == 0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    mask = torch.empty_like(x).bernoulli_(1 - p)
    return x * (mask / (1 - p) if p < 1 else mask), mask.to(torch.bool)


@rule("aten.rrelu_with_noise.default", "aten.rrelu_with_noise_functional.default")
def rrelu(
    r: Any, x: torch.Tensor, noise: torch.Tensor, low: float = 0.125, high: float = 1 / 3,
    train: bool = False,
) -> Any:  # fmt: skip
    if not train:
        return NotImplemented
    slope = uniform(r, torch.empty_like(x)) * (high - low) + low
    noise.copy_(torch.where(x <= 0, slope, torch.ones_like(x)))
    return x * noise


@rule("aten.scaled_dot_product_attention.default")
def attention(
    r: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None, p: float = 0.0,
    causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """Attention that drops weights; without dropout it stays whole."""
    if not p:
        return NotImplemented
    if enable_gqa:
        share = q.shape[-3] // k.shape[-3]
        k, v = (t.repeat_interleave(share, -3) for t in (k, v))
    weights = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if mask is not None and mask.dtype is torch.bool:
        weights = weights.masked_fill(~mask, -math.inf)
    elif mask is not None:
        weights = weights + mask
    return torch.dropout(torch.softmax(weights, -1), p, True) @ v


def _recurrent(name: str) -> None:
    """Layers with dropout between them, one by one, as torch draws: time before batch."""

    def call(
        r: Any, x: torch.Tensor, states: Any, params: Any, biases: bool, layers: int, p: float,
        train: bool, both: bool, batch_first: bool,
    ) -> Any:  # fmt: skip
        if not train or not p or layers == 1:
            return NotImplemented
        x = x.transpose(0, 1) if batch_first else x
        given, directions = list(states) if name == "lstm" else [states], 2 if both else 1
        share, ends = len(params) // layers, []
        for i in range(layers):
            own = [s[i * directions : (i + 1) * directions] for s in given]
            weights = params[i * share : (i + 1) * share]
            run = getattr(torch, name)
            x, *end = run(
                x, own if name == "lstm" else own[0], weights, biases, 1, 0.0, True, both, False
            )
            ends.append(end)
            x = torch.dropout(x, p, True) if i + 1 < layers else x
        return x.transpose(0, 1) if batch_first else x, *(torch.cat(s) for s in zip(*ends))

    rule(f"aten.{name}.input")(call)


for _name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    _recurrent(_name)
