"""Tensors: reading numbers, sizes, indexing, masks, in-place updates, views, dynamic sizes."""

import numpy as np
import torch

from tests.constructs.case import case, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)


@case(POS, NEG)
def item_arithmetic(x):
    s = x.sum().item()
    return x * s + s**2 - abs(s) / 2


@case(t(7.5, 2.25), t(-3.5, 1.0))
def int_float_round(x):
    a, b = int(x[0]), float(x[1])
    return x * a + b, round(b, 1), a // 2, a % 3, -a


@case((r(6), t(3)), (r(6), t(1)))
def sizes_from_data(x, n):
    k = int(n)
    return x[:k], torch.zeros(k), torch.arange(k), x.new_ones(k, 2)


@case((r(6), t(3)), (r(6), t(2)))
def reshape_from_data(x, n):
    return x.view(n.item(), -1)


@case((r(2, 3), t(3)), (r(2, 3), t(1)))
def repeat_from_data(x, n):
    return x.repeat(int(n), 1).sum(0)


@case(r(4, 3), r(2, 3), r(1, 3))
def shape_arithmetic(x):
    b, c = x.shape
    return x.reshape(b * c) / (b + c), x.numel(), x.dim()


@case(r(4, 3), r(2, 5), r(1, 1))
def size_in_message(x):
    h, w = x.size()
    pad = (4 - h % 4) % 4
    y = torch.nn.functional.pad(x, (0, 0, 0, pad))
    return y.view(-1, 4, w).sum(1)


@case(r(4, 3), r(3, 4), r(3, 3))
def square_or_not(x):
    if x.shape[0] == x.shape[1]:
        return x
    return x @ x.t() if x.shape[0] < x.shape[1] else x.t() @ x


@case(POS, t(-1.0, 2.0, -3.0), t(-1.0, -1.0, -2.0))
def boolean_mask(x):
    kept = x[x > 0]
    return kept * 2, kept.shape[0]


@case(POS, t(-1.0, 2.0, -3.0), NEG)
def boolean_mask_empty_check(x):
    kept = x[x > 0]
    if kept.numel() == 0:
        return torch.zeros(())
    return kept.mean()


@case(POS, t(-1.0, 2.0, -3.0), NEG)
def len_of_mask(x):
    kept = x[x > 0]
    if len(kept) > 2:
        return kept.sum()
    return x.sum() + len(kept)


@case(t(0, 3, 0, 4), t(0, 0, 0, 0), t(1, 1, 1, 1), grad=False)
def nonzero_loop(x):
    total = torch.tensor(0)
    for i in x.nonzero():
        total = total + x[i[0]] * i[0]
    return total


@case(t(0.0, 3.0, 0.0, 4.0), t(0.0, 0.0, 0.0, 0.0))
def where_one_argument(x):
    (i,) = torch.where(x > 0)
    return x[i].sum() + i.sum()


@case(t(3, 1, 3, 2), t(1, 1, 1, 1), grad=False)
def unique_loop(x):
    values, counts = torch.unique(x, return_counts=True)
    out = []
    for v, c in zip(values, counts):
        if c > 1:
            out.append(v * 10)
        else:
            out.append(v)
    return torch.stack(out)


@case(t([[1.0, -2.0], [3.0, 4.0]]), t([[-1.0, -2.0], [-3.0, -4.0]]))
def masked_select_and_count(x):
    kept = torch.masked_select(x, x > 0)
    if kept.shape[0] > 0:
        return kept.max()
    return x.min()


@case(POS, NEG)
def slice_assignment(x):
    y = x.clone()
    if x.sum() > 0:
        y[0] = 10.0
    else:
        y[1:] = x[:2]
    return y


@case((POS, t(1)), (NEG, t(2)))
def index_assignment_by_tensor(x, i):
    y = torch.zeros(3)
    y[i] = x[i] * 2
    y[i - 1] += 1
    return y


@case(POS, NEG)
def mask_assignment(x):
    y = x * 1
    y[y > 1] = 0.5
    if y.sum() > 0:
        y[y < 1] *= 2
    return y


@case((r(3), t(4)), (r(3), t(0)))
def slice_assignment_in_loop(x, n):
    out = torch.zeros(5, 3)
    for i in range(n):
        out[i] = x * i
    return out


