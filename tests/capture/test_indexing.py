"""Several index tensors at once: each stays inside of its own axis, as in eager."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import oarlock  # noqa: E402
from oarlock.errors import InputError  # noqa: E402

READ = (lambda x, i, j: x[i, j], lambda x, i, j: x[i, :, j])
WRITE = (lambda x, i, j: x.index_put((i, j), x[0, 0]),)


@pytest.mark.parametrize("model", [*READ, *WRITE])
def test_an_index_outside_of_its_axis_is_refused(model):
    x = torch.arange(60.0).reshape(3, 4, 5)
    i, j = torch.tensor([0, 2, -1]), torch.tensor([1, -4, 3])
    program = oarlock.capture(model, (x, i, j))
    predictor = oarlock.Predictor(program)
    arrays = [a.numpy() for a in (x, i, j)]
    expected = model(x, i, j).numpy()
    np.testing.assert_array_equal(oarlock.evaluate(program, *arrays), expected)
    for run in (predictor, lambda *a: oarlock.evaluate(program, *a)):
        with pytest.raises(InputError, match="range"):
            run(arrays[0], arrays[1], np.array([1, 7, 3]))
        with pytest.raises(InputError, match="range"):
            run(arrays[0], np.array([0, -4, 1]), arrays[2])
    np.testing.assert_array_equal(predictor(*arrays), expected)
