"""Deques whose length data decide: searches, windows, queues at both ends."""

from collections import deque

import torch

from tests.constructs.case import case, t

UP, DOWN, MIXED = t(3.0, 1.0, 2.0), t(-3.0, -1.0, -2.0), t(1.0, -2.0, 5.0)


@case(
    torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    torch.tensor([[0, 1, 1], [0, 0, 0], [0, 0, 0]]),
    torch.tensor([[1, 0, 0], [0, 0, 1], [0, 0, 0]]),
    grad=False,
)
def breadth_first(links):
    n = links.shape[0]
    depth = [-1] * n
    depth[0] = 0
    queue = deque([0])
    while queue:
        u = queue.popleft()
        for v in range(n):
            if links[u, v] > 0 and depth[v] < 0:
                depth[v] = depth[u] + 1
                queue.append(v)
    return torch.tensor(depth)


@case(UP, MIXED, DOWN)
def window_of_two(x):
    window, best = deque(maxlen=2), x.sum()
    for v in x:
        if v > 0:
            window.append(v)
        if len(window) == 2:
            best = torch.maximum(best, window[0] + window[1])
    return best, len(window)


@case(UP, MIXED, DOWN)
def both_ends(x):
    found = deque()
    for v in x:
        if v > 1:
            found.append(v)
        else:
            found.appendleft(v * 2)
    found.rotate(1)
    return found, isinstance(found, deque), found[-1]


@case(UP, MIXED, DOWN)
def some_are_left(x):
    found = deque([x[0]], 5)
    for v in x:
        if v > 0:
            found.append(v)
    return found, found.maxlen


@case(UP, MIXED, DOWN)
def largest_of_windows(x):
    places, out = deque(), []
    for k in range(x.shape[0]):
        while places and x[places[-1]] <= x[k]:
            places.pop()
        places.append(k)
        if places[0] <= k - 2:
            places.popleft()
        out.append(x[places[0]])
    return torch.stack(out)


@case(UP, MIXED, DOWN)
def taken_where_there_is_one(x):
    queue, total = deque(), x.sum() * 0
    for v in x:
        if v > 0:
            queue.append(v)
        else:
            try:
                total = total + queue.popleft()
            except IndexError:
                total = total - 1
    return total, list(queue)
