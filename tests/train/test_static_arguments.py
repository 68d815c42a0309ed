"""Wrong arguments of static programs are told, and the program goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oarlock import static
from oarlock.errors import ArgumentError, ArgumentTypeError, UnsupportedError, UserError

LINEAR = torch.nn.Linear(3, 3)
FEED = {"x": np.ones((2, 3), np.float32)}
WRONG = {
    "shape of data": (lambda y, loss: static.data("q", 3), "expected a list of sizes, got 3"),
    "type of data": (lambda y, loss: static.data("q", [3], "float99"), "dtype: .* 'float99'"),
    "name": (lambda y, loss: static.name(y, 3), "name: expected a text, got 3"),
    "if": (lambda y, loss: 1 if loss > 0 else 2, r"static.cond or static.while_loop"),
    "float": (lambda y, loss: float(loss), r"a plain float .* Executor\(\).run"),
    "structures": (
        lambda y, loss: static.cond(loss > 0, lambda: y, lambda: (y, y)),
        "give both paths the same",
    ),
    "parameters": (lambda y, loss: static.append_backward(loss, 5), "parameter_list: .* got int"),
    "inputs": (lambda y, loss: static.gradients(loss, 5), "inputs: expected tensors, got 5"),
    "shape": (lambda y, loss: static.create_parameter(3), "shape: expected a list of sizes, got 3"),
    "initializer": (
        lambda y, loss: static.create_parameter([3], default_initializer=5), "fills a tensor"
    ),
    "type": (lambda y, loss: static.create_parameter([3], "foo"), "^dtype: .* 'foo'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_under_a_guard(case):
    make, text = WRONG[case]
    main = static.Program()
    with static.program_guard(main):
        y = LINEAR(static.data("x", [None, 3]))
        with pytest.raises(
            (ArgumentError, ArgumentTypeError, UnsupportedError, UserError), match=text
        ):
            make(y, y.mean())
    found = static.Executor(backend="replay").run(main, FEED, y)[0]  # one value is a list of one
    assert np.allclose(found, LINEAR(torch.ones(2, 3)).detach().numpy(), atol=1e-6)
    with pytest.raises(ArgumentTypeError, match=r"set_state_dict: expected a dict .* got int"):
        main.set_state_dict(5)
