"""Arithmetic of numbers from data that is an error in Python is one in a program, too."""

import math

import numpy as np
import pytest
import torch

import oarlock


def count(x):
    return int((x > 0).sum())


def total(x):
    return x.sum().item()


PROGRAMS = {
    "whole division": lambda x: x * (10 // count(x)),
    "whole remainder": lambda x: x * (10 % count(x)),
    "division of ints": lambda x: x * (10 / count(x)),
    "division": lambda x: x * (1.0 / total(x)),
    "floor division": lambda x: x * (5.0 // total(x)),
    "remainder": lambda x: x * (5.0 % total(x)),
    "negative power": lambda x: x * total(x) ** -1,
    "root": lambda x: x * math.sqrt(total(x) - 1),
    "logarithm": lambda x: x * math.log(total(x)),
    "exponential": lambda x: x * math.exp(total(x) * 800 - 2000),
    "arc": lambda x: x * math.asin(total(x) / 3),
    "int of NaN": lambda x: x * int(total(x)),
    "ceil of infinity": lambda x: x * math.ceil(total(x)),
    "empty stack": lambda x: torch.stack([row for row in x if row > 0]),
}
CALLS = [[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [math.nan, 1.0], [math.inf, 0.0], [2.0, 2.0]]


def outcome(function, x):
    """What a call gives; the text of its error alone where there is one."""
    try:
        return np.asarray(function(x))
    except (ArithmeticError, ValueError, RuntimeError, oarlock.errors.ModelError) as error:
        return str(error)


def assert_same(found, expected):
    if isinstance(expected, str):
        assert isinstance(found, str) and expected in found
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_saved_program_fails_where_eager_does(name: str, tmp_path):
    static = oarlock.to_static(PROGRAMS[name])
    static(torch.tensor(CALLS[0]))
    static.save(tmp_path / "it.oar")
    predictor = oarlock.Predictor(tmp_path / "it.oar")
    for call in CALLS:
        expected = outcome(PROGRAMS[name], torch.tensor(call))
        assert_same(outcome(predictor, np.array(call, np.float32)), expected)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_compiled_function_fails_where_eager_does(name: str):
    try:
        static = oarlock.to_static(PROGRAMS[name], backend="compiled")
        static(torch.tensor(CALLS[0]))
    except oarlock.errors.UnsupportedError:
        static = oarlock.to_static(PROGRAMS[name])
    for call in CALLS:
        expected = outcome(PROGRAMS[name], torch.tensor(call))
        assert_same(outcome(static, torch.tensor(call)), expected)


def test_a_division_that_is_not_reached_is_no_error(tmp_path):
    def share(x):
        n = count(x)
        return x * (10 // n) if n > 0 else x - 1

    static = oarlock.to_static(share)
    static(torch.tensor(CALLS[0]))
    static.save(tmp_path / "it.oar")
    predictor = oarlock.Predictor(tmp_path / "it.oar")
    for call in CALLS:
        x = torch.tensor(call)
        np.testing.assert_allclose(predictor(x.numpy()), share(x).numpy())


def test_a_count_kept_in_a_tensor_may_be_zero():
    def mean(x):
        seen = torch.zeros(())
        seen += (x > 0).sum()
        return x * (1 / seen.item())

    try:
        static = oarlock.to_static(mean, backend="compiled")
        static(torch.tensor(CALLS[0]))
    except oarlock.errors.UnsupportedError:
        static = oarlock.to_static(mean)
    for call in CALLS:
        assert_same(outcome(static, torch.tensor(call)), outcome(mean, torch.tensor(call)))


def test_what_an_optimizer_divides_by_is_sound():
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.Adam(model.parameters())

    @oarlock.to_static(backend="compiled")
    def step(x):
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        step(torch.ones(8, 64))
    assert "compiled" in step.report()
