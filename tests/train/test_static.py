"""Static programs: what they compute is what eager code computes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oarlock
from oarlock import static
from oarlock.errors import ArgumentError, InputError, InvalidModel, UnsupportedError, UserError


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))


def arrays(n=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 3, n)


def classifier(model, optimizer=None):
    """A program of a model with its loss, and an update if there is an optimizer."""
    main = static.Program()
    with static.program_guard(main):
        x, y = static.data("x", [None, 4]), static.data("y", [None], "int64")
        logits = static.name(model(x), "logits")
        loss = static.name(F.cross_entropy(logits, y), "loss")
        pairs = static.minimize(optimizer, loss) if optimizer else None
    return main, logits, loss, pairs


def test_nothing_runs_until_the_executor_does():
    main = static.Program()
    with static.program_guard(main):
        x = static.data("x", [None, 3])
        y = torch.log(x).sum(1)
    for n in (1, 4):
        feed = np.full((n, 3), 2.0, np.float32)
        (found,) = static.Executor().run(main, {"x": feed}, [y])
        np.testing.assert_allclose(found, np.log(feed).sum(1), rtol=1e-6)


def test_results_come_as_arrays_or_tensors():
    main, logits, _, _ = classifier(perceptron().eval())
    x, _ = arrays()
    exe = static.Executor()
    (array,) = exe.run(main, {"x": x}, [logits])
    (tensor,) = exe.run(main, {"x": torch.from_numpy(x)}, ["logits"], return_numpy=False)
    assert isinstance(array, np.ndarray) and isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.Adam(p, lr=0.01),
        lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_training_equals_eager_with_dropout_clip_and_schedule(make):
    one, two = perceptron(), perceptron()
    eager, mine = make(one.parameters()), make(two.parameters())
    for optimizer in (eager, mine):
        oarlock.clip.ClipGradByGlobalNorm(0.05).attach(optimizer)
    schedules = [torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for o in (eager, mine)]
    main, _, loss, _ = classifier(two, mine)
    exe = static.Executor(backend="replay")
    for step in range(6):
        x, y = arrays(4 + step, step)
        torch.manual_seed(step)
        want = F.cross_entropy(one(torch.from_numpy(x)), torch.from_numpy(y))
        eager.zero_grad()
        want.backward()
        eager.step()
        torch.manual_seed(step)
        (got,) = exe.run(main, {"x": x, "y": y}, [loss])
        assert got == want.item()
        for schedule in schedules:
            schedule.step()
    for p, q in zip(one.parameters(), two.parameters()):
        torch.testing.assert_close(p, q, rtol=0, atol=0)
    assert len(exe.compiled) == 1


def test_gradients_are_values_to_fetch():
    model = nn.Linear(4, 1)
    main = static.Program()
    with static.program_guard(main):
        x = static.data("x", [None, 4], stop_gradient=False)
        loss = model(x).pow(2).mean()
        pairs = static.append_backward(loss)
        (dx,) = static.gradients(loss, x)
    assert [p for p, _ in pairs] == [model.weight, model.bias]
    data, _ = arrays()
    found = static.Executor(backend="replay").run(main, {"x": data}, [*(g for _, g in pairs), dx])
    leaf = torch.from_numpy(data).requires_grad_()
    want = torch.autograd.grad(model(leaf).pow(2).mean(), [model.weight, model.bias, leaf])
    for got, expected in zip(found, want):
        np.testing.assert_array_equal(got, expected.numpy())
    assert model.weight.grad is None


def test_only_what_is_fetched_runs():
    main = static.Program()
    with static.program_guard(main):
        a, b = static.data("a", [2]), static.data("b", [2])
        total, other = a * 2, b.sum()
    (found,) = static.Executor().run(main, {"a": np.ones(2, np.float32)}, [total])
    np.testing.assert_array_equal(found, [2, 2])
    with pytest.raises(InputError, match="'b' is missing"):
        static.Executor().run(main, {"a": np.ones(2, np.float32)}, [other])


def test_buffers_keep_their_state_between_runs():
    one, two = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    main = static.Program()
    with static.program_guard(main):
        y = two(static.data("x", [None, 4]))
    exe = static.Executor(backend="replay")
    for seed in range(3):
        x, _ = arrays(seed=seed)
        want = one(torch.from_numpy(x)).detach()
        (got,) = exe.run(main, {"x": x}, [y])
        np.testing.assert_array_equal(got, want.numpy())
    for p, q in zip(one.buffers(), two.buffers()):
        assert torch.equal(p, q)
    assert two.num_batches_tracked == 3


def test_a_clone_for_test_drops_updates_dropout_and_batch_statistics():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    main, logits, loss, _ = classifier(model, torch.optim.SGD(model.parameters(), 0.1))
    test = main.clone(for_test=True)
    exe = static.Executor()
    x, y = arrays()
    exe.run(main, {"x": x, "y": y}, [loss])
    before = copy.deepcopy(model.state_dict())
    (got,) = exe.run(test, {"x": x}, [logits])
    want = copy.deepcopy(model).eval()(torch.from_numpy(x))
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-6, atol=1e-6)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(UserError, match="finished"), static.program_guard(test):
        pass


def test_cond_takes_one_branch():
    main = static.Program()
    with static.program_guard(main):
        x = static.data("x", [None])
        y = static.cond(x.sum() > 0, lambda: x * 2, lambda: -x)
    for sign in (1, -1):
        (got,) = static.Executor().run(main, {"x": np.full(3, sign, np.float32)}, [y])
        np.testing.assert_array_equal(got, np.full(3, 2 if sign > 0 else 1, np.float32))


def test_while_loop_runs_as_often_as_data_say():
    main = static.Program()
    with static.program_guard(main):
        n = static.data("n", [], "int64")
        i, total = static.while_loop(
            lambda i, t: i < n,
            lambda i, t: (i + 1, t + i),
            [torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64)],
        )
    for count in (0, 1, 7):
        got = static.Executor().run(main, {"n": np.int64(count)}, [i, total])
        assert [int(x) for x in got] == [count, sum(range(count))]


def test_a_loop_and_branches_have_gradients():
    w = nn.Parameter(torch.tensor(0.5))
    main = static.Program()
    with static.program_guard(main):
        x = static.data("x", [])
        _, y = static.while_loop(
            lambda i, v: i < 3,
            lambda i, v: (i + 1, static.cond(v > 0.3, lambda: v * w, lambda: v + w)),
            [torch.zeros((), dtype=torch.int64), x],
        )
        pairs = static.append_backward(y, [w])
    (got,) = static.Executor().run(main, {"x": np.float32(1.0)}, [pairs[0][1]])
    v = torch.tensor(1.0)
    for _ in range(3):
        v = v * w if v > 0.3 else v + w
    assert got == torch.autograd.grad(v, w)[0]


def test_case_and_switch_case():
    main = static.Program()
    with static.program_guard(main):
        k = static.data("k", [], "int64")
        fns = {1: lambda: k * 10, 3: lambda: k * 30}
        a = static.switch_case(k, fns, default=lambda: k - 1)
        b = static.case([(k > 2, lambda: k + 100), (k > 0, lambda: k + 10)], lambda: -k)
        c = static.switch_case(k, fns)
    for n in (-1, 1, 2, 3):
        got = [int(v) for v in static.Executor().run(main, {"k": np.int64(n)}, [a, b, c])]
        assert got == [
            {1: 10, 3: 90}.get(n, n - 1),
            n + 100 if n > 2 else n + 10 if n > 0 else -n,
            {1: 10}.get(n, n * 30),
        ]


def test_a_wrong_feed_lists_everything():
    main, _, loss, _ = classifier(perceptron().eval())
    feed = {"x": np.zeros((2, 5), np.float32), "y": np.zeros(2, np.float32), "z": np.zeros(1)}
    with pytest.raises(InputError) as found:
        static.Executor().run(main, feed, [loss])
    text = str(found.value)
    assert "'z' is no placeholder" in text
    assert "'x': expected float32[N, 4], got float32[2, 5]: axis 1 differs" in text
    assert "'y': expected int64[N], got float32[2]" in text


def test_named_sizes_must_agree():
    main = static.Program()
    with static.program_guard(main):
        a, b = static.data("a", ["B", 2]), static.data("b", ["B", 3])
        y = a.sum() + b.sum()
    with pytest.raises(InputError, match="B is 3"):
        feed = {"a": np.zeros((2, 2), np.float32), "b": np.zeros((3, 3), np.float32)}
        static.Executor().run(main, feed, [y])


def test_unknown_fetches_are_listed():
    main, _, _, _ = classifier(perceptron())
    with pytest.raises(ArgumentError) as found:
        static.Executor().run(main, {}, ["nothing", 5])
    assert "'nothing' is no name" in str(found.value) and "fetch_list[1]" in str(found.value)


def test_a_placeholder_lives_in_its_guard():
    main, other = static.Program(), static.Program()
    with static.program_guard(main):
        x = static.data("x", [2])
        with pytest.raises(ArgumentError, match="already a name"):
            static.data("x", [2])
    with pytest.raises(UserError, match="outside of its program_guard"):
        _ = x + 1
    with pytest.raises(UserError, match="outside of a program_guard"):
        static.data("y", [2])
    with static.program_guard(other), pytest.raises(UserError):
        _ = x + 1


def test_the_text_shows_calls_and_lines():
    main, _, _, _ = classifier(perceptron())
    text = str(main)
    assert text.startswith("program(x: float32[N, 4], y: int64[N]) {")
    assert "linear(x, 0.weight, 0.bias)" in text and "test_static.py:" in text


def test_save_and_load_of_a_training(tmp_path):
    model = perceptron()
    main, _, loss, _ = classifier(model, torch.optim.Adam(model.parameters(), 0.01))
    exe, (x, y) = static.Executor(), arrays()
    exe.run(main, {"x": x, "y": y}, [loss])
    static.save(main, tmp_path / "state")
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    want = exe.run(main, {"x": x, "y": y}, [loss])
    exe.run(main, {"x": x, "y": y}, [loss])
    static.load(main, tmp_path / "state")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    torch.manual_seed(5)
    assert exe.run(main, {"x": x, "y": y}, [loss]) == want
    (tmp_path / "bad").write_bytes(b"nothing")
    with pytest.raises(InvalidModel):
        static.load(main, tmp_path / "bad")


def test_an_inference_model_runs_without_torch_and_here(tmp_path):
    model = perceptron()
    main, logits, _, _ = classifier(model)
    with static.program_guard(main):
        x = main.placeholders["x"].value
    static.save_inference_model(tmp_path / "m", [x], [logits], program=main)
    program, feeds, fetches = static.load_inference_model(tmp_path / "m")
    data, _ = arrays()
    want = copy.deepcopy(model).eval()(torch.from_numpy(data)).detach().numpy()
    (got,) = static.Executor().run(program, {feeds[0]: data}, fetches)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert fetches == ["logits"]


def test_both_styles_give_one_program():
    model = perceptron().eval()
    main, logits, _, _ = classifier(model)
    declared = main.lowered(None, [logits])
    captured = oarlock.capture(model, torch.zeros(5, 4), dynamic={"input": {0: "N0"}})
    assert structure(declared) == structure(captured)
    data, _ = arrays()
    np.testing.assert_array_equal(
        np.asarray(oarlock.evaluate(declared, data)), np.asarray(oarlock.evaluate(captured, data))
    )


def structure(program):
    return [(n.name, [str(v.type) for v in n.outputs]) for n in program.graph.walk()]


def test_a_training_program_is_not_lowered():
    model = perceptron()
    main, _, loss, _ = classifier(model, torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(UnsupportedError, match="clone"):
        main.lowered(None, [loss])


def test_a_loop_of_no_trips_has_no_gradient():
    program, weight = static.Program(), nn.Parameter(torch.ones(4))
    with static.program_guard(program):
        x, n = static.data("x", [None, 4]), static.data("n", [], "int64")
        _, y = static.while_loop(
            lambda k, y: k < n, lambda k, y: [k + 1, y * weight], [torch.tensor(0), x]
        )
        (grad,) = static.gradients(y.sum(), [weight])
    feed = {"x": np.full((2, 4), 3, np.float32)}
    run = static.Executor().run
    assert run(program, feed | {"n": 0}, [grad]) == [None]
    assert run(program, feed | {"n": 2}, [grad])[0].tolist() == [12.0] * 4
