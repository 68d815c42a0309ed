"""Static programs in the declarative style: see ``oarlock.train.static``."""

from oarlock.train.static.control import case, cond, switch_case, while_loop
from oarlock.train.static.executor import Executor
from oarlock.train.static.program import (
    Program,
    data,
    default_main_program,
    default_startup_program,
    name,
    program_guard,
)
from oarlock.train.static.saving import (
    load,
    load_inference_model,
    save,
    save_inference_model,
)
from oarlock.train.static.scope import Scope, create_parameter, global_scope, scope_guard
from oarlock.train.static.training import append_backward, gradients, minimize

__all__ = [
    "Executor",
    "Program",
    "Scope",
    "append_backward",
    "case",
    "cond",
    "create_parameter",
    "data",
    "default_main_program",
    "default_startup_program",
    "global_scope",
    "gradients",
    "load",
    "load_inference_model",
    "minimize",
    "name",
    "program_guard",
    "save",
    "save_inference_model",
    "scope_guard",
    "switch_case",
    "while_loop",
]
