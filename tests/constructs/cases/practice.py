"""What programs of practice do: tables picked by data, spans and windows between data."""

import torch

from tests.constructs.case import case, r, t

TABLE = {0: [1, 2, 3], 1: [4, 5], 2: [6, 0]}


def places(*values):
    return torch.tensor(values)


@case((r(8), places(0)[0]), (r(8), places(4)[0]), (r(8), places(9)[0]))
def masked_by_table(x, token):
    if token <= 3:
        state = 1
    elif token <= 5:
        state = 2
    else:
        state = 0
    mask = torch.full((8,), 7.0)
    mask[TABLE[state]] = 0
    return x + mask, x[TABLE[state]], state


@case(t(1.0, 2.0), t(-1.0, -2.0))
def one_of_two_lists_grows(x):
    found = [1] if x.sum() > 0 else [2, 3]
    found.append(5)
    return x * len(found), found


@case(t(1.0, 2.0), t(-1.0, -2.0))
def one_of_two_equal_lists_grows(x):
    a, b = [], []
    if x.sum() > 0:
        found = a
    else:
        found = b
    found.append(5)
    return x * len(a), a, b


@case(
    (r(8, 3), places(1, 4)),
    (r(8, 3), places(0, 8)),
    (r(8, 3), places(2, 3)),
    (r(2, 3), places(0, 2)),
)
def span_between_data(x, ends):
    span = x[ends[0] : ends[1]]
    return torch.cat([span[0], span[-1], span.mean(0)]), torch.arange(ends[1] - ends[0])


@case((r(8, 8), places(1, 2, 4, 6)), (r(8, 8), places(0, 0, 8, 8)), (r(8, 8), places(2, 5, 4, 7)))
def crop_with_weights(x, box):
    x1, y1, x2, y2 = box.tolist()
    weight = torch.ones(y2 - y1, x2 - x1)
    crop = x[y1:y2, x1:x2]
    return (crop * weight).sum() / weight.numel(), crop.max(), crop.shape[0] * crop.shape[1]


@case((r(8, 3), places(1, 4, 3)), (r(8, 3), places(0, 8, 0)), (r(8, 3), places(2, 3, 3)))
def segments_of_given_lengths(x, lengths):
    at, out = 0, []
    for n in lengths.tolist():
        part = x[at : at + n]
        if part.shape[0] > 0:
            out.append(part.max(0).values)
        at += n
    return torch.stack(out)


@case(r(5, 3), r(5, 3), r(4, 3))
def window_around_largest(x):
    k = x[:, 0].argmax()
    window = x[max(k - 1, 0) : k + 2]
    return window.mean(0), window.shape[0], int(max(k - 1, 0))


class Tuples(torch.nn.Module):
    """A tuple of numbers that is another object at each call."""

    def __init__(self):
        super().__init__()
        self.scales = (0.5, 2)

    def forward(self, x):
        a, b = self.scales
        self.scales = (a, b + 1)
        return x * a + b


case(r(3), r(3), r(3), r(3), captures=2)(Tuples)


@case((places(5, 0, 3, 4, 0, 0),), (places(0, 1, 3, 4, 0, 2),), grad=False)
def pieces_between_separators(tokens):
    pieces, current = [], []
    for token in tokens:
        if token == 0:
            if current:
                pieces.append(torch.stack(current))
                current = []
        else:
            current.append(token)
    if current:
        pieces.append(torch.stack(current))
    return len(pieces), max([len(x) for x in pieces])


@case(t(1.0, 0.5, -1.0, 2.0), t(0.1, 0.1, 0.1, 0.1), t(-1.0, 3.0, 0.2, 0.4))
def full_buffer_is_emptied(x):
    total, held, count = torch.zeros(()), [], 0
    for v in x:
        held.append(v)
        if torch.stack(held).sum() > 1:
            total = total + torch.stack(held).max()
            count += 1
            held = []
    if held:
        total = total - torch.stack(held).sum()
    return total, count, len(held)


@case(t(1.0, 2.0), t(-1.0, -2.0), t(1.0, -2.0))
def list_replaced_or_grown(x):
    first = [x]
    second = first
    if x[0] > 0:
        second = [x * 2]
    else:
        first.append(x + 1)
    if x[1] > 0:
        first.append(x)
    return len(first), torch.stack(second).sum(), torch.stack(first)


@case(t(4.0, -2.0, 3.0), t(0.1, 0.2, 0.3))
def oldest_are_dropped(x):
    points, values, y = [], [], torch.zeros_like(x)
    for k in range(4):
        value = torch.cos(y) * 0.5 + x * 0.1
        points.append(y)
        values.append(value)
        if len(points) > 2:
            points.pop(0)
            values.pop(0)
        if (value - y).norm() < 0.7:
            break
        steps = torch.stack([v - p for v, p in zip(values, points)])
        y = (steps.sum(0) + torch.stack(values).sum(0)) * 0.1
    return y, k


@case((places(2, 0, 1, 1), r(4, 3)), (places(1, 1, 1, 1), r(4, 3)), (places(0, 0, 0, 2), r(4, 3)))
def shift_or_reduce(actions, x):
    stack, buffer = [], list(x)
    for a in actions:
        if a == 0 and len(buffer) > 0:
            stack.append(buffer.pop(0))
        elif a == 1 and len(stack) >= 2:
            right = stack.pop()
            left = stack.pop()
            stack.append(right + 2 * left)
        else:
            if len(buffer) > 0:
                stack.append(-buffer.pop(0))
    return len(stack), torch.stack(stack).sum()


@case(
    (torch.arange(12).view(3, 4),),
    (torch.arange(20).view(5, 4) % 7,),
    (torch.ones(2, 4).long(),),
    grad=False,
)
def rows_as_lists(rows):
    total = 0
    for a, b, c, d in rows.tolist():
        if a > b - 2:
            total += c * d
    return total, len(rows.tolist())


@case(r(6), r(7), r(11))
def run_is_flushed(x):
    total, run = torch.zeros(()), []
    for v in x:
        if v > 0:
            if run:
                total = total + torch.stack(run).sum()
            run = []
        else:
            run.append(v)
    return total, len(run)


@case((places(4, 2, 9), 16), (places(1, 1, 1), 16), (places(3, 3, 3, 8), 10), grad=False)
def batches_of_a_budget(lengths, budget):
    batches, current, longest = 0, [], 0
    for k, n in enumerate(lengths):
        most = max(longest, int(n))
        if most * (len(current) + 1) > budget:
            batches += 1
            current = []
            most = int(n)
        current.append(k)
        longest = most
    return batches, longest, len(current)


@case((t(1.0, 2.0), t(3.0, 4.0)), (t(-1.0, -2.0), t(3.0, 4.0)), (t(2.0, 2.0), t(1.0, 4.0)))
def pairs_made_before_a_decision(x, y):
    pairs, found = zip(x, y), []
    if x.sum() > 0:
        for a, b in pairs:
            found.append(a * b)
    else:
        found.append(y[0])
    return torch.stack(found), len(found)
