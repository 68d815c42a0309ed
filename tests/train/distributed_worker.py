"""One of two processes: ``python -m tests.train.distributed_worker RANK STORE``; prints JSON."""

from __future__ import annotations

import copy
import json
import math
import sys
import traceback

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from oarlock import to_static
from oarlock.clip import (
    ClipGradAdaptive,
    ClipGradByGlobalNorm,
    ClipGradByNorm,
    ClipGradByValue,
)
from oarlock.errors import NonFiniteGradient, UnsupportedError

CLIPS = [
    ClipGradByValue(0.01),
    ClipGradByNorm(0.1),
    ClipGradByGlobalNorm(0.1),
    ClipGradAdaptive(0.01),
]
STEPS = 3
WORLD = 2


def model_and_data():
    """Sizes that two processes do not share evenly; the last bias has one number for both."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 1))
    return model, torch.randn(8, 4) * 3, torch.randn(8, 1) * 3


def train(model, params, x, y, clip, make=torch.optim.SGD):
    """Steps with an attached clip; the norms before clipping."""
    optimizer = make(params, lr=0.1, momentum=0.9)
    norms = []
    with clip.attach(optimizer) as handle:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()
            norms.append(handle.last_norm)
    return norms


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def close(norms, model, expected_norms, expected):
    """Equal but for the order of sums: 100 terms in fp32, three steps."""
    rtol = STEPS * 100 * 2**-24
    assert not any(isinstance(norm, DTensor) for norm in norms)
    torch.testing.assert_close(norms, expected_norms, rtol=rtol, atol=0)
    for p, q in zip(model.parameters(), expected.parameters()):
        torch.testing.assert_close(whole(p), q, rtol=rtol, atol=rtol)


def every_clip(wrap):
    """The wrapped model beside the plain one, on equal data, so that averages are the same."""
    for clip in CLIPS:
        model, x, y = model_and_data()
        expected = copy.deepcopy(model)
        expected_norms = train(expected, expected.parameters(), x, y, clip)
        assert all(norm is None or norm > 0.1 for norm in expected_norms)
        wrapped = wrap(model)
        close(train(wrapped, wrapped.parameters(), x, y, clip), wrapped, expected_norms, expected)


def ddp(rank):
    every_clip(DistributedDataParallel)


def ddp_on_shares_of_a_batch(rank):
    clip = ClipGradByGlobalNorm(0.1)
    model, x, y = model_and_data()
    expected = copy.deepcopy(model)
    expected_norms = train(expected, expected.parameters(), x, y, clip)
    model = DistributedDataParallel(model)
    norms = train(model, model.parameters(), x[rank::2], y[rank::2], clip)
    close(norms, model, expected_norms, expected)


def static_module_on_shares_of_a_batch(rank):
    """Its parameters are inputs of one autograd function: DDP's hooks run."""
    clip = ClipGradByGlobalNorm(0.1)
    model, x, y = model_and_data()
    expected = copy.deepcopy(model)
    expected_norms = train(expected, expected.parameters(), x, y, clip)
    wrapped = DistributedDataParallel(to_static(model))
    norms = train(wrapped, wrapped.parameters(), x[rank::2], y[rank::2], clip)
    close(norms, wrapped, expected_norms, expected)
    assert "backward" in model.forward.report(), model.forward.report()


def zero_redundancy(rank):
    def make(params, **given):
        return ZeroRedundancyOptimizer(params, torch.optim.SGD, **given)

    clip = ClipGradByGlobalNorm(0.1)
    model, x, y = model_and_data()
    expected = copy.deepcopy(model)
    expected_norms = train(expected, expected.parameters(), x, y, clip)
    model = DistributedDataParallel(model)
    close(train(model, model.parameters(), x, y, clip, make), model, expected_norms, expected)


def fsdp2(rank):
    def wrap(model):
        mesh = init_device_mesh("cpu", (WORLD,))
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    every_clip(wrap)


def tensor_parallel(rank):
    def wrap(model):
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        return parallelize_module(model, init_device_mesh("cpu", (WORLD,)), plan)

    every_clip(wrap)


def both(rank):
    """FSDP2 over an axis of one process, tensor parallel over the other: strided shards."""

    def wrap(shape):
        def on_mesh(model):
            mesh = init_device_mesh("cpu", shape, mesh_dim_names=("dp", "tp"))
            plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
            model = parallelize_module(model, mesh["tp"], plan)
            for i in (0, 2):
                fully_shard(model[i], mesh=mesh["dp"])
            return model

        return on_mesh

    every_clip(wrap((1, WORLD)))
    every_clip(wrap((WORLD, 1)))


def placements(rank):
    """Gradients that are sums over processes, replicated, cut along the second axis, and plain."""
    mesh = init_device_mesh("cpu", (WORLD,))
    torch.manual_seed(0)
    values = [torch.randn(4, 3) * 5 for _ in range(4)]
    kinds = [Partial(), Replicate(), Shard(1), None]
    for clip in CLIPS:
        plain, params = [], []
        for v, kind in zip(values, kinds):
            plain.append(nn.Parameter(torch.ones(4, 3)))
            plain[-1].grad = v.clone()
            place = Replicate() if isinstance(kind, Partial) else kind
            params.append(
                nn.Parameter(
                    torch.ones(4, 3)
                    if kind is None
                    else distribute_tensor(torch.ones(4, 3), mesh, [place])
                )
            )
            params[-1].grad = (
                v.clone() if kind is None else distribute_tensor(v.clone(), mesh, [place])
            )
        params[0].grad = DTensor.from_local(values[0] / WORLD, mesh, [Partial()], run_check=False)
        norm, expected = clip(params), clip(plain)
        rtol = 60 * 2**-24
        torch.testing.assert_close(norm, expected, rtol=rtol, atol=0)
        for p, q in zip(params, plain):
            torch.testing.assert_close(whole(p.grad), q.grad, rtol=rtol, atol=0)


def non_finite_shard(rank):
    model, x, y = model_and_data()
    fully_shard(model, mesh=init_device_mesh("cpu", (WORLD,)))
    (model(x) - y).square().mean().backward()
    if rank == 1:
        model[2].weight.grad.to_local()[0, 0] = math.nan
    try:
        ClipGradByNorm(1.0, error_if_nonfinite=True)(model.named_parameters())
    except NonFiniteGradient as error:
        assert "gradient of '2.weight' (group 0, index 2, float32[5, 8])" in str(error), error
        assert "1 NaN" in str(error) or rank == 0
    else:
        raise AssertionError("no error")


def flat_parameters(rank):
    model, x, y = model_and_data()
    model = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    (model(x) - y).square().mean().backward()
    try:
        ClipGradByNorm(1.0)(model.parameters())
    except UnsupportedError as error:
        assert "use torch.distributed.fsdp.fully_shard (FSDP2)" in str(error)
    else:
        raise AssertionError("no error")


CASES = [ddp, ddp_on_shares_of_a_batch, static_module_on_shares_of_a_batch, zero_redundancy, fsdp2, tensor_parallel, both, placements,
         non_finite_shard, flat_parameters]  # fmt: skip


def main(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    results = {}
    for case in CASES:
        try:
            case(rank)
            results[case.__name__] = ""
        except Exception:
            results[case.__name__] = traceback.format_exc()
    print(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
