"""What a caller may pass for a tensor, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from oarlock.errors import InputError
from oarlock.ir import TensorType, bf16, bool_, f16, f32, f64, i8, i32, i64
from oarlock.runtime import arrays

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def given(x, dtype=f32):
    return arrays.as_dense(x, TensorType(dtype, (2, 3)), "x")


def test_in_place():
    assert given(X) is X
    frozen = X.copy()
    frozen.flags.writeable = False
    assert given(frozen) is frozen


def misaligned() -> np.ndarray:
    raw = np.zeros(25, np.uint8)
    view = raw[1:].view(np.float32).reshape(2, 3)
    view[...] = X
    return view


STRIDED = {
    "fortran": np.asfortranarray(X),
    "sliced": np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": X[::-1, ::-1].copy()[::-1, ::-1],
    "broadcast": np.broadcast_to(X[:1], (2, 3)),
    "misaligned": misaligned(),
    "big endian": X.astype(">f4"),
}


@pytest.mark.parametrize("case", STRIDED)
def test_copied(case):
    x = given(STRIDED[case])
    assert np.array_equal(x, STRIDED[case])
    assert x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative


CONVERTED = [
    (np.int32(3), i64), (np.ones((2, 3), np.uint8), f32), (X, f64), ([[1, 2, 3], [4, 5, 6]], f32),
    ([[1, 2, 3], [4, 5, 6]], i8), (2, i64), (2.5, f16), (True, bool_), (True, f32), ([], i32),
]  # fmt: skip


@pytest.mark.parametrize("x, dtype", CONVERTED)
def test_converted(x, dtype):
    found = given(x, dtype)
    assert found.dtype == dtype.numpy
    assert np.array_equal(found, np.asarray(x, dtype.numpy))


REFUSED = [
    (X.astype(np.float64), f32, "got float64[2, 3]; pass x.astype('float32')"),
    (np.ones((2, 3), np.int64), i32, "got int64[2, 3]; pass x.astype('int32')"),
    (X, i64, "got float32[2, 3]; pass x.astype('int64')"),
    (300, i8, "got int 300; its values do not fit"),
    (1.5, i64, "got float 1.5; its values do not fit"),
    (1, bool_, "got int 1; its values do not fit"),
    (X, bf16, "got float32[2, 3]; pass the bits as uint16, or a torch.bfloat16 tensor"),
    ("text", f32, "got <U4[]"),
    (np.array([None]), f32, "got object[1]"),
    (X + 1j, f32, "got complex64[2, 3]"),
    ([[1], [2, 3]], f32, "got a list: setting an array element with a sequence"),
    (np.ma.masked_array(X, X > 1), f32, "got a masked array; pass x.filled(value)"),
    (None, f32, "got None"),
]  # fmt: skip


@pytest.mark.parametrize("x, dtype, got", REFUSED)
def test_refused(x, dtype, got):
    with pytest.raises(InputError) as caught:
        given(x, dtype)
    assert caught.value.input == "x"
    assert got in str(caught.value)
    assert str(caught.value).startswith("input 'x'")
    assert f"expected {dtype}[2,3]" in str(caught.value)


def test_addresses():
    for x in (X, X[1:], np.empty((0, 3)), np.array(1, np.float32), STRIDED["fortran"]):
        assert arrays.address(x) == x.ctypes.data
    assert arrays.aligned_empty(100).ctypes.data % 64 == 0


def test_torch():
    torch = pytest.importorskip("torch")
    t = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    assert given(t).ctypes.data == t.data_ptr()
    assert np.array_equal(given(t.T.contiguous().T), X)
    assert given(t.requires_grad_()).shape == (2, 3)
    half = torch.tensor([[1.0, 2, 3]], dtype=torch.bfloat16)
    assert given(half, bf16).tolist() == [[0x3F80, 0x4000, 0x4040]]
    assert given(half, f32).tolist() == [[1, 2, 3]]
    back = arrays.to_torch(np.array([0x3F80], np.uint16), bf16)
    assert back.dtype is torch.bfloat16 and back.item() == 1


def test_torch_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match=r"got a tensor on meta; pass x.cpu\(\)"):
        given(torch.empty(2, 3, device="meta"))
    with pytest.raises(InputError, match=r"got a torch.sparse_coo tensor; pass a dense one"):
        given(torch.zeros(2, 3).to_sparse())
    with pytest.raises(InputError, match=r"got float64\[2, 3\]"):
        given(torch.zeros(2, 3, dtype=torch.float64))


def test_nan():
    assert arrays.has_nan(np.array([1, np.nan], np.float32), f32)
    assert arrays.has_nan(np.array([0x7FC0], np.uint16), bf16)
    assert not arrays.has_nan(np.array([0x7F80], np.uint16), bf16)
    assert not arrays.has_nan(np.array([1]), i64)