@case((r(3, 4), t(2)), (r(3, 4), t(0)))
def views_updated_in_loop(x, n):
    y = x.clone()
    row = y[1]
    for i in range(n):
        row.add_(i + 1)
        y[:, i] = 0
    return y, row


@case(POS, NEG, grad=False)
def input_in_place(x):
    if x.sum() > 0:
        x.mul_(2)
    else:
        x[0] = 5
    x += 1
    return x


@case((POS, NEG), (NEG, POS), grad=False)
def swap_in_place(x, y):
    if x.sum() > y.sum():
        tmp = x.clone()
        x.copy_(y)
        y.copy_(tmp)


@case(POS, NEG)
def in_place_on_intermediate(x):
    y = x * 2
    if x.sum() > 0:
        y.add_(1).clamp_(max=5)
    y *= x
    return y


@case(POS, NEG)
def augmented_assignments(x):
    a = x.clone()
    a += 1
    a -= x
    a *= 2
    a /= 3
    a **= 2
    b = (a * 10).long()
    b //= 2
    b %= 5
    b <<= 1
    b |= 1
    b &= 6
    b ^= 3
    b >>= 1
    return a if x.sum() > 0 else -a, b


@case(POS, NEG)
def out_argument(x):
    y = torch.empty(3)
    torch.add(x.detach(), 1, out=y)
    return y * x if x.sum() > 0 else y


@case(r(4, 5), r(3, 2))
def fancy_indexing(x):
    i = torch.arange(x.shape[0]).flip(0)
    y = x[i, 0] + x[..., -1] + x[:, None, 0].squeeze()
    return x[i][:, ::2], y if y.sum() > 0 else y * 0


@case((r(5), t(3, 1)), (r(5), t(0, 4)))
def gather_scatter(x, i):
    y = x.gather(0, i)
    z = torch.zeros(5).scatter_add(0, i, y)
    return z if z.sum() > 0 else z * 2


@case(t(5.0, 1.0, 4.0), t(1.0, 2.0, 3.0))
def sort_topk_argmax(x):
    v, i = x.sort(descending=True)
    k = x.argmax()
    if k == i[0] and k > 1:
        return v[:2], x[k], x.topk(2).values
    return x


@case(t(5.0, 1.0, 4.0), t(1.0, 2.0, 3.0))
def bubble_sort(x):
    x = x.clone()
    for i in range(len(x)):
        for j in range(len(x) - 1 - i):
            if x[j] > x[j + 1]:
                a, b = x[j].clone(), x[j + 1].clone()
                x[j], x[j + 1] = b, a
    return x


@case(t(5, 1, 4), t(1, 2, 3), grad=False)
def insertion_sort_list(x):
    out = []
    for v in x:
        k = len(out)
        for i, w in enumerate(out):
            if v < w:
                k = i
                break
        out.insert(k, v)
    return torch.stack(out)


@case((t(1, 3, 5, 7), t(5)), (t(1, 3, 5, 7), t(2)), grad=False)
def binary_search(xs, v):
    lo, hi = 0, len(xs) - 1
    while lo <= hi:
        mid = (lo + hi) // 2
        if xs[mid] == v:
            return mid
        if xs[mid] < v:
            lo = mid + 1
        else:
            hi = mid - 1
    return -1


@case(POS, NEG)
def tensor_from_numbers(x):
    s = float(x.sum())
    y = torch.tensor([s, s * 2, 1.0])
    z = torch.full((2,), s)
    return y if s > 0 else y - 1, z, torch.as_tensor(s)


@case(POS, NEG)
def scalar_tensor_from_python_condition(x):
    n = 0
    for v in x:
        n += int(v > 1.5)
    return x * n, n


@case(POS, NEG)
def count_bools(x):
    n = sum(1 for v in x if v > 1.5)
    return x + n


@case(POS, NEG)
def numpy_constants(x):
    k = np.float32(2.0)
    w = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    y = x * float(k) + torch.from_numpy(w)
    if y.sum() > np.pi:
        return y * np.sqrt(2.0)
    return y


@case((POS, np.float64(2.0)), (NEG, np.float64(2.0)), captures=2)
def numpy_argument(x, k):
    if x.sum() > 0:
        return x * k
    return x


