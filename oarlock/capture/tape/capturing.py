"""``trace``: a Python function and the arguments of a call to a ``Tape``."""

from __future__ import annotations

import functools
import itertools
import linecache
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import torch

from oarlock.capture.convert.handlers import Steering
from oarlock.capture.owners import Attributes, forget_stand_ins
from oarlock.capture.tape import runtime
from oarlock.capture.tape.active import Captured, activated
from oarlock.capture.tape.aliasing import changes_given, has_changed_before
from oarlock.capture.tape.arguments import Stand, is_record
from oarlock.capture.tape.caught import Unfollowed, where_all_go_well
from oarlock.capture.tape.control import of_choice
from oarlock.capture.tape.deciding import is_settled
from oarlock.capture.tape.effects import Change, Effects
from oarlock.capture.tape.effort import Effort, Spent
from oarlock.capture.tape.emit import Emitter
from oarlock.capture.tape.failures import Failing
from oarlock.capture.tape.foresight import Foresight
from oarlock.capture.tape.forks import ForkNeeded, assemble, explore, ways
from oarlock.capture.tape.guards import Guards
from oarlock.capture.tape.hoist import hoist
from oarlock.capture.tape.lines import defined_at
from oarlock.capture.tape.nodes import PLAIN, Ambient, Block, Call, Check, Val, Where, blocks_of
from oarlock.capture.tape.noticing import Noticed
from oarlock.capture.tape.optimizers import Held, optimizers_of
from oarlock.capture.tape.parts import Parts, Whole, cut
from oarlock.capture.tape.queries import assumption
from oarlock.capture.tape.raising import raised_in
from oarlock.capture.tape.recursion import Recursion
from oarlock.capture.tape.refusals import every
from oarlock.capture.tape.results import Rebuild
from oarlock.capture.tape.run_list import RunList
from oarlock.capture.tape.sources import (
    Source,
    argument,
    key_of,
    modules_below,
    state_sources,
    tied,
)
from oarlock.capture.tape.tables import Follow
from oarlock.capture.tape.tracer import Tracer, ambient
from oarlock.capture.tape.unwinding import Unwinding
from oarlock.errors import OarlockError, UnsupportedError
from oarlock.ir import Dim

_SERIAL = itertools.count(1)


@dataclass(eq=False)
class Tape:
    """A captured function: ``guard(args, kwargs)`` says whether it serves a call, ``replay`` runs it.

    ``inputs``: values read at each call, with the source and the fake of each.
    """

    name: str
    root: Block
    inputs: list[tuple[Val, Source]]
    result: Any
    source: str
    guards: Guards
    guard: Callable[..., bool]
    replay: Callable[..., Any]
    origins: dict[int, Where] = field(default_factory=dict)
    ambient: Ambient = PLAIN
    symbolic: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    has_effects: bool = False
    left: dict[int, str] = field(default_factory=dict)  # by line: what it leaves when it fails
    seen: dict[int, Call] = field(default_factory=dict)  # by line: whose errors code sees
    fn: Callable[..., Any] | None = None  # that it was captured from
    changes: list[Change] | None = (
        None  # of objects; None where decisions outside of the tape differ
    )
    objects: list[Any] = field(default_factory=list)  # exist before the call, and may change
    executor: Any = None  # (args, kwargs) -> result, compiled; may raise Declined
    reason: str = "no compiled executor was asked for"  # why it has none
    call: Any = None  # the arguments of the call that it was captured from
    dims: dict[Any, Dim] = field(default_factory=dict)  # of sizes that input_spec leaves free
    is_tried: bool = False  # whether it can be compiled is known
    is_verified: bool = False  # a call has done what eager does
    refused: set[frozenset[Any]] = field(default_factory=set)  # free sizes that were tried in vain
    is_narrow: bool = False  # it does not serve the call whose sizes were the other ones
    makes_state: bool = False  # of optimizers, in their first step
    parts: Parts | None = None  # where its tensors are straight-line code between numbers
    whole: str = ""  # why it can't be cut in parts

    def __str__(self) -> str:
        return self.source

    @functools.cached_property
    def assumed(self) -> frozenset[str]:
        """What checks take for certain."""
        return frozenset(filter(None, map(assumption, self.root.walk())))

    @property
    def has_checks(self) -> bool:
        return bool(self.assumed)

    @functools.cached_property
    def foresight(self) -> Foresight | None:
        """What tells beforehand whether checks will hold that come after updates."""
        return Foresight(self) if has_changed_before(self) else None

    @functools.cached_property
    def unwinding(self) -> Unwinding | None:
        """What takes back a run whose error code of the user would see."""
        return Unwinding(self) if self.seen else None

    @functools.cached_property
    def is_straight_line(self) -> bool:
        nodes = where_all_go_well(self.root)
        return all(isinstance(n, (Call, Check)) for n in nodes) and is_settled(self.root)

    @functools.cached_property
    def is_updating(self) -> bool:
        """Some call may change a tensor or object that the tape is given."""
        return changes_given(self.inputs, self.root)


