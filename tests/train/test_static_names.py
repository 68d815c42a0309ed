"""Parameters by name: create_parameter, scopes, state dicts, lists of names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oarlock import static
from oarlock.errors import ArgumentError


def regression():
    """A program of created parameters, and its loss."""
    with static.program_guard(static.Program()) as program:
        x, y = static.data("x", [None, 3]), static.data("y", [None])
        w = static.create_parameter([3, 1], name="w")
        b = static.create_parameter([1], name="b")
        loss = ((x @ w + b)[:, 0] - y).square().mean()
    return program, loss


@pytest.fixture(autouse=True)
def scope():
    with static.scope_guard(static.Scope()) as scope:
        yield scope


def test_created_parameters_train_and_are_found_by_name(scope):
    program, loss = regression()
    assert static.global_scope() is scope and set(program.parameters()) == {"w", "b"}
    w, b = scope.find_var("w"), scope.var("b")
    with static.program_guard(program):
        static.minimize(torch.optim.SGD([w, b], lr=0.1), loss)
    rng, truth = np.random.default_rng(0), np.array([1.0, -2.0, 0.5], np.float32)
    exe = static.Executor()
    for _ in range(200):
        x = rng.standard_normal((16, 3)).astype(np.float32)
        exe.run(program, {"x": x, "y": x @ truth + 3}, [loss])
    # noise-free least squares: the error shrinks by a constant factor each step
    np.testing.assert_allclose(scope.find_var("w").detach().numpy()[:, 0], truth, atol=1e-4)
    assert abs(float(b.detach()) - 3) < 1e-4
    assert scope.find_var("nothing") is None
    with pytest.raises(ArgumentError, match="no parameter 'nothing' in the scope; names: w, b"):
        scope.var("nothing")


def test_a_name_is_one_parameter_in_a_scope(scope):
    w = static.create_parameter([3, 1], name="w")
    assert static.create_parameter([3, 1], name="w") is w
    with static.scope_guard(static.Scope()):
        assert static.create_parameter([3, 1], name="w") is not w
    with pytest.raises(ArgumentError, match=r"'w' is torch.float32 \[3, 1\] in this scope"):
        static.create_parameter([4, 1], name="w")
    ones = static.create_parameter([2], default_initializer=torch.nn.init.ones_)
    assert ones.tolist() == [1, 1] and static.create_parameter([5, 2], is_bias=True).sum() == 0


def test_state_dicts():
    program, loss = regression()
    state = {k: v.clone() for k, v in program.state_dict().items()}
    program.set_state_dict({"w": np.full((3, 1), 2, np.float32), "b": torch.ones(1)})
    feed = {"x": np.ones((1, 3), np.float32), "y": np.zeros(1, np.float32)}
    assert static.Executor().run(program, feed, [loss])[0] == 49
    with pytest.raises(ArgumentError) as error:
        program.set_state_dict({"w": torch.ones(3), "c": torch.ones(1)})
    assert str(error.value) == (
        "set_state_dict: does not fit the program:\n  b is missing\n  c is not in the program\n"
        "  w: expected torch.float32 [3, 1], got torch.float32 [3]"
    )
    program.set_state_dict(state)
    assert all(torch.equal(v, state[k]) for k, v in program.state_dict().items())


def test_gradients_of_named_parameters():
    program, loss = regression()
    w, b = (program.parameters()[k] for k in "wb")
    with static.program_guard(program):
        assert [p is w for p, _ in static.append_backward(loss, ["w"])] == [True]
        assert [p is b for p, _ in static.append_backward(loss, no_grad_set={"w"})] == [True]
        with pytest.raises(ArgumentError, match="no_grad_set: no parameter 'v' in this program"):
            static.append_backward(loss, no_grad_set=["v"])