@case(POS, NEG)
def dtype_attribute(x):
    if x.dtype == torch.float32 and x.is_floating_point():
        y = x.double()
    if y.sum() > 0:
        return y.to(x.dtype)
    return y.type_as(x) * 2


@case(r(3, 2), r(5, 2))
def iterate_columns(x):
    out = []
    for col in x.t():
        out.append(col.max() if col.sum() > 0 else col.min())
    return out


@case(t(2.0), t(-2.0))
def scalar_math(x):
    import math

    v = x.item()
    y = math.exp(v) + math.floor(v) + math.sqrt(v * v)
    return x * y if y > 3 else x + math.pi


@case((r(3), t(0.5)), (r(3), t(-0.5)))
def clamp_by_item(x, lim):
    lo = lim.item()
    return x.clamp(min=lo) if lo > 0 else x.clamp(max=-lo)


@case((r(3, 4), t(1)), (r(3, 4), t(0)))
def axis_from_data(x, d):
    return x.sum(dim=int(d))


@case((r(6), t(2)), (r(6), t(4)))
def split_by_data(x, n):
    a, b = x.split([int(n), 6 - int(n)])
    return a.sum() - b.sum() if len(a) > 3 else a.sum()


@case((r(6), t(2)), (r(6), t(4)))
def narrow_and_roll(x, n):
    return x.narrow(0, 1, n.item()), x.roll(int(n))


@case((r(3, 2), t([True, False, True])), (r(3, 2), t([False, False, False])))
def mask_rows_then_matmul(x, keep):
    y = x[keep]
    if y.size(0) == 0:
        return x.new_zeros(2, 2)
    return y.t() @ y


@case(POS, NEG)
def comparisons_give_tensors(x):
    a = x > 1
    b = x == 2
    return a.sum() + b.sum() if (a & b).any() else a.sum()


@case((POS, POS + 1), (NEG, POS))
def where_three_arguments(x, y):
    z = torch.where(x > y, x, y)
    return z if z.sum() > 5 else torch.where(x > 0, x, 0.0)


@case(t([[1.0, 2.0], [3.0, 4.0]]), t([[-1.0, 2.0], [3.0, -4.0]]))
def multi_dim_loop_assignment(m):
    out = torch.zeros_like(m)
    for i in range(m.shape[0]):
        for j in range(m.shape[1]):
            if m[i, j] > 0:
                out[i, j] = m[i, j] ** 2
            else:
                out[j, i] = -1
    return out


@case(POS, NEG, every_line=False)
def is_tensor_checks(x):
    if torch.is_tensor(x) and isinstance(x, torch.Tensor) and type(x) is torch.Tensor:
        return x * 2 if x.sum() > 0 else x
    return None


@case((POS, POS), (NEG, POS), captures=2)
def identity_of_tensors(x, y):
    z = x
    if z is x and x is not y and y.sum() > 0:
        return x + y
    return x


@case(POS, NEG)
def device_and_layout(x):
    y = torch.zeros(3, device=x.device, dtype=x.dtype)
    return (y + x).contiguous().to("cpu") if x.sum() > 0 else y


@case(t(1.5), t(2.5))
def format_number(x):
    name = f"{x.item():.2f}"
    return x, name


@case((r(5, 3), r(4, 3)), (r(2, 3), r(7, 3)))
def two_dynamic_sizes(x, y):
    n = min(x.shape[0], y.shape[0])
    return torch.cat([x[:n], y[:n]], 1) if x.shape[0] != y.shape[0] else x


@case(t(4, 2), t(1, 5), grad=False)
def arange_of_data(x):
    out = torch.arange(x[0].item(), x[0].item() + x[1].item())
    return out * 2 if out.numel() > 3 else out


@case(t(1.0, 0.0), t(float("inf"), 1.0), t(float("nan"), 1.0))
def isnan_isfinite(x):
    if torch.isnan(x).any():
        return torch.nan_to_num(x)
    if not torch.isfinite(x).all():
        return x.clamp(max=1e6)
    return x + 1


@case((r(3, 3), t(2)), (r(3, 3), t(0)))
def matrix_power(m, n):
    out = torch.eye(3)
    for _ in range(n):
        out = out @ m
    return out


@case(t(2 + 3j), t(-2 + 3j), grad=False)
def complex_numbers(z):
    return z.conj() if z.real > 0 else z * 1j
