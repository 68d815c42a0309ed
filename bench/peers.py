"""Every executor behind one call: ``make(model, args, threads) -> Callable[[], object]``."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

Call = Callable[[], Any]
Maker = Callable[[nn.Module, tuple[torch.Tensor, ...], int], Call]


def eager(model: nn.Module, args: tuple[torch.Tensor, ...], threads: int) -> Call:
    """PyTorch eager under inference_mode."""
    return lambda: _infer(model, args)


def _infer(model: Callable[..., Any], args: tuple[torch.Tensor, ...]) -> Any:
    with torch.inference_mode():
        return model(*args)


def compiled(model: nn.Module, args: tuple[torch.Tensor, ...], threads: int) -> Call:
    """torch.compile, default mode, static shapes."""
    fast = torch.compile(model, dynamic=False)
    return lambda: _infer(fast, args)


def onnx_file(model: nn.Module, args: tuple[torch.Tensor, ...], folder: str) -> str:
    """The model as ONNX, static shapes, for the two runtimes below.

    The older exporter gives them the faster graph; what it does not know goes by the newer one.
    """
    path = str(Path(folder) / "model.onnx")
    with torch.inference_mode(), redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(model, args, path, dynamo=False, opset_version=17)
        except torch.onnx.errors.UnsupportedOperatorError:
            torch.onnx.export(model, args, path, dynamo=True, verbose=False)
    return path


def onnxruntime(model: nn.Module, args: tuple[torch.Tensor, ...], threads: int) -> Call:
    """ONNX Runtime, all graph optimisations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    with TemporaryDirectory() as folder:
        path = onnx_file(model, args, folder)
        session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
    feed = {i.name: x.numpy() for i, x in zip(session.get_inputs(), args)}
    return lambda: session.run(None, feed)


def openvino(model: nn.Module, args: tuple[torch.Tensor, ...], threads: int) -> Call:
    """OpenVINO, latency hint, f32."""
    import openvino as ov

    core = ov.Core()
    config = {
        "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "ENABLE_MMAP": False,
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        built = core.compile_model(onnx_file(model, args, folder), "CPU", config)
    request = built.create_infer_request()
    feed = [x.numpy() for x in args]
    return lambda: request.infer(feed, share_inputs=True, share_outputs=True)


def oarlock(model: nn.Module, args: tuple[torch.Tensor, ...], threads: int) -> Call:
    """Ours, from numpy to numpy."""
    import oarlock

    predictor = oarlock.Predictor(oarlock.capture(model, args, check=False), threads=threads)
    feed = [x.numpy() for x in args]
    return lambda: predictor(*feed)


PEERS: dict[str, Maker] = {
    "eager": eager,
    "torch.compile": compiled,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "oarlock": oarlock,
}