Symbolic = dict[Any, tuple[Any, Any]]


def trace(
    fn: Callable[..., Any],
    args: tuple,
    kwargs: dict[str, Any],
    *,
    roots: list[Any] | None = None,
    name: str = "",
    symbolic: Symbolic | None = None,
    lists_all: bool = True,
) -> Tape:
    """Run ``fn`` on fakes of the arguments and record it.

    Args:
        roots: callables whose modules hold state that the code may read; default: ``fn``.
        symbolic: sizes and numbers that are read at each call, each with another value of it.
        lists_all: look for all reasons why it can't be captured.
    Raises: UnsupportedError with every reason.
    """
    name = name or _name(fn)
    unconverted: dict[str, None] = {}
    effort = Effort()
    capture = functools.partial(captured, fn, args, kwargs, roots, symbolic, unconverted, effort)
    try:
        return finish(capture(frozenset()), (args, kwargs), name)
    except UnsupportedError as refusal:
        first = refusal
    except Spent as spent:
        raise spent.refusal from None
    try:
        return finish(capture(frozenset(), are_apart=True), (args, kwargs), name)
    except (UnsupportedError, Spent):
        if not lists_all:
            raise first from None
        effort.look_on()
        raise every(name, first, capture, unconverted) from None


def captured(
    fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any], roots: list[Any] | None,
    symbolic: Symbolic | None, unconverted: dict[str, None], effort: Effort,
    reported: frozenset[str], are_apart: bool = False,
) -> Any:  # fmt: skip
    """The tree of ways through ``fn``; ``unconverted`` gets what of its callees is left as it is."""
    roots = [*(roots or [fn]), *[x for x in (*args, *kwargs.values()) if _holds_state(x)]]
    learned = Learned(dict(symbolic or {}))

    def way(decisions: dict[int, bool]) -> Way:
        tracer = learned.tracer(state_sources(roots), reported, are_apart, effort)
        with effort.way():
            try:
                found = _way(fn, args, kwargs, roots, tracer, decisions, unconverted)
            finally:
                learned.has_caught |= tracer.caught.count > 0
            effort.last = found.taken[-1] if found.taken else effort.last
            return found

    while True:
        try:
            tree = explore(way, learned.many)
        except (Steering, UnsupportedError) as found:
            if not learned.from_error(found, effort):
                raise
            continue
        if not learned.from_ways(list(ways(tree))):
            return tree


