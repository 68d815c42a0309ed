"""Attributes of modules and other objects."""

from tests.capture.tape.changing.kinds import NET, kind

kind("attr int", NET, "x * net.n", "net.n = 3", "net.n = 5", "net.n = 2")
kind(
    "attr int in decision",
    NET,
    "x * 2 if net.n > 2 else x + 1",
    "net.n = 3",
    "net.n = 5",
    "net.n = 2",
)
kind("attr float", NET, "x * net.rate", "net.rate = 1.5", "net.rate = 0.25")
kind("attr bool", NET, "(x * 2 if net.on else x)", "net.on = False", "net.on = True")
kind("attr str", NET, "(x * 2 if net.name == 'a' else x)", "net.name = 'b'", "net.name = 'a'")
kind(
    "attr none",
    NET,
    "(x * 2 if net.none is None else x + net.none)",
    "net.none = torch.ones(3) * 3",
    "net.none = None",
    "net.none = 4",
)
kind(
    "attr tensor",
    NET,
    "x * net.t",
    "net.t = torch.arange(3.)",
    "net.t = torch.ones(1)",
    "net.t = torch.ones(3).double()",
)
kind(
    "attr tensor inplace",
    NET,
    "x * net.t",
    "net.t.add_(1)",
    "net.t.mul_(2)",
    "net.t.data = torch.arange(3.)",
)
kind(
    "attr list item",
    NET,
    "x * net.items[0] + len(net.items)",
    "net.items[0] = 4",
    "net.items.append(2)",
    "net.items = [7]",
)
kind(
    "attr list for",
    NET,
    "sum([x * i for i in net.items], x)",
    "net.items[0] = 4",
    "net.items.append(2)",
    "net.items = [7]",
)
kind(
    "attr dict",
    NET,
    "x * net.table['k'] + len(net.table)",
    "net.table['k'] = 4",
    "net.table['z'] = 2",
    "net.table = {'k': 9}",
)
kind(
    "attr dict values",
    NET,
    "sum([x * i for i in net.table.values()], x)",
    "net.table['k'] = 4",
    "net.table['z'] = 2",
    "net.table = {'k': 9}",
)
kind("attr object", NET, "x * net.obj.a", "net.obj.a = 3", "net.obj = types.SimpleNamespace(a=7)")
kind("attr type int to float", NET, "x * net.n / 2", "net.n = 2.0", "net.n = True", "net.n = 2")
kind(
    "attr int to tensor",
    NET,
    "x * net.n",
    "net.n = torch.tensor(3.)",
    "net.n = 2",
    "net.n = torch.tensor(4)",
)
kind("attr deleted", NET, "x * getattr(net, 'extra', 1)", "net.extra = 3", "del net.extra")
kind("class attr", NET, "x * net.limit", "Net.limit = 3", "net.limit = 5", "del net.limit")
kind("class attr of class", NET, "x * Net.limit", "Net.limit = 3", "Net.limit = 5")
kind(
    "cached property",
    "class O:\n    k = 2\n    @functools.cached_property\n    def p(self): return self.k * 2\no = O()",
    "x * o.p",
    "o.k = 5",
    "o.__dict__.pop('p', None)",
    "o.p = 9",
)
kind(
    "property",
    "class O:\n    k = 2\n    @property\n    def p(self): return self.k * 2\no = O()",
    "x * o.p",
    "o.k = 5",
    "O.k = 7",
)
kind(
    "property private",
    "class O:\n    def __init__(self): self._k = [2]\n    @property\n    def p(self): return self._k[0] * 2\no = O()",
    "x * o.p",
    "o._k[0] = 5",
    "o._k = [8]",
)
kind("slots", "class O:\n    __slots__ = ('k',)\no = O(); o.k = 2", "x * o.k", "o.k = 5", "o.k = 7")
kind(
    "getattr dunder",
    "class O:\n    def __init__(self): self.d = {'k': 2}\n    def __getattr__(self, n): return self.__dict__['d'][n]\no = O()",
    "x * o.k",
    "o.d['k'] = 5",
    "o.d = {'k': 8}",
)
kind(
    "descriptor",
    "class D:\n    def __get__(self, o, t): return o.__dict__['v']\nclass O:\n    k = D()\no = O(); o.__dict__['v'] = 2",
    "x * o.k",
    "o.__dict__['v'] = 5",
    "vars(o)['v'] = 6",
)
kind(
    "dataclass",
    "@dataclasses.dataclass\nclass C:\n    n: int = 2\n    on: bool = True\nc = C()",
    "x * c.n if c.on else x",
    "c.n = 3",
    "c.on = False",
    "global c; c = C(7, True)",
)
kind(
    "frozen dataclass",
    "@dataclasses.dataclass(frozen=True)\nclass C:\n    n: int = 2\nc = C()",
    "x * c.n",
    "global c; c = dataclasses.replace(c, n=3)",
    "global c; c = C(7)",
)
kind(
    "namedtuple",
    "C = collections.namedtuple('C', 'n m')\nc = C(2, [3])",
    "x * c.n + c.m[0]",
    "global c; c = c._replace(n=3)",
    "c.m[0] = 9",
)
kind(
    "nested object",
    "class O: pass\no = O(); o.a = O(); o.a.b = [O()]; o.a.b[0].c = 2",
    "x * o.a.b[0].c",
    "o.a.b[0].c = 3",
    "o.a.b = [types.SimpleNamespace(c=8)]",
)
kind(
    "weight tying",
    NET + "\nnet.out = nn.Linear(3, 3)",
    "net.out(net.lin(x))",
    "net.out.weight = net.lin.weight",
    "net.out.weight = nn.Parameter(net.lin.weight.detach().clone())",
)
kind(
    "type of object",
    "class A:\n    k = 2\nclass B:\n    k = 3\no = A()",
    "x * o.k if isinstance(o, A) else x - o.k",
    "global o; o = B()",
    "o.__class__ = A",
)
kind(
    "enum",
    "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\ne = E.A",
    "x * e.value if e is E.A else x",
    "global e; e = E.B",
    "global e; e = E.A",
)
kind(
    "dtype object",
    "D = torch.float32",
    "x.to(D)",
    "global D; D = torch.float64",
    "global D; D = torch.bfloat16",
)
kind(
    "isinstance registry",
    "import abc\nclass B(abc.ABC): pass\nclass A: pass\no = A()",
    "x * 2 if isinstance(o, B) else x",
    "B.register(A)",
)
kind(
    "type name",
    "class A:\n    def go(self, x): return x * 2\nclass B:\n    def go(self, x): return x * 3\nc = A",
    "c().go(x)",
    "global c; c = B",
    "A.go = lambda self, x: x * 9",
    "global c; c = A",
)
kind(
    "string format",
    "class A: pass\no = A(); o.s = 'a'",
    "x * len(f'{o.s}-{o.s}')",
    "o.s = 'abcd'",
    "o.s = 'xx'",
)
kind(
    "weakref",
    "import weakref\nclass A: pass\no = A(); o.k = 2; r = weakref.ref(o)",
    "x * r().k",
    "o.k = 3",
    "global o; o2 = o; o = A(); o.k = 9; global r; r = weakref.ref(o)",
)
kind(
    "lock state",
    "class O:\n    busy = False\no = O()",
    "x * 2 if not o.busy else x",
    "o.busy = True",
    "del o.busy",
)
kind(
    "config object",
    "class Cfg:\n    def __init__(self, **k): self.__dict__.update(k)\nc = Cfg(n=2, act='relu')",
    "getattr(torch, c.act)(x) * c.n",
    "c.act = 'tanh'",
    "global c; c = Cfg(n=3, act='relu')",
    "c.n = 10",
)
