"""``input_spec``: free sizes from the first capture, refused calls, programs before any call."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oarlock import Dim, InputSpec, Predictor
from oarlock.capture.to_static import to_static
from oarlock.errors import InputError, UnknownName, UnsupportedError, UserError
from oarlock.ir import f32


def fn(x, y):
    return torch.cat([x, y], 1) * x.shape[0] + y.shape[1]


FREE = [InputSpec(("N", 3), f32, "left"), InputSpec(("N", None))]


def test_one_capture_serves_all_sizes():
    static = to_static(fn, input_spec=FREE)
    for n, k in ((2, 2), (5, 1), (1, 7)):
        x, y = torch.randn(n, 3), torch.randn(n, k)
        tape = static.tapes[0] if static.tapes else None
        torch.testing.assert_close(static(x, y), fn(x, y), rtol=0, atol=0)
        torch.testing.assert_close(static(x, y=y), fn(x, y), rtol=0, atol=0)
        assert tape is None or tape in static.tapes
    assert len(static.tapes) == 1  # y by position or by name


@pytest.mark.parametrize(
    "x, y, message",
    [
        (torch.ones(2, 4), torch.ones(2, 1), r"fn: left: expected torch.float32 \[N, 3\], got "
         r"torch.float32 \[2, 4\]: axis 1 is 4, not 3"),
        (torch.ones(2, 3), torch.ones(3, 1), r"fn: y: expected torch.float32 \[N, \?\], got "
         r"torch.float32 \[3, 1\]: axis 0 is 3, but N is 2"),
        (torch.ones(3), torch.ones(3, 1), "1 axes"),
        (torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 1), r"got torch.float64 \[2, 3\]"),
        (None, torch.ones(2, 1), "got NoneType"),
        (torch.ones(0, 3), torch.ones(0, 1), "axis 0, N, is 0, not 1 to any"),
    ],
)  # fmt: skip
def test_calls_that_do_not_fit(x, y, message):
    static = to_static(fn, input_spec=FREE)
    with pytest.raises(InputError, match=message) as caught:
        static(x, y)
    assert caught.value.input in ("left", "y") and not static.tapes


def test_ranges_and_expressions():
    n = Dim("N", min=2, max=4)
    static = to_static(fn, input_spec={"x": InputSpec((n, "K")), "y": InputSpec((n, Dim("K") * 2))})
    for size in (2, 3, 4):
        static(torch.ones(size, 3), torch.ones(size, 6))
    assert len(static.tapes) == 1
    with pytest.raises(InputError, match="axis 0, N, is 5, not 2 to 4"):
        static(torch.ones(5, 3), torch.ones(5, 6))
    with pytest.raises(InputError, match="axis 1 is 5, not 6"):
        static(torch.ones(4, 3), torch.ones(4, 5))


def test_unknown_argument():
    static = to_static(fn, input_spec={"z": InputSpec((1,))})
    with pytest.raises(UserError, match="no argument 'z'; the arguments are x, y"):
        static(torch.ones(1, 1), torch.ones(1, 1))


def test_nested_arguments():
    @to_static(input_spec=[{"a": InputSpec(("N",)), "b": [InputSpec(("N",)), None]}])
    def nested(batch):
        return batch["a"] + batch["b"][0] * batch["b"][1]

    for n in (2, 3):
        nested({"a": torch.ones(n), "b": [torch.ones(n), 2]})
    assert len(nested.tapes) == 1
    with pytest.raises(InputError, match=r"batch\.b: expected 2 items, got 1 items"):
        nested({"a": torch.ones(2), "b": [torch.ones(2)]})


def test_program_before_any_call(tmp_path):
    layer = torch.nn.Linear(3, 2)

    @to_static(input_spec=[InputSpec(("N", 3), torch.float32, "rows"), InputSpec(("T", 2))])
    def model(x, y):
        return torch.cat([layer(x), y])

    model.save(tmp_path / "m.oar")
    (program,) = model.programs
    assert [str(v.type) for v in program.graph.inputs] == ["f32[N,3]", "f32[T,2]"]
    assert [v.name for v in program.graph.inputs] == ["rows", "y"]
    predictor = Predictor(tmp_path / "m.oar")
    for n, t in ((1, 4), (3, 3)):
        x, y = torch.randn(n, 3), torch.randn(t, 2)
        want = model(x, y).detach().numpy()
        np.testing.assert_allclose(
            predictor(x.numpy(), y.numpy()), want, atol=8 * np.finfo("f4").eps * np.abs(want).max()
        )
    assert len(model.tapes) == 1


def test_a_function_that_keeps_something_in_python_has_no_program():
    seen = []

    def fn(x):
        seen.append(1)
        return x * 2

    static = to_static(fn)
    static(torch.ones(2))
    assert len(static.programs) == 1
    with pytest.raises(UnsupportedError, match="an attribute or a buffer"):
        _ = static.programs[0]


@pytest.mark.parametrize("dtype", ["float32", "f32", torch.float32, np.float32, "float"])
def test_element_types_are_named_in_any_usual_way(dtype):
    assert InputSpec([None, 3], dtype) == InputSpec([None, 3], "f32")


def test_an_unknown_element_type_is_refused():
    with pytest.raises(UnknownName, match="no element type 'floaty'; expected one of f64, f32"):
        InputSpec([1], "floaty")


class Counter:
    def __init__(self):
        self.calls, self.last = 0, torch.zeros(2)

    def __call__(self, x):
        self.calls += 1
        self.last = self.last * 0.5 + x * self.calls
        return self.last


def test_an_object_that_is_called_keeps_its_state():
    ours, plain = Counter(), Counter()
    static = to_static(ours)
    for _ in range(4):
        assert torch.equal(static(torch.ones(2)), plain(torch.ones(2)))
    assert ours.calls == plain.calls == 4 and static.captures <= 2
    assert "Counter.__call__" in static.report()


def test_more_specs_than_arguments_are_refused():
    with pytest.raises(UserError, match="of fn: 3 specs for the arguments x, y"):
        list(to_static(fn, input_spec=[*FREE, InputSpec((1,))]).programs)
