"""if, elif, else, conditional expressions, boolean operators, comparisons."""

import torch
import torch.nn.functional as F

from tests.constructs.case import case, kw, r, t

POS, NEG, ZERO = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0), t(0.0, 0.0, 0.0)


@case(POS, NEG, r(5))
def if_else(x):
    if x.sum() > 0:
        y = x * 2
    else:
        y = x - 1
    return y


@case(POS, NEG, double=True)
def if_else_cubed(x):
    if x.sum() > 0:
        y = x**3
    else:
        y = x.sin() * x
    return y


@case(POS, NEG)
def if_without_else(x):
    y = x + 1
    if x.mean() > 0:
        y = y * x
    return y


@case(POS, NEG, ZERO, t(9.0, 9.0, 9.0))
def elif_chain(x):
    s = x.sum()
    if s > 20:
        return x / s
    elif s > 0:
        x = x * 2
    elif s < 0:
        x = -x
    else:
        x = x + 10
    return x + s


@case((POS, NEG), (NEG, POS), (POS, POS), (NEG, NEG))
def nested_if(x, y):
    if x.sum() > 0:
        if y.sum() > 0:
            z = x + y
        else:
            z = x - y
    else:
        if y.sum() > 0:
            z = x * y
        else:
            z = x / y
    return z


@case(POS, NEG)
def if_pass(x):
    if x.sum() > 0:
        pass
    else:
        x = x.abs()
    return x


@case(POS, NEG)
def if_not(x):
    if not x.sum() > 0:
        return x * 3
    return x


@case(POS, NEG)
def only_one_side_defines_then_both(x):
    if x.sum() > 0:
        a = x + 1
    if x.sum() > 0:
        b = a * 2
    else:
        b = x
    return b


@case(POS, NEG)
def undefined_on_one_side_unused(x):
    if x.sum() > 0:
        scratch = x * 2
        y = scratch + 1
    else:
        y = x
    return y


@case(POS, NEG)
def undefined_on_one_side_raises(x):
    if x.sum() > 0:
        y = x + 1
    return y


@case(POS, NEG)
def several_variables(x):
    a, b, c = x, x, x
    if x.sum() > 0:
        a = b * 2
        c = a + b
    else:
        b = a - 1
        c = c * b
    return a, b, c


@case(POS, NEG)
def swap_in_branch(x):
    a, b = x + 1, x * 2
    if x[0] > 0:
        a, b = b, a
    return a - b


@case(POS, NEG)
def same_name_other_shape(x):
    if x.sum() > 0:
        y = x.sum()
    else:
        y = x
    return y * 2


@case(POS, NEG)
def branches_of_other_sizes(x):
    if x.sum() > 0:
        y = torch.cat([x, x])
    else:
        y = x[:1]
    return y.sum() + y.shape[0]


@case(POS, NEG)
def returns_other_shapes(x):
    if x.sum() > 0:
        return torch.cat([x, x])
    return x[:1]


@case(POS, NEG)
def ternary(x):
    return x * 2 if x.sum() > 0 else x - 1


@case(POS, NEG, ZERO)
def ternary_nested(x):
    s = x.sum()
    return x * (2 if s > 0 else (3 if s < 0 else 4))


@case(POS, NEG)
def ternary_in_call(x):
    return F.leaky_relu(x, 0.1 if x.max() > 2 else 0.5)


@case(POS, NEG)
def ternary_python_numbers(x):
    k = 1 if x.sum() > 0 else 2
    return x * k, k


@case((POS, NEG), (NEG, POS), (POS, POS), (NEG, NEG))
def bool_and(x, y):
    if x.sum() > 0 and y.sum() > 0:
        return x + y
    return x - y


@case((POS, NEG), (NEG, POS), (POS, POS), (NEG, NEG))
def bool_or(x, y):
    if x.sum() > 0 or y.sum() > 0:
        return x + y
    return x - y