@dataclass(eq=False)
class Learned:
    """What captures of a function have told that the next one must know.

    ``known``: sizes and numbers that are read at each call; ``early``: lines of containers that are
    followed so that there are fewer ways; ``dropped``: those of them that did not help.
    """

    known: dict[Any, tuple[Any, Any]]
    recursive: frozenset[CodeType] = frozenset()
    failing: frozenset[CodeType] = frozenset()
    noticed: frozenset[CodeType] = frozenset()
    sites: frozenset[Any] = frozenset()
    early: frozenset[Any] = frozenset()
    dropped: frozenset[Any] = frozenset()
    is_exact: bool = False
    catches: bool = True
    has_caught: bool = False

    def tracer(
        self, state: Any, reported: frozenset[str], are_apart: bool, effort: Effort
    ) -> Tracer:
        return Tracer(
            state, self.known, self.recursive, self.is_exact, reported, are_apart, self.sites,
            effort, self.failing, self.noticed, self.catches,
        )  # fmt: skip

    def many(self, found: frozenset[Any]) -> None:
        """There are more than a few ways.  Raises: Follow where containers are better followed."""
        if found - self.sites - self.dropped:
            self.early |= found - self.sites
            raise Follow(found - self.dropped)

    def from_error(self, found: BaseException, effort: Effort) -> bool:
        """Whether the next capture may go on where this one has ended."""
        if isinstance(found, Recursion):
            self.recursive |= found.codes
        elif isinstance(found, Failing):
            self.failing |= found.codes
        elif isinstance(found, Noticed):
            self.noticed |= found.codes
        elif isinstance(found, Follow):
            self.sites |= found.sites
        elif self.catches and self.has_caught and isinstance(found, _COSTS_OF_CATCHING):
            self.catches = False
            effort.anew()
        else:
            return isinstance(found, UnsupportedError) and self.from_refusal(found)
        return True

    def from_refusal(self, refusal: UnsupportedError) -> bool:
        more = refusal.sites - self.sites - self.dropped
        if not more and not self.early:
            return False
        if not more:
            self.sites, self.dropped = self.sites - self.early, self.dropped | self.early
            self.early = frozenset()
        self.sites |= more
        return True

    def from_ways(self, found: list[Way]) -> bool:
        """Whether the next capture would be another one."""
        if self.catches and self.has_caught and any(way.tracer.has_backward for way in found):
            self.catches = False  # a step, which compiles where it has one way
            return True
        if not self.is_exact and any(_is_one_told(way.tracer) for way in found):
            self.is_exact = True
            return True
        counters = {k: v for way in found for k, v in way.effects.counters().items()}
        is_new = bool(counters.keys() - self.known.keys())
        self.known |= counters if is_new else {}
        return is_new


_COSTS_OF_CATCHING = (Unfollowed, Spent, UnsupportedError)


def _way(
    fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any], roots: list[Any],
    tracer: Tracer, decisions: dict[int, bool], unconverted: dict[str, None],
) -> Way:  # fmt: skip
    """One capture: the ways that ``decisions`` force, and both where they can be joined."""
    before = [Attributes.of(root) for root in roots]
    tracer.control.decisions, tracer.home = decisions, defined_at(roots[0])
    _know(tracer, roots)
    stand = Stand(
        tracer.inputs.tensor,
        lambda x, source: tracer.inputs.plain(x, source, stand.atoms),
        tracer.lists.outer,
        tracer.objects.places,
        tracer.inputs.generator,
    )
    fake_args = tuple(
        stand.of(x, argument(f"args[{i}]", _shown(roots[0], i))) for i, x in enumerate(args)
    )
    fake_kwargs = {k: stand.of(v, argument(f"kwargs[{k!r}]", k)) for k, v in kwargs.items()}
    for new, source in stand.places.values():
        tracer.objects.know(new, source)
    tracer.objects.given, tracer.objects.atoms = stand.copies, stand.atoms
    for x, _ in stand.atoms:
        if is_record(x):
            tracer.objects.know(x)
    modes = ambient()
    held = [Held(x) for x in optimizers_of(roots)]
    try:
        for one in held:
            one.open(tracer)
        with tracer.recording():
            result = _run(tracer, fn, fake_args, fake_kwargs)
            after = ambient()
        tracer.machinery.ends()
        tracer.machinery.gives(result)
        with activated(tracer):
            return Way(tracer, stand, result, modes, after, roots, held)
    except UnsupportedError as refusal:
        if tracer.control.loose is None:
            raise
        raise tracer.control.first(ForkNeeded(tracer.control.loose, refusal)) from refusal
    except ForkNeeded as need:
        raise tracer.control.first(need) from need.refusal
    finally:
        unconverted.update(tracer.unconverted)
        tracer.machinery.back()
        torch._C._set_grad_enabled(modes.grad)
        tracer.journal.frames[0].restore(lambda obj: tracer.objects.source(obj) is not None)
        for one in held:
            one.close()
        for attributes in before:
            attributes.restore()
        forget_stand_ins(of_all=False)


def _is_one_told(tracer: Tracer) -> bool:
    """A tensor is given twice, and the code can tell."""
    return tracer.inputs.is_repeated and tracer.merged.are_tensors_told


