"""Shortcuts of captures give what the long ways give: remembered fakes, walks over trees, collections."""

from __future__ import annotations

import ast
import gc
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from oarlock.capture import quick_fakes
from oarlock.capture.convert import source
from oarlock.capture.convert.source import copy_tree
from oarlock.capture.convert.walking import locate
from oarlock.capture.quick_fakes import QuickFakeMode
from oarlock.capture.tape.garbage import rare_collections

CALLS = {
    "add": lambda x, i, b: x + x.t().contiguous().reshape(x.shape),
    "of two types": lambda x, i, b: (x * i.sum(), i + 1, i + 1.0, i / 2, x.double() + x, i // 2),
    "of a number and of a truth": lambda x, i, b: (i * True, i * 1, i * 1.0, b * 1, b + 1.5),
    "views": lambda x, i, b: (x.t(), x[1:], x[1:].t()[1:], x.view(-1)[1::2], x.expand(2, 3, 4)),
    "view of another type": lambda x, i, b: x.view(torch.int32),
    "sums": lambda x, i, b: (x.sum(), x.sum(0), x.t().sum(1, True), x.mean(-1), x.max(), b.any()),
    "orders": lambda x, i, b: (x.t() + 1, x.t().clone(), x.t().relu(), torch.cat([x, x]), x.stride()),
    "in place": lambda x, i, b: (x.clone().add_(1), x.clone().t().mul_(2), x.clone().zero_()),
    "squeezed in place": lambda x, i, b: (x.clone().unsqueeze_(0), x.clone().t_()),
    "products": lambda x, i, b: (F.linear(x, x), x @ x.t(), torch.addmm(x, x @ x.t(), x)),
    "picks": lambda x, i, b: (x[i], x.index_select(0, i), x.gather(1, x.long() * 0), torch.where(b, 1, i)),
    "made": lambda x, i, b: (torch.zeros(3, device="cpu"), torch.ones(2, 3), x.new_empty(2), x * 0),
    "softmax": lambda x, i, b: (x.softmax(-1), F.layer_norm(x, [4]), F.dropout(x, 0.5)),
    "complex": lambda x, i, b: (torch.complex(x, x).conj() * 2, torch.complex(x, x).imag + 1),
    "of several": lambda x, i, b: (x.topk(2), x.sort(), x.unbind(), x.split(2)),
}  # fmt: skip


def looks(tree):
    if isinstance(tree, (tuple, list)):
        return [looks(x) for x in tree]
    if not isinstance(tree, torch.Tensor):
        return tree
    return (tree.shape, tree.stride(), tree.storage_offset(), tree.dtype, tree.device.type,
            tree.requires_grad, tree.is_conj(), tree._is_view(), tree._version)  # fmt: skip


def ran(mode, call, grad):
    x, i, b = torch.ones(3, 4), torch.tensor([0, 2]), torch.tensor([True, False])
    given = [mode.from_tensor(v) for v in (x.requires_grad_(grad), i, b)]
    with mode:
        return looks(call(*given))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_remembered_results_look_like_those_of_torch(name, grad):
    want = ran(FakeTensorMode(allow_non_fake_inputs=True), CALLS[name], grad)
    assert ran(QuickFakeMode(), CALLS[name], grad) == want
    assert ran(QuickFakeMode(), CALLS[name], grad) == want  # now from memory


def test_a_view_shares_the_memory_of_its_own_tensor():
    mode = QuickFakeMode()
    with mode:
        for _ in range(2):
            x, y = torch.empty(4, device="cpu"), torch.empty(4, device="cpu")
            x[1:].add_(1)
            assert (x._version, y._version) == (1, 0)
            assert x[1:].untyped_storage()._cdata == x.untyped_storage()._cdata


def test_default_types_count():
    mode = QuickFakeMode()
    x = mode.from_tensor(torch.tensor([1, 2]))
    with mode:
        found = [(x / 2).dtype]
        torch.set_default_dtype(torch.float64)
        try:
            found.append((x / 2).dtype)
        finally:
            torch.set_default_dtype(torch.float32)
    assert found == [torch.float32, torch.float64]


def test_errors_are_torchs():
    mode = QuickFakeMode()
    x, y = mode.from_tensor(torch.ones(3)), mode.from_tensor(torch.ones(4))
    with mode:
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"size of tensor|broadcast"):
                x + y


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(quick_fakes, "_MANY", 3)
    mode = QuickFakeMode()
    x = mode.from_tensor(torch.ones(3))
    with mode:
        for n in range(10):
            assert (x + n).shape == (3,)
    assert len(quick_fakes._known) <= 4


def test_trees_get_the_places_that_ast_gives_them():
    tree = ast.parse(inspect.getsource(source))
    for n, node in enumerate(ast.walk(tree)):
        for name in ("lineno", "col_offset", "end_lineno", "end_col_offset"):
            if hasattr(node, name) and n % 3:
                delattr(node, name)
    mine = copy_tree(tree)
    locate(mine)
    ast.fix_missing_locations(tree)
    shown = [ast.dump(t, include_attributes=True) for t in (mine, tree)]
    assert shown[0] == shown[1]


def test_thresholds_of_the_collector_are_put_back():
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="in"), rare_collections(), rare_collections():
        assert gc.get_threshold()[0] > before[0]
        raise ValueError("in")
    assert gc.get_threshold() == before
    gc.set_threshold(0, 0, 0)
    try:
        with rare_collections():
            assert gc.get_threshold() == (0, 0, 0)
    finally:
        gc.set_threshold(*before)