@case((POS, NEG), (NEG, POS), (POS, POS), (NEG, NEG))
def bool_mixed(x, y):
    if (x.sum() > 0 and not y.sum() > 0) or (x.sum() < -5 and y.min() < 0):
        return x * y
    return x + y


@case((POS, True), (NEG, True), (POS, False), captures=2)
def bool_with_python(x, flag):
    if flag and x.sum() > 0:
        return x + 1
    return x


@case((POS, None), (POS, NEG), (NEG, NEG), captures=2)
def is_none_and_tensor(x, mask):
    if mask is not None and (mask * x).sum() > 0:
        return x * mask
    return x


@case(POS, NEG)
def and_short_circuits(x):
    seen = []

    def test(v):
        seen.append(v)
        return v.sum() > 0

    if test(x) and test(x - 1.5):
        x = x + 100
    return x, len(seen)


@case(t(1.0), t(0.0), t(-2.0))
def or_gives_a_value(x):
    y = x or t(5.0)
    return y * 2


@case(t(1.0), t(0.0))
def and_gives_a_value(x):
    return (x and t(7.0)) + 1


@case(t(5.0), t(0.5), t(-3.0))
def chained_comparison(x):
    if 0 < x < 1:
        return x * 10
    return x


@case((t(1.0), t(2.0)), (t(2.0), t(1.0)), (t(5.0), t(6.0)))
def chained_three(x, y):
    if -1 < x < y <= 5:
        return x + y
    return x - y


@case(t(1), t(2), t(3), grad=False)
def equals_chain(n):
    if n == 1:
        return "one"
    elif n == 2:
        return "two"
    return "many"


@case(t(True), t(False))
def bool_tensor(x):
    if x:
        return torch.ones(2)
    return torch.zeros(2)


@case(t(3), t(0), t(-1))
def int_tensor_truth(n):
    if n:
        return n + 1
    return n - 1


@case(t(0.5), t(0.0), t(float("nan")))
def float_tensor_truth(x):
    if x:
        return x + 1
    return x - 1


@case(t([[[2.0]]]), t([[[0.0]]]))
def one_element_truth(x):
    if x:
        return x.reshape(1)
    return x - 1


@case(t([1.0, 2.0]), t([3.0]), t([1.0]))
def many_elements_truth_raises(x):
    if x > 2:
        return x * 2
    return x


@case(POS, NEG, ZERO)
def any_all_methods(x):
    if (x > 0).all():
        return x.log()
    if torch.any(x < -2):
        return x.exp()
    return x


@case(t(-1.0, -1.5), POS, NEG)
def any_all_builtin(x):
    if all(v > 0 for v in x):
        return x + 1
    if any(v < -2 for v in x):
        return x + 2
    return x


@case((POS, POS.clone()), (POS, NEG))
def torch_equal(x, y):
    if torch.equal(x, y):
        return x
    return x + y


@case((POS, POS + 1e-9), (POS, NEG))
def allclose(x, y):
    if torch.allclose(x, y):
        return x * 2
    return x + y


@case((r(3), kw(y=POS)), (r(3), kw(y=NEG)))
def keyword_condition(x, y=None):
    if y.sum() > 0:
        return x + y
    return x


@case(POS, NEG)
def branch_on_comparison_variable(x):
    positive = x.sum() > 0
    if positive:
        x = x + 1
    if not positive:
        x = x - 1
    return x, positive


@case(POS, NEG)
def condition_from_item(x):
    if x.sum().item() > 0:
        return x + x.max().item()
    return x


@case(POS, NEG)
def condition_from_float(x):
    if float(x.sum()) > 0.5:
        return x * float(x[0])
    return x


@case(t(4, 5), t(7, 2), grad=False)
def condition_from_int(x):
    n = int(x[0])
    if n % 2 == 0:
        return x // 2
    return 3 * x + 1


@case(POS, NEG)
def condition_from_bool(x):
    flag = bool(x.sum() > 0)
    if flag:
        return x, flag
    return -x, flag


@case(POS, NEG)
def not_gives_a_value(x):
    flag = not (x.sum() > 0)
    return x * 2 if flag else x


