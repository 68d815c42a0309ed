"""Group the nodes of a graph into kernels; no pattern lists.

Every node is of one kind.  *Free* nodes (constants, iota, views, masks of what is stored) cost next to
nothing where they are read and are repeated in each group that reads them.  *Loop* nodes (pointwise,
reductions, pads, concats) join the groups of their operands as long as all of a group fits one
iteration space (``domain.analyse``) and no cycle arises.  Every other node anchors a group of its own, and takes pointwise consumers as an
epilogue where its kernel can apply one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from oarlock.codegen import scalars
from oarlock.codegen.domain import CannotShare, Domain, analyse, is_reduction, reduced_axes
from oarlock.codegen.emitter import MOVES, PICKS, output_indices, symbols_of
from oarlock.codegen.indexing import BACKWARD, FORWARD, Space, linear
from oarlock.codegen.loops import stride_of
from oarlock.codegen.operands import operands_of
from oarlock.codegen.target import Target
from oarlock.ir.dim import bounds, product
from oarlock.ir.graph import Graph, Node, Value

LEAVES = frozenset(("const", "iota", "size"))
MASKING = frozenset(("bit_and", "bit_or", "bit_xor", "cast", "logical_not"))
COMPARISONS = frozenset(("eq", "ge", "gt", "le", "lt", "ne"))
MAX_NODES = 96  # of a loop group
MAX_OPERANDS = 24  # buffers of a loop group
MAX_SIBLINGS = 4  # groups tried that read the same tensor
REPEATED = 4  # cheap nodes worth computing again rather than storing


@dataclass(frozen=True)
class Epilogue:
    """Pointwise nodes applied to ``anchor`` before it is stored.

    ``outputs`` are the values that the kernel stores in place of the anchor (the anchor itself may
    be one of them), ``inputs`` the other tensors read.  See ``Emitter.epilogue``.
    """

    anchor: Value
    nodes: tuple[Node, ...] = ()
    outputs: tuple[Value, ...] = ()
    inputs: tuple[Value, ...] = ()


@dataclass(eq=False)
class Group:
    """What one kernel computes.

    kind: "loop" (``nests.build``), "kernel" (``anchor`` by the kernel table, then ``epilogue``) or
    "alias" (a reshape: ``writes[0]`` is the memory of ``reads[0]``).  ``reads`` and ``writes`` are
    values in memory; a param's value counts as memory.  ``sums``: a sum of the columns of what a kernel
    reads turned, which it gives besides.
    """

    kind: str
    nodes: list[Node] = field(default_factory=list)
    anchor: Node | None = None
    epilogue: Epilogue | None = None
    reads: tuple[Value, ...] = ()
    writes: tuple[Value, ...] = ()
    sums: Node | None = None


def group(graph: Graph, target: Target) -> list[Group]:
    """The kernels of a graph in an order that respects what they read."""
    return _Fuser(graph, target).run()


def takes_epilogue(node: Node) -> bool:
    """The kernel of ``node`` applies epilogues (its builder says so)."""
    from oarlock.codegen.kernels import makers

    return len(node.outputs) == 1 and getattr(makers().get(node.name), "takes_epilogue", False)


def is_loop_node(node: Node) -> bool:
    """A node that loop nests compute."""
    return type(node.op).pointwise or is_reduction(node) or node.name in MOVES | PICKS


class _Fuser:
    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph, self.target = graph, target
        self.order = {node: i for i, node in enumerate(graph.nodes)}
        self.uses = graph.uses()
        self.outputs = set(graph.outputs)
        self.repeated: set[Node] = set()
        self.needed = self._needed_in_memory()
        self.repeated = {n for n in graph.nodes if self._is_mask_of_stored(n)}
        for node in graph.nodes:
            if self._is_made_of_masks(node):
                self.repeated.add(node)
        self.group_of: dict[Node, Group] = {}
        self.before: dict[Group, set[Group]] = {}  # every group that must run earlier

    def run(self) -> list[Group]:
        """See ``group``."""
        for node in self.graph.nodes:
            self._add(node)
        groups = list(dict.fromkeys(self.group_of.values()))
        for g in groups:
            self._finish(g)
            if g.sums is not None:
                g.nodes, g.writes = [*g.nodes, g.sums], (*g.writes, g.sums.output)
        return self._sorted(groups)

    # What a node is

    def _is_free(self, node: Node) -> bool:
        """Repeated wherever it is read."""
        return node.name in LEAVES or node.name in BACKWARD or node in self.repeated

    def _is_mask_of_stored(self, node: Node) -> bool:
        """A comparison by a number of what is in memory anyway for about as long: not worth memory
        of its own from the forward pass on, as ``x <= 0`` of a relu."""
        if node.name not in COMPARISONS or node.output in self.needed:
            return False
        compared = [v for v in node.inputs if not self._is_number(v)]
        users = [user for user, _ in self.uses[node.output]]
        if len(compared) != 1 or not users or not all(map(is_loop_node, users)):
            return False
        base = self._base(compared[0])
        if base.producer is None:
            return True
        born, last = self.order[base.producer], max(self.order[u] for u in users)
        longer = max(0, last - self._last_use(base, node))
        return base in self.needed and longer * base.dtype.bytes < last - born

    def _is_made_of_masks(self, node: Node) -> bool:
        """Masks joined, or as numbers: no group has to wait for another that would store them."""
        users = [user for user, _ in self.uses[node.output]] if len(node.outputs) == 1 else []
        return (
            node.name in MASKING
            and bool(users)
            and node.output not in self.needed
            and all(v.producer in self.repeated for v in node.inputs)
            and all(map(is_loop_node, users))
        )

    def _is_number(self, value: Value) -> bool:
        base = self._base(value)
        return base.rank == 0 and base.producer is not None and base.producer.name == "const"

    def _last_use(self, value: Value, besides: Node) -> int:
        """The place of the last node that reads a value, through views; -1 when there is none."""
        found = -1
        for user, _ in self.uses[value]:
            if self._is_free(user):
                found = max(found, *(self._last_use(v, besides) for v in user.outputs))
            elif user is not besides:
                found = max(found, self.order[user])
        return found

    def _needed_in_memory(self) -> set[Value]:
        """Values that a kernel other than a loop reads, and the graph's outputs."""
        needed = set(self.graph.outputs)
        for node in reversed(self.graph.nodes):
            opaque = not is_loop_node(node) and not self._is_free(node)
            if opaque:
                needed |= set(operands_of(node))
            elif node.name in PICKS:
                needed.add(self._base(node.inputs[0]))
            elif node.name == "reshape" and node.output in needed:
                needed.add(node.inputs[0])
        return needed

    def _base(self, value: Value) -> Value:
        """The value in memory or in a group that free nodes read in the end."""
        while value.producer is not None and value.producer.name in BACKWARD:
            value = value.producer.inputs[0]
        return value

    def _bases(self, node: Node) -> list[Value]:
        found: list[Value] = []
        for base in map(self._base, node.inputs):
            if base.producer in self.repeated:
                found += self._bases(base.producer)
            elif base.producer is not None:
                found.append(base)
        return found

    def _producers(self, node: Node) -> list[Group]:
        """Groups whose values a node reads, latest first."""
        found = {
            self.group_of[b.producer] for b in self._bases(node) if b.producer in self.group_of
        }
        return sorted(found, key=lambda g: -max(self.order[n] for n in g.nodes))

    # Growing groups

    def _add(self, node: Node) -> None:
        if node.name == "param":
            return
        if self._is_free(node):
            if any(v in self.needed for v in node.outputs):
                self._materialise(node)
            return
        if is_loop_node(node):
            if not self._join_epilogue(node) and not self._join_product(node):
                self._join_loops(node)
            return
        self._open(Group("kernel", [node], node), node)

    def _materialise(self, node: Node) -> None:
        """A free node whose value must lie in memory."""
        kind = "alias" if node.name == "reshape" else "loop"
        if kind == "loop" and self._join_epilogue(node):
            return
        self._open(Group(kind, [node]), node)

    def _open(self, new: Group, node: Node) -> Group:
        self.group_of[node] = new
        self.before[new] = self._earlier(node)
        return new

    def _earlier(self, node: Node) -> set[Group]:
        """Groups that must run before ``node``; views that lie in memory count as producers."""
        read = (*node.inputs, *operands_of(node))
        direct = [v.producer for v in read if v.producer in self.group_of]
        found: set[Group] = set()
        for g in (*self._producers(node), *(self.group_of[p] for p in direct)):
            found |= {g} | self.before[g]
        return found

    def _join_loops(self, node: Node) -> None:
        new = self._open(Group("loop", [node]), node)
        for candidate in (*self._producers(node), *self._siblings(node)):
            is_alive = candidate in self.before and candidate is not new
            if is_alive and candidate.kind == "loop":
                self._try_merge(candidate, new)

    def _siblings(self, node: Node) -> list[Group]:
        """Groups that read the same tensors, latest first."""
        found: dict[Group, None] = {}
        for value in node.inputs:
            base = self._base(value)
            if base.rank and (base.producer is None or base.producer.name != "param"):
                found |= dict.fromkeys(self._readers(base))
        return list(found)[::-1][:MAX_SIBLINGS]

    def _readers(self, value: Value) -> Iterator[Group]:
        for user, _ in self.uses[value]:
            if user in self.group_of:
                yield self.group_of[user]
            elif self._is_free(user):
                for out in user.outputs:
                    yield from self._readers(out)

    def _try_merge(self, earlier: Group, later: Group) -> None:
        """Join two groups when that is legal and saves memory traffic."""
        if len(earlier.nodes) + len(later.nodes) > MAX_NODES:
            return
        if self._has_path(earlier, later) or self._has_path(later, earlier):
            return
        nodes = self._in_order([*earlier.nodes, *later.nodes])
        if any(n.name in MOVES for n in nodes[:-1]):
            return
        if not self._fits(nodes, earlier, later):
            return
        later.nodes = nodes
        for node in earlier.nodes:
            self.group_of[node] = later
        self.before[later] |= self.before.pop(earlier)
        self.before[later] -= {earlier, later}
        for g, ancestors in self.before.items():
            if earlier in ancestors:
                ancestors.discard(earlier)
                ancestors |= {later} | self.before[later]
            elif later in ancestors:
                ancestors |= self.before[later]
            assert g not in ancestors, "fusion made a cycle"

    def _has_path(self, earlier: Group, later: Group) -> bool:
        """Something that is in neither needs ``earlier`` and is needed by ``later``."""
        return any(earlier in self.before[g] for g in self.before[later] if g is not earlier)

    def _in_order(self, nodes: Iterable[Node]) -> list[Node]:
        return sorted(dict.fromkeys(nodes), key=self.order.__getitem__)

    def _with_free(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes with the free ones that they read."""
        found = dict.fromkeys(nodes)
        stack = [v for n in nodes for v in n.inputs]
        while stack:
            node = stack.pop().producer
            if node is not None and node not in found and self._is_free(node):
                found[node] = None
                stack += node.inputs
        return self._in_order(found)

    def _escaping(self, nodes: Sequence[Node], later: Group | None = None) -> list[Value]:
        """Values of a group that something outside of it reads, or will read."""
        inside = set(nodes)
        found = []
        for node in nodes:
            for v in node.outputs:
                if v in self.needed or self._is_read_outside(v, inside):
                    found.append(v)
        return found

    def _is_read_outside(self, value: Value, inside: set[Node], is_stored: bool = False) -> bool:
        """``is_stored``: a view that the group stores lies between, which kernels read instead;
        loops read through all views."""
        for user, _ in self.uses[value]:
            if not self._is_free(user):
                if user not in inside and (is_loop_node(user) or not is_stored):
                    return True
                continue
            below = user in inside or (is_stored and user.name == "reshape")
            if any(self._is_read_outside(v, inside, below) for v in user.outputs):
                return True
        return False

    def _fits(self, nodes: list[Node], earlier: Group, later: Group) -> bool:
        outputs = self._escaping(nodes) or [nodes[-1].outputs[0]]
        if nodes[-1].output not in outputs if len(nodes[-1].outputs) == 1 else False:
            outputs.append(nodes[-1].output)
        if nodes[-1].name in MOVES:
            return self._fits_move(nodes, outputs)
        try:
            domain = analyse(self._with_free(nodes), outputs)
        except CannotShare:
            return False
        buffers = {v for v, _ in domain.loads} | {v for v, _ in domain.stores}
        if domain.divides or len(buffers) > MAX_OPERANDS:
            return False
        return self._keeps_threads(domain) and self._repeats_little(domain, nodes)

    def _fits_move(self, nodes: list[Node], outputs: list[Value]) -> bool:
        """A concat or pad takes its operands when it is all that reads them."""
        if len(outputs) > 1 or any(is_reduction(n) for n in nodes):
            return False
        if nodes[-1].name == "pad":
            return all(n.name in scalars.CHEAP for n in nodes[:-1])
        inside = set(nodes)
        return all(v.producer not in inside or len(self.uses[v]) == 1 for v in nodes[-1].inputs)

    def _keeps_threads(self, domain: Domain) -> bool:
        """Do not put a long pass over the whole tensor behind a reduction with very few rows."""
        if not any(a.reduced for a in domain.axes):
            return True
        rows = product(a.extent for a in domain.axes if not a.reduced)
        full = [v for v, at in domain.stores if _mentions_reduced(domain, at)]
        low, high = bounds(rows)
        inner = product(a.extent for a in domain.axes if a.reduced)
        is_small = isinstance(inner, int) and inner <= 1 << 14
        return not full or is_small or high is None or low > 4

    def _repeats_little(self, domain: Domain, nodes: Sequence[Node]) -> bool:
        """Values that do not span the space are computed once per place, or are cheap."""
        every = {a.name for a in domain.axes}
        inner = domain.axes[-1].name if domain.axes else ""
        reduced = {a.name for a in domain.axes if a.reduced}
        for node in nodes:
            if is_reduction(node) or node.name in scalars.CHEAP:
                continue
            places = domain.visits.get(node.outputs[0], set())
            if len(places) > 1 and not all(
                domain.space.symbols(p) <= every - reduced for p in places
            ):
                return False
            for place in places:
                names = domain.space.symbols(place)
                if names not in (every, every - reduced) and inner in names:
                    return False
        return self._cheap_repeats(domain, nodes, every, inner)

    def _cheap_repeats(
        self, domain: Domain, nodes: Sequence[Node], every: set[str], inner: str
    ) -> bool:
        partial = [
            n
            for n in nodes
            for p in domain.visits.get(n.outputs[0], ())
            if domain.space.symbols(p) != every and inner in domain.space.symbols(p)
        ]
        return len(partial) <= REPEATED

    # Products

    def _join_product(self, node: Node) -> bool:
        """Let a product that reads a matrix turned give the sums of its columns."""
        (x, *_) = node.inputs
        if node.name != "reduce_sum" or x.rank != 2 or reduced_axes(node) != (0,):
            return False
        for turned, _ in self.uses[x]:
            for user, _ in self.uses[turned.outputs[0]] if turned.name == "transpose" else ():
                g = self.group_of.get(user)
                if g is not None and self._gives_sums(g, user, node):
                    g.sums, self.group_of[node] = node, g
                    return True
        return False

    def _gives_sums(self, g: Group, product: Node, node: Node) -> bool:
        from oarlock.codegen.kernels import makers

        summed = getattr(makers().get(product.name), "summed", None)
        is_alone = g.anchor is product and g.sums is None and g.kind == "kernel"
        is_same = node.output.dtype is product.output.dtype
        if summed is None or not is_alone or not is_same or product.inputs[0] is product.inputs[1]:
            return False
        return summed(product, self.target) is node.inputs[0]

    # Epilogues

    def _join_epilogue(self, node: Node) -> bool:
        """Let an anchored group compute ``node`` before it stores."""
        if not (type(node.op).pointwise or node.name in FORWARD):
            return False
        for g in self._producers(node):
            if g.kind == "kernel" and g.anchor is not None and takes_epilogue(g.anchor):
                if self._is_cheaper_later(g, node) or self._reads_sums(g, node):
                    continue
                nodes = self._in_order([*g.nodes, node])
                if not self._blocked(g, node) and self._is_epilogue(g.anchor, nodes):
                    self.before[g] |= self._earlier(node) - {g}
                    for other, ancestors in self.before.items():
                        if g in ancestors and other is not g:
                            ancestors |= self.before[g]
                    g.nodes = nodes
                    self.group_of[node] = g
                    return True
        return False

    def _is_cheaper_later(self, g: Group, node: Node) -> bool:
        """Only reductions read ``node``, which compute it from what ``g`` stores for others anyway."""
        users = [user for user, _ in self.uses[node.output]]
        is_for_sums = bool(users) and all(map(is_reduction, users)) and node.name in scalars.CHEAP
        own = [v for v in node.inputs if v.producer in g.nodes]
        is_stored = any(
            v in self.needed or any(u is not node for u, _ in self.uses[v]) for v in own
        )
        return is_for_sums and node.output not in self.needed and is_stored

    def _reads_sums(self, g: Group, node: Node) -> bool:
        """``node`` needs sums that are there after the last tile."""
        return g.sums is not None and any(b.producer is g.sums for b in self._bases(node))

    def _blocked(self, g: Group, node: Node) -> bool:
        """Another operand of ``node`` is computed from what ``g`` gives."""
        return any(g in self.before[p] for p in self._earlier(node) if p is not g)

    def _is_epilogue(self, anchor: Node, nodes: Sequence[Node]) -> bool:
        """Each value has the anchor's elements, adjacent ones stay adjacent, operands broadcast."""
        chain = self._with_free([n for n in nodes if n is not anchor])
        space = Space()
        shape = anchor.output.shape
        index = tuple(space.symbol(f"_a{k}", n) if n != 1 else 0 for k, n in enumerate(shape))
        if not shape:
            return False
        inner = f"_a{len(shape) - 1}"
        places = output_indices(anchor.output, chain, index, space)
        names = space.symbols(index)
        for value in self._escaping(nodes):
            if value not in places or space.symbols(places[value]) != names:
                return False
            if value.type.size != anchor.output.type.size:
                return False
            if stride_of(linear(places[value], value.shape), inner) != 1:
                return False
        return all(
            self._reads_well(n, anchor.output, chain, places, inner, space)
            for n in nodes
            if n is not anchor
        )

    def _reads_well(
        self,
        node: Node,
        anchor: Value,
        chain: Sequence[Node],
        places: dict[Value, tuple],
        inner: str,
        space: Space,
    ) -> bool:
        """Operands of an epilogue's node are read along the lanes, the anchor where it is computed."""
        if node.outputs[0] not in places:
            return False
        from oarlock.codegen.domain import loads_below

        index = places[node.output]
        for value, at, place in loads_below(node.output, index, set(chain), space, {anchor}):
            if value is anchor:
                if place != places[anchor]:
                    return False
            elif stride_of(at, inner) not in (0, 1):
                return False
        return True

    # Finishing

    def _finish(self, g: Group) -> None:
        own = list(g.nodes)
        g.nodes = self._with_free(own)
        if g.kind == "alias":
            g.nodes = own
            g.reads, g.writes = (own[0].inputs[0],), (own[0].output,)
            return
        g.writes = tuple(self._escaping(own)) or own[-1].outputs[:1]
        if g.kind == "loop":
            g.reads = tuple(dict.fromkeys(_leaves(g.nodes)))
            return
        assert g.anchor is not None
        if len(own) == 1:
            g.nodes, g.writes = own, g.anchor.outputs
            g.reads = tuple(dict.fromkeys(operands_of(g.anchor)))
            if len(g.anchor.outputs) == 1:
                g.epilogue = Epilogue(g.anchor.output, (), (g.anchor.output,), ())
            return
        chain = self._with_free([n for n in own if n is not g.anchor])
        extra = [v for v in _leaves(chain) if v is not g.anchor.output]
        g.nodes = self._in_order([g.anchor, *chain])
        g.reads = tuple(dict.fromkeys([*operands_of(g.anchor), *extra]))
        inputs = tuple(dict.fromkeys(extra))
        g.epilogue = Epilogue(g.anchor.output, tuple(chain), g.writes, inputs)

    def _sorted(self, groups: Sequence[Group]) -> list[Group]:
        """Groups after those whose values they read, otherwise in program order."""
        written = {v: g for g in groups for v in g.writes}
        done: dict[Group, None] = {}

        def visit(g: Group, path: tuple[Group, ...] = ()) -> None:
            if g in done:
                return
            assert g not in path, "groups depend on each other"
            for v in g.reads:
                if v in written and written[v] is not g:
                    visit(written[v], (*path, g))
            done[g] = None

        for g in sorted(groups, key=lambda g: max(self.order[n] for n in g.nodes)):
            visit(g)
        return list(done)


def _leaves(nodes: Sequence[Node]) -> Iterator[Value]:
    """Values that nodes read from outside."""
    made = {v for n in nodes for v in n.outputs}
    for node in nodes:
        yield from (v for v in node.inputs if v not in made)


def _mentions_reduced(domain: Domain, at: object) -> bool:
    return bool(symbols_of((at,)) & {a.name for a in domain.axes if a.reduced})  # type: ignore
