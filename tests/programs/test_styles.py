"""The named programs again, in other styles: one capture for all calls, and a file without torch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oarlock.capture.lowering.draws import eager_draws
from oarlock.capture.to_static import StaticFunction
from oarlock.errors import UnsupportedError
from tests.programs import decoders, handmade, routing, solvers, speech
from tests.programs.test_programs import assert_file_gives, assert_same, leaves

PROGRAMS = {
    **decoders.PROGRAMS, **speech.PROGRAMS, **routing.PROGRAMS, **solvers.PROGRAMS,
    **handmade.PROGRAMS,
}  # fmt: skip
DRAWING = "sample_multinomial"
REFUSED = {
    "tree_shift_reduce": "an object of class Node that holds tensors is in a list of run-time length",
}
UNSAVED = {"gpt2_greedy_generator": "k and v differ in batch, heads or length"}
QUICK = {
    "rnnt_time_index", "rnnt_batch_mask", "tacotron_attributes", "tacotron_slots",
    "sample_gumbel_repetition", "act_batch", "act_sequence", "nms_shrinking", "nms_soft",
    "moe_mixtral_loop", "moe_capacity", "ode_bogacki", "ode_object", "tree_recursive", "tree_bottom_up", "tree_levels",
    "tacotron_replaced_state", "nms_kept_mask", "moe_joined_pieces",
}  # fmt: skip


def _params(names: Any) -> list[Any]:
    """Those that take long to compile are left to the long run."""
    names = list(names)
    quick = [pytest.param(n) for n in names if n in QUICK]
    return [*quick, *(pytest.param(n, marks=pytest.mark.slow) for n in names if n not in QUICK)]


def called(name: str) -> tuple[StaticFunction, list[tuple], list[list[np.ndarray]]]:
    """The static function after its calls, which gave what eager gives."""
    fn, calls = PROGRAMS[name]()
    static = StaticFunction(getattr(fn, "forward", fn))
    expected = []
    with torch.no_grad():
        for i, call in enumerate(calls):
            found = []
            for one in (fn, static):
                torch.manual_seed(i)
                found.append(leaves(one(*copy.deepcopy(call))))
            assert_same(found[1], found[0])
            expected.append(found[0])
    return static, calls, expected


@pytest.mark.parametrize("name", _params(n for n in PROGRAMS if n not in REFUSED))
def test_one_program_serves_all_calls(name: str, tmp_path: Path):
    static, calls, expected = called(name)
    assert len(static.tapes) == 1
    if name in UNSAVED:
        with pytest.raises(UnsupportedError, match=UNSAVED[name]):
            static.save(tmp_path / "program.oar")
    else:
        if name == DRAWING:
            fn = PROGRAMS[name]()[0]  # made outside: it seeds torch
            with eager_draws(), torch.no_grad():
                expected = [leaves(fn(*call)) for call in calls]
        assert_file_gives(static, calls, expected, tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str):
    with pytest.raises(UnsupportedError, match=REFUSED[name]):
        called(name)