@case(r(2, 3), r(4, 3), r(1, 3))
def condition_on_size(x):
    if x.shape[0] > 2:
        return x.sum(0)
    return x.mean(0)


@case((POS, t(1.0)), (NEG, t(-1.0)))
def assigns_argument(x, scale):
    if scale > 0:
        scale = scale * 3
        x = x + scale
    return x, scale


@case(POS, NEG)
def branch_gives_input_itself(x):
    y = x
    if x.sum() > 0:
        y = x + 1
    return y


@case(POS, NEG)
def same_condition_twice(x):
    total = 0
    if x.sum() > 0:
        total += 1
    if x.sum() > 0:
        total += 10
    return x * total


@case(POS, NEG)
def branch_assigns_none(x):
    extra = None
    if x.sum() > 0:
        extra = x * 2
    if extra is None:
        return x
    return x + extra


@case(POS, NEG)
def branch_returns_none(x):
    if x.sum() > 0:
        return x
    return None


@case(POS, NEG)
def branch_no_return(x):
    if x.sum() > 0:
        return x


@case(POS, NEG)
def branch_string(x):
    name = "low"
    if x.sum() > 0:
        name = "high"
    return x, name


@case(POS, NEG)
def branch_chooses_function(x):
    f = torch.sin
    if x.sum() > 0:
        f = torch.cos
    return f(x)


@case(POS, NEG)
def branch_chooses_axis(x):
    m = torch.stack([x, x * 2])
    axis = 0 if x.sum() > 0 else 1
    return m.sum(axis)


@case(POS, NEG)
def branch_chooses_dtype(x):
    dtype = torch.float64 if x.sum() > 0 else torch.float16
    return x.to(dtype)


@case((POS, t(0)), (POS, t(1)), (POS, t(2)), (NEG, t(3)))
def dispatch_by_index(x, k):
    if k == 0:
        return x
    if k == 1:
        return x + 1
    if k == 2:
        return x * 2
    raise ValueError(f"no branch {int(k)}")


@case(t(5.0, 2.0), t(1.0, 2.0), t(2.0, 2.0))
def max_of_two(x):
    a, b = x[0], x[1]
    big = max(a, b)
    small = min(a, b)
    return big - small


@case(POS, NEG)
def logical_tensor_ops(x):
    a, b = x.sum() > 0, x[0] > 0.5
    if a & b | ~a & b:
        return x + 1
    return x


@case(POS, NEG, 50 * POS)
def deep_nesting(x):
    y = x
    if x[0] > 0:
        y = y + 1
        if x[1] > 0:
            y = y * 2
            if x[2] > 2.5:
                y = y - 3
                if y.sum() > 100:
                    y = y / 0
    return y


@case(POS, NEG, t(2.0, -9.0, 0.0), t(0.5, 1.0, 1.0))
def not_of_tensor_or_bool(x):
    ok = x.sum() > 0 and x[0].item() > 1
    if not ok:
        x = x - 1
    return x, not (x[0] > 0 or x[1].item() > 2)


@case(POS, NEG, ZERO, t(-1.0, 0.0, 2.0))
def truth_of_none_or_tensor(x):
    peak = None
    if x.sum() > 0:
        peak = x.max() - 2
    if peak:
        return x * 2
    return x + 3 if not peak else x


@case(t(1.0, -3.0, 2.0), t(1.0, 2.0, 1.0), t(1.0, 2.0, 5.0), t(1.0, 2.0, -20.0))
def return_items_or_an_empty_list(x):
    a, b, c = x
    gap = b * b - 4 * a * c
    if gap > 40:
        return [], {"gap": gap}
    if gap > 0:
        return [(-b + gap.sqrt()) / (2 * a), (-b - gap.sqrt()) / (2 * a)], {}
    if gap == 0:
        return [-b / (2 * a)], {}
    return [], {}


@case(t(1.0, 2.0), t(-1.0, -2.0))
def return_nothing_but_an_empty_list(x):
    if x.sum() > 0:
        return [x, x * 2]
    return []