def _run(tracer: Tracer, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    """The result; an error of the code is raised at run time."""
    try:
        return fn(*args, **kwargs)
    except OarlockError:
        raise
    except Exception as error:
        if tracer.control.loose is not None and of_choice(error):
            raise ForkNeeded(tracer.control.loose, error) from error
        raised_in(tracer, error, tracer.where(), tracer.root)
        return None


class Way:
    """One capture, and what it leaves behind; the only one where no decision forks."""

    def __init__(
        self, tracer: Tracer, stand: Stand, result: Any, modes: Ambient, after: Ambient,
        roots: list[Any], held: list[Held],
    ) -> None:  # fmt: skip
        self.held = held
        self.tracer, self.stand, self.result, self.roots = tracer, stand, result, roots
        self.modes, self.after = modes, after
        self.effects = Effects(tracer)
        self.effects.settle()
        self.objects = outer_objects(tracer, stand)
        tracer.merged.returned([result, *(value for _, _, _, value in self.effects.lines)])
        self.root.results = [self.effects.noted(result), *self.effects.values()]

    @property
    def root(self) -> Block:
        return self.tracer.root

    @property
    def taken(self) -> list[ForkNeeded]:
        return self.tracer.control.taken

    @property
    def inputs(self) -> list[tuple[Val, Source, Any]]:
        return self.tracer.inputs.found

    def emit(self, emitter: Emitter) -> None:
        """The end of the replay: modes, effects, result."""
        emitter.switch(self.after)
        rebuild = Rebuild(emitter, self.tracer)
        self.effects.emit(rebuild)
        emitter.line(f"return {rebuild.text(self.result)}")


def outer_objects(tracer: Tracer, stand: Stand) -> list[Any]:
    """Objects outside of the arguments that the code reads or changes."""
    found = {k: obj for k, (obj, _) in tracer.objects.places.items() if k not in stand.places}
    for key, (obj, _) in tracer.journal.frames[0].before.items():
        if tracer.objects.source(obj) is not None and key not in stand.places:
            found[key] = obj
    lists = [x for x, _, _ in tracer.objects.lists]
    objects = [x for x in found.values() if not isinstance(x, (RunList, Captured))]
    return [*objects, *lists, *tracer.objects.shared, *tracer.opaque.objects]


def _know(tracer: Tracer, roots: list[Any]) -> None:
    """Objects that exist before the call."""
    for module in modules_below(roots):
        tracer.objects.know(module)
    for root in roots:
        for owner in _held(root):
            tracer.objects.know(owner)


def _held(root: Any) -> Iterator[Any]:
    """The object that a method is of, and what a partial gives of its own."""
    if isinstance(root, functools.partial):
        yield from _held(root.func)
        given = (*root.args, *root.keywords.values())
        yield from (x for x in given if is_record(x))
    elif getattr(root, "__self__", None) is not None:
        yield root.__self__


def finish(tree: Any, call: tuple[tuple, dict], name: str) -> Tape:
    """Emit what was recorded."""
    file = f"<oarlock tape {next(_SERIAL)} of {name}>"
    root = assemble(tree)
    ends = list(ways(tree))
    first: Way = ends[0]
    first.tracer.lists.prune(root)
    emitter = Emitter(first.modes)
    emitter.left = {}
    guards = Guards(emitter)
    inputs = {val.id: (val, source) for way in ends for val, source, _ in way.inputs}
    for val, source in inputs.values():
        emitter.line(f"v{val.id} = {guards.place(source)}")
        emitter.bind([val.id])
    emitter.ending(root)
    for way in ends:
        with activated(way.tracer):
            conditions(guards, way, call)
    hoist(root, list(inputs.values()), guards)
    replay = emitter.compile("def replay(args, kwargs):", "replay", file)
    source = emitter.source("def replay(args, kwargs):")
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    tape = Tape(
        name, root, list(inputs.values()), first.result, source, guards,
        guards.compile(file + " guard"), replay, dict(emitter.origins), first.modes,
        first.tracer.inputs.symbolic, any(way.effects.has_any for way in ends),
    )  # fmt: skip
    tape.left, tape.seen = emitter.left, emitter.seen
    tape.objects = [obj for way in ends for obj in way.objects]
    tape.changes = first.effects.changes(1) if len(ends) == 1 else None
    tape.is_narrow = any(way.tracer.is_narrow for way in ends)
    tape.makes_state = any(one.grows for way in ends for one in way.held)
    divide(tape, ends, len(call[0]))
    forget(root)
    return tape


def divide(tape: Tape, ends: list[Way], count: int) -> None:
    """Cut a tape in parts that no program could run as a whole."""
    if not (tape.has_effects or not tape.is_straight_line or _reads_numbers(tape)):
        return
    try:
        tape.parts = cut(ends, tape.root, tape.inputs, count)
    except Whole as reason:
        tape.whole = str(reason)


def _reads_numbers(tape: Tape) -> bool:
    return any(
        source.base is not None and not isinstance(val.sample, torch.Tensor)
        for val, source in tape.inputs
    )


def forget(block: Block) -> None:
    """Let go of the captures, which hold the tensors of the call."""
    block.end = None
    for node in block.nodes:
        if isinstance(node, Call):
            node.left = None
        for inner in blocks_of(node):
            forget(inner)


def conditions(guards: Guards, way: Way, call: tuple[tuple, dict]) -> None:
    """Everything that a call must meet for the tape to serve it."""
    args, kwargs = call
    tracer, stand, modes, roots = way.tracer, way.stand, way.modes, way.roots
    guards.add(f"len(args) == {len(args)} and list(kwargs) == {list(kwargs)!r}", "the arguments")
    guards.add(runtime.ambient_text(modes, guards.emitter), "the modes around the call")
    for source, x in tracer.objects.structures:
        guards.structure(source, x)
    for x, source in stand.shapes:
        guards.structure(source, x)
    for x, source in stand.atoms:
        guards.same(source, x)
    replaced, found = way.effects.places(), Counter(id(x) for _, x in tracer.objects.guarded)
    for source, x in tracer.objects.guarded:
        if isinstance(x, dict) and found[id(x)] == 1 and key_of(source, -1) in replaced:
            guards.kind(source, x)
        else:
            guards.same(source, x)
    for source, key, found in tracer.objects.containers.keys:
        guards.add(f"({key!r} in {guards.place(source)}) is {found}", f"{source} has {key!r}")
    for source, x in tracer.objects.containers.wholes.values():
        guards.content(source, x)
    for source, name, found in tracer.objects.presences.values():
        guards.add(f"hasattr({guards.place(source)}, {name!r}) is {found}", f"{source} has {name}")
    for val, source, real in tracer.inputs:
        if not isinstance(real, torch.Tensor):
            guards.number(source, real)
        elif source.base is None:
            guards.tensor(source, real, val.dims)
        else:
            guards.state(source, real, val.dims)
        if isinstance(real, torch.Tensor) and real.layout is torch.strided:
            if tracer.layout_asked:
                guards.layout(source, real, tracer.layout_asked)
            if tracer.has_backward and real.requires_grad:
                guards.hooks(source, real)
    for source, is_none in tracer.grad_guards.values():
        guards.add(
            f"({guards.place(source)}.grad is None) is {is_none}", f"the gradient of {source}"
        )
    identities(guards, way)
    for one in way.held:
        one.guard(guards)
    tracer.code.guard(guards)
    for module in dict.fromkeys([*modules_below(roots), *tracer.code.modules]):
        guards.module(module, module in tracer.code.modules)


def identities(guards: Guards, way: Way) -> None:
    """Tensors and objects that change are one, or two, as they were."""
    tracer, stand = way.tracer, way.stand
    read = {id(x): source for _, source, x in tracer.inputs if source.base is not None}
    for x, source in tied(way.roots):
        first = read.get(id(x), source)
        if key_of(first, -1) != key_of(source, -1):
            guards.add(f"{guards.place(first)} is {guards.place(source)}", f"{first} is {source}")
    for a, b in [*tracer.inputs.aliases, *stand.aliases]:
        guards.add(f"{guards.place(a)} is {guards.place(b)}", f"{a} is {b}")
    if tracer.merged.are_tensors_told:
        guards.distinct([s for _, s, x in tracer.inputs if isinstance(x, torch.Tensor)], "tensors")
    if not tracer.merged.are_objects_told:
        return
    objects = {id(x): source for x, source in stand.shapes if not isinstance(x, tuple)}
    for root in way.roots:
        owner = getattr(root, "__self__", root)
        objects.setdefault(id(owner), Source(owner, ""))
    for source, x in [*tracer.objects.guarded, *((s, x) for x, s, _ in tracer.objects.lists)]:
        if isinstance(x, (list, dict)) or is_record(x):
            objects.setdefault(id(x), source)
    guards.distinct(list(objects.values()), "objects")


def _holds_state(x: Any) -> bool:
    return isinstance(x, (torch.nn.Module, torch.optim.Optimizer))


def _name(fn: Any) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


def _shown(fn: Any, i: int) -> str:
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code else ()
    i += hasattr(fn, "__func__")
    return names[i] if i < len(names) else f"args[{i}]"
