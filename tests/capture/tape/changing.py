"""State that a call reads and something changes: programs as text, made from two tables.

A kind of state is set up, read by an expression of ``x``, and changed by statements.  A position says
who changes it, and when.
"""

from __future__ import annotations

import re
from textwrap import dedent, indent

HEAD = """
import contextlib, contextvars, functools, math, os, random, time, types, copy, collections
import dataclasses, operator
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
"""

KINDS: dict[str, tuple[str, str, list[str]]] = {}


def kind(name: str, setup: str, read: str, *changes: str) -> None:
    """State made by ``setup``, read by an expression of ``x``, and what changes it."""
    KINDS[name] = (dedent(setup).strip(), read, [dedent(c).strip() for c in changes])


NET = """
class Net(nn.Module):
    limit = 2
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lin = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.bn = nn.BatchNorm1d(3)
        self.register_buffer("buf", torch.ones(3))
        self.n, self.rate, self.on, self.name, self.none, self.t = 2, 0.5, True, "a", None, torch.ones(3)
        self.items, self.table, self.obj = [1, 2], {"k": 1}, types.SimpleNamespace(a=1)
    def forward(self, x):
        return self.lin(x)
    def scale(self, x):
        return x * 2
net = Net()
"""
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
    "submodule replaced",
    NET,
    "net.lin(x)",
    "net.lin = nn.Identity()",
    "net.lin = nn.Sequential(nn.ReLU())",
    "net.lin = nn.LayerNorm(3)",
)
kind("submodule attr", NET, "net.drop(x)", "net.drop.p = 0.0", "net.drop.p = 1.0")
kind("whole module", NET, "net(x)", "net.lin = nn.Identity()", "net.lin = nn.ReLU()")
kind(
    "parameter replaced",
    NET,
    "net.lin(x)",
    "net.lin.weight = nn.Parameter(torch.eye(3))",
    "net.lin.bias = None",
    "net.lin.bias = nn.Parameter(torch.ones(3))",
)
kind(
    "parameter data",
    NET,
    "net.lin(x)",
    "net.lin.weight.data = torch.eye(3)",
    "net.lin.weight.data.mul_(2)",
    "net.lin.weight.data = torch.eye(3).t() * 3",
)
kind(
    "requires_grad",
    NET,
    "net.lin(x)",
    "net.lin.weight.requires_grad_(False)",
    "net.lin.bias.requires_grad = False",
    "net.lin.weight.requires_grad_(True)",
)
kind(
    "requires_grad read",
    NET,
    "x * 2 if net.lin.weight.requires_grad else x",
    "net.lin.weight.requires_grad_(False)",
    "net.lin.weight.requires_grad_(True)",
)
kind("dtype", NET, "net.lin(x.to(net.lin.weight.dtype))", "net.double()", "net.float()")
kind(
    "load_state_dict",
    NET,
    "net(x)",
    "net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()})",
)
kind(
    "buffer replaced",
    NET,
    "x * net.buf",
    "net.buf = torch.arange(3.)",
    "net.buf = torch.ones(1)",
    "net.buf = None; net.buf = torch.ones(3, 1)[:, 0]",
)
kind(
    "buffer none",
    NET,
    "x * 2 if net.buf is None else x * net.buf",
    "net.buf = None",
    "net.buf = torch.ones(3) * 3",
)
kind("buffer filled", NET, "x * net.buf", "net.buf.fill_(3)", "net.buf.zero_()")
kind(
    "forward hook",
    NET,
    "net(x)",
    "h1 = net.lin.register_forward_hook(lambda m, a, o: o * 2)",
    "h2 = net.register_forward_hook(lambda m, a, o: o + 1)",
    "net.lin._forward_hooks.clear()",
)
kind(
    "forward pre hook",
    NET,
    "net(x)",
    "h1 = net.lin.register_forward_pre_hook(lambda m, a: (a[0] * 2,))",
    "net.lin._forward_pre_hooks.clear()",
)
kind(
    "hook removed",
    NET + "\nhandle = [net.lin.register_forward_hook(lambda m, a, o: o * 2)]",
    "net(x)",
    "handle[0].remove()",
    "handle[0] = net.lin.register_forward_hook(lambda m, a, o: o * 3)",
)
kind(
    "global hook",
    NET + "\nhandle = []",
    "net(x)",
    "handle.append(torch.nn.modules.module.register_module_forward_hook(lambda m, a, o: o * 2))",
    "handle.pop().remove()",
)
kind(
    "train eval",
    NET,
    "net.bn(net.drop(x.expand(4, 3)))",
    "net.eval()",
    "net.train()",
    "net.bn.eval()",
)
kind("training read", NET, "x * 2 if net.training else x", "net.eval()", "net.train()")
kind(
    "bn flags",
    NET,
    "net.bn(x.expand(4, 3) * torch.arange(4.)[:, None]) + net.bn.running_mean",
    "net.bn.momentum = 0.9",
    "net.bn.eval()",
    "net.bn.track_running_stats = False",
    "net.bn.running_mean = None; net.bn.running_var = None; net.bn.running_mean = torch.ones(3)",
)
kind("global int", "G = 2", "x * G", "global G; G = 3", "global G; G = 5")
kind("global bool", "G = True", "x * 2 if G else x", "global G; G = False", "global G; G = True")
kind(
    "global tensor",
    "G = torch.ones(3)",
    "x * G",
    "global G; G = torch.arange(3.)",
    "G.add_(2)",
    "global G; G = torch.ones(2, 3)",
)
kind(
    "global list", "G = [1, 2]", "x * G[0] + len(G)", "G[0] = 4", "G.append(5)", "global G; G = [9]"
)
kind(
    "global function",
    "def G(x): return x * 2\ndef H(x): return x + 5",
    "G(x)",
    "global G; G = H",
    "global G; G = torch.sin",
    "global G; G = lambda v: v * 7",
)
kind(
    "global function in table",
    "def G(x): return x * 2\ndef H(x): return x + 5\nT = {'a': G}",
    "T['a'](x)",
    "T['a'] = H",
    "T['a'] = torch.sin",
    "T['a'] = lambda v: v * 7",
)
kind(
    "global function in list",
    "def G(x): return x * 2\ndef H(x): return x + 5\nT = [G]",
    "T[0](x)",
    "T[0] = H",
    "T[0] = torch.sin",
    "T[0] = lambda v: v * 7",
)
kind(
    "global function in tuple",
    "def G(x): return x * 2\ndef H(x): return x + 5\nT = (G,)",
    "T[0](x)",
    "global T; T = (H,)",
    "global T; T = (torch.sin,)",
)
kind(
    "global class",
    "class G:\n    k = 2\nclass H:\n    k = 3",
    "x * G.k + G().k",
    "global G; G = H",
    "H.k = 9",
)
kind(
    "global None",
    "G = None",
    "x if G is None else x * G",
    "global G; G = 3",
    "global G; G = torch.ones(3) * 2",
    "global G; G = None",
)
kind(
    "module attr function",
    "M = types.SimpleNamespace(f=torch.sin)",
    "M.f(x)",
    "M.f = torch.cos",
    "M.f = lambda v: v * 3",
)
kind(
    "monkey method class",
    NET,
    "net.scale(x)",
    "Net.scale = lambda self, x: x * 9",
    "def scale(self, x): return x - 1\nNet.scale = scale",
)
kind(
    "monkey method instance",
    NET,
    "net.scale(x)",
    "net.scale = lambda x: x * 9",
    "def scale(x): return x - 1\nnet.scale = scale",
    "del net.scale",
)
kind("monkey forward", NET, "net(x)", "net.lin.forward = lambda x: x * 9", "del net.lin.forward")
kind(
    "monkey forward class",
    NET,
    "net(x)",
    "Net.forward = lambda self, x: x * 9",
    "Net.forward = lambda self, x: self.lin(x) - 9",
)
kind("monkey torch", "old = F.gelu", "F.gelu(x)", "F.gelu = lambda v: v * 77", "F.gelu = old")
kind(
    "monkey math",
    "M = types.ModuleType('M'); M.k = 2; M.f = lambda v: v * 2",
    "M.f(x) * M.k",
    "M.k = 3",
    "M.f = lambda v: v + 4",
)
kind(
    "function code",
    "def G(x): return x * 2\ndef H(x): return x + 5\nC = G.__code__",
    "G(x)",
    "G.__code__ = H.__code__",
    "G.__code__ = C",
)
kind("function attribute", "def G(x): return x * G.k\nG.k = 2", "G(x) * G.k", "G.k = 3", "G.k = 4")
kind(
    "default argument",
    "def G(x, k=2): return x * k",
    "G(x)",
    "G.__defaults__ = (3,)",
    "G.__defaults__ = (4,)",
)
kind(
    "default kw argument",
    "def G(x, *, k=2): return x * k",
    "G(x)",
    "G.__kwdefaults__ = {'k': 3}",
    "G.__kwdefaults__['k'] = 4",
)
kind(
    "default list",
    "def G(x, k=[2]):\n    return x * k[0]",
    "G(x)",
    "G.__defaults__[0][0] = 3",
    "G.__defaults__[0][0] = 4",
)
kind(
    "environment",
    "os.environ['OL_T'] = '2'",
    "x * float(os.environ['OL_T'])",
    "os.environ['OL_T'] = '3'",
    "os.environ['OL_T'] = '5'",
)
kind(
    "environment get",
    "os.environ['OL_T'] = '2'",
    "x * 2 if os.environ.get('OL_T') == '2' else x",
    "os.environ['OL_T'] = '3'",
    "del os.environ['OL_T']",
)
kind(
    "getenv",
    "os.environ['OL_T'] = '2'",
    "x * 2 if os.getenv('OL_T', '2') == '2' else x",
    "os.environ['OL_T'] = '3'",
    "os.environ['OL_T'] = '2'",
)
kind(
    "default dtype",
    "",
    "x + torch.ones(3) * torch.tensor(1.5)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_dtype(torch.float32)",
)
kind(
    "default dtype of python",
    "",
    "torch.arange(3) * 1.5 / 2, torch.zeros(2)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_dtype(torch.float32)",
)
kind(
    "default dtype read",
    "",
    "x * (2 if torch.get_default_dtype() == torch.float32 else 3)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_dtype(torch.float32)",
)
kind(
    "grad mode", NET, "net.lin(x)", "torch.set_grad_enabled(False)", "torch.set_grad_enabled(True)"
)
kind(
    "grad mode read",
    "",
    "x * (2 if torch.is_grad_enabled() else 3)",
    "torch.set_grad_enabled(False)",
    "torch.set_grad_enabled(True)",
)
kind(
    "deterministic",
    "",
    "x * (2 if torch.are_deterministic_algorithms_enabled() else 3)",
    "torch.use_deterministic_algorithms(True)",
    "torch.use_deterministic_algorithms(False)",
)
kind(
    "threads",
    "",
    "x * torch.get_num_threads()",
    "torch.set_num_threads(2)",
    "torch.set_num_threads(1)",
)
kind(
    "cudnn flag",
    "",
    "x * (2 if torch.backends.cudnn.benchmark else 3)",
    "torch.backends.cudnn.benchmark = True",
    "torch.backends.cudnn.benchmark = False",
)
kind(
    "matmul precision",
    "",
    "x * (2 if torch.get_float32_matmul_precision() == 'highest' else 3)",
    "torch.set_float32_matmul_precision('high')",
    "torch.set_float32_matmul_precision('highest')",
)
kind("random", "random.seed(0)", "x * random.random()", "random.seed(3)", "random.seed(5)")
kind("randint", "random.seed(0)", "x * random.randint(0, 1000)", "random.seed(3)", "random.seed(5)")
kind(
    "random choice",
    "random.seed(0)",
    "x * random.choice([1, 2, 3, 4, 5, 6])",
    "random.seed(3)",
    "random.seed(5)",
)
kind(
    "random decision",
    "random.seed(0)",
    "x * 2 if random.random() < 0.5 else x",
    "random.seed(3)",
    "random.seed(5)",
)
kind(
    "random shuffle",
    "random.seed(0)\ndef sh(n):\n    a = list(range(n)); random.shuffle(a); return a",
    "x * sh(9)[0]",
    "random.seed(3)",
    "random.seed(5)",
)
kind("random instance", "R = random.Random(3)", "x * R.random()", "R.seed(3)", "R.seed(5)")
kind(
    "np random",
    "np.random.seed(0)",
    "x * float(np.random.rand())",
    "np.random.seed(3)",
    "np.random.seed(5)",
)
kind(
    "np random array",
    "np.random.seed(0)",
    "x * torch.from_numpy(np.random.rand(3).astype('float32'))",
    "np.random.seed(3)",
    "np.random.seed(5)",
)
kind(
    "np generator",
    "R = np.random.default_rng(3)",
    "x * float(R.random())",
    "global R; R = np.random.default_rng(7)",
    "global R; R = np.random.default_rng(8)",
)
kind(
    "np array",
    "G = np.array([1., 2., 3.], 'float32')",
    "x * torch.from_numpy(G)",
    "G[0] = 5",
    "global G; G = np.zeros(3, 'float32')",
)
kind(
    "np array tensor",
    "G = np.array([1., 2., 3.], 'float32')",
    "x * torch.tensor(G)",
    "G[0] = 5",
    "global G; G = np.zeros(3, 'float32')",
)
kind(
    "np array as_tensor",
    "G = np.array([1., 2., 3.], 'float32')",
    "x * torch.as_tensor(G)",
    "G[0] = 5",
    "global G; G = np.zeros(3, 'float32')",
)
kind(
    "np array item",
    "G = np.array([1., 2., 3.], 'float32')",
    "x * float(G[0]) * G.sum()",
    "G[0] = 5",
    "global G; G = np.zeros(3, 'float32')",
)
kind(
    "np array len",
    "G = np.array([1., 2., 3.], 'float32')",
    "x * len(G) * G.shape[0]",
    "global G; G = np.zeros(4, 'float32')",
)
kind(
    "np scalar global",
    "G = np.float32(2)",
    "x * G",
    "global G; G = np.float32(3)",
    "global G; G = 4",
)
kind(
    "generator torch",
    "R = torch.Generator(); R.manual_seed(3)",
    "x * torch.rand(3, generator=R)",
    "R.manual_seed(5)",
    "global R; R = torch.Generator(); R.manual_seed(9)",
)
kind(
    "manual seed",
    "torch.manual_seed(0)",
    "x * torch.rand(3)",
    "torch.manual_seed(5)",
    "torch.manual_seed(3)",
)
kind(
    "initial seed",
    "torch.manual_seed(0)",
    "x * torch.initial_seed()",
    "torch.manual_seed(5)",
    "torch.manual_seed(3)",
)
kind(
    "lru cache",
    "K = 2\n@functools.lru_cache\ndef G(n): return n * K",
    "x * G(3)",
    "global K; K = 5",
    "G.cache_clear()",
)
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
    "contextvar",
    "V = contextvars.ContextVar('V', default=2)",
    "x * V.get()",
    "V.set(3)",
    "V.set(5)",
)
kind(
    "contextvar text",
    "V = contextvars.ContextVar('V', default='a')",
    "x * 2 if V.get() == 'a' else x",
    "V.set('b')",
    "V.set('a')",
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
    "partial",
    "def G(x, k): return x * k\nP = functools.partial(G, k=2)",
    "P(x)",
    "global P; P = functools.partial(G, k=3)",
    "P.keywords['k'] = 4",
)
kind(
    "closure cell",
    "def mk():\n    k = 2\n    def f(x): return x * k\n    def set(v):\n        nonlocal k\n        k = v\n    return f, set\nG, S = mk()",
    "G(x)",
    "S(3)",
    "S(5)",
    "S(torch.ones(3))",
)
kind(
    "closure cell bool",
    "def mk():\n    k = True\n    def f(x): return x * 2 if k else x\n    def set(v):\n        nonlocal k\n        k = v\n    return f, set\nG, S = mk()",
    "G(x)",
    "S(False)",
    "S(True)",
)
kind(
    "closure function",
    "def mk():\n    k = torch.sin\n    def f(x): return k(x)\n    def set(v):\n        nonlocal k\n        k = v\n    return f, set\nG, S = mk()",
    "G(x)",
    "S(torch.cos)",
    "S(lambda v: v * 3)",
)
kind(
    "iterator",
    "it = iter(range(100))",
    "x * next(it)",
    "next(it)",
    "global it; it = iter([50, 60, 70, 80, 90, 95, 96, 97])",
)
kind(
    "count",
    "import itertools\nit = itertools.count()",
    "x * next(it)",
    "next(it)",
    "global it; it = itertools.count(10)",
)
kind(
    "generator object",
    "def g():\n    k = 0\n    while True:\n        k += 1\n        yield k\nit = g()",
    "x * next(it)",
    "next(it)",
    "global it; it = g()",
)
kind(
    "time",
    "NOW = [1.0]\nclass T:\n    @staticmethod\n    def time(): return NOW[0]\ntime = T",
    "x * time.time()",
    "NOW[0] = 2.0",
    "NOW[0] = 5.0",
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
    "slice object",
    "S = slice(0, 2)",
    "x[S]",
    "global S; S = slice(1, 3)",
    "global S; S = slice(0, 1)",
)
kind("size tuple", "S = (3, 1)", "x.reshape(S)", "global S; S = (1, 3)", "global S; S = (1, 3, 1)")
kind("set", "S = {1, 2}", "x * len(S) if 2 in S else x", "S.add(5)", "S.discard(2)")
kind(
    "param groups",
    NET + "\nopt = torch.optim.SGD(net.parameters(), lr=0.1)",
    "x * opt.param_groups[0]['lr']",
    "opt.param_groups[0]['lr'] = 0.2",
    "opt.param_groups[0]['lr'] = 0.3",
)
kind(
    "grad attribute",
    NET,
    "x if net.lin.weight.grad is None else x * net.lin.weight.grad.sum()",
    "net.lin.weight.grad = torch.ones(3, 3)",
    "net.lin.weight.grad = None",
    "net.lin.weight.grad = torch.ones(3, 3) * 3",
)
kind(
    "parameter list",
    "class N(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.ps = nn.ParameterList([nn.Parameter(torch.ones(3))])\nnet = N()",
    "sum([x * p for p in net.ps], x)",
    "net.ps.append(nn.Parameter(torch.ones(3) * 2))",
    "net.ps[0] = nn.Parameter(torch.ones(3) * 5)",
)
kind(
    "module list",
    "class N(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.ms = nn.ModuleList([nn.ReLU()])\n    def forward(self, x):\n        for m in self.ms:\n            x = m(x)\n        return x * len(self.ms)\nnet = N()",
    "net(x)",
    "net.ms.append(nn.Sigmoid())",
    "net.ms[0] = nn.Tanh()",
    "del net.ms[0]",
)
kind(
    "module dict",
    "class N(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.ms = nn.ModuleDict({'a': nn.ReLU()})\n    def forward(self, x):\n        for n, m in self.ms.items():\n            x = m(x) + len(n)\n        return x\nnet = N()",
    "net(x)",
    "net.ms['bb'] = nn.Sigmoid()",
    "net.ms['a'] = nn.Tanh()",
    "del net.ms['a']",
)
kind(
    "sequential",
    "net = nn.Sequential(nn.ReLU(), nn.Tanh())",
    "net(x)",
    "net.append(nn.Sigmoid())",
    "net[0] = nn.Tanh()",
    "del net[0]",
)
kind(
    "activation attr",
    "class N(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.act = F.relu\n    def forward(self, x): return self.act(x)\nnet = N()",
    "net(x)",
    "net.act = torch.tanh",
    "net.act = nn.Sigmoid()",
)
kind(
    "named_parameters",
    NET,
    "sum([p.sum() * len(n) for n, p in net.named_parameters() if p.requires_grad], x)",
    "net.lin.bias.requires_grad_(False)",
    "net.extra = nn.Parameter(torch.ones(2))",
    "net.lin.bias.requires_grad_(True)",
)
kind(
    "state_dict",
    NET,
    "x * sum([v.sum() for k, v in sorted(net.state_dict().items()) if v.is_floating_point()])",
    "net.lin.weight.data.fill_(2)",
    "net.register_buffer('more', torch.ones(3))",
)
kind(
    "parametrization",
    NET + "\nclass P(nn.Module):\n    def forward(self, w): return w * 2",
    "net.lin(x)",
    "torch.nn.utils.parametrize.register_parametrization(net.lin, 'weight', P())",
    "torch.nn.utils.parametrize.remove_parametrizations(net.lin, 'weight')",
)
kind(
    "pruning",
    NET + "\nimport torch.nn.utils.prune as prune",
    "net.lin(x)",
    "prune.l1_unstructured(net.lin, 'weight', amount=0.5)",
    "prune.remove(net.lin, 'weight')",
)
kind(
    "spectral norm",
    NET,
    "net.lin(x)",
    "nn.utils.spectral_norm(net.lin)",
    "nn.utils.remove_spectral_norm(net.lin)",
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
    "operator dunder",
    "class A:\n    k = 2\n    def __mul__(self, x): return x * self.k\n    def __call__(self, x): return x + self.k\no = A()",
    "o * x + o(x)",
    "o.k = 3",
    "A.__mul__ = lambda self, x: x * 9",
    "A.__call__ = lambda self, x: x - 9",
)
kind(
    "string format",
    "class A: pass\no = A(); o.s = 'a'",
    "x * len(f'{o.s}-{o.s}')",
    "o.s = 'abcd'",
    "o.s = 'xx'",
)
kind(
    "dispatch table str",
    "T = {'relu': torch.relu, 'tanh': torch.tanh}\nN = ['relu']",
    "T[N[0]](x)",
    "N[0] = 'tanh'",
    "T['relu'] = torch.sigmoid",
    "N[0] = 'relu'",
)
kind("bytes", "b = bytearray(b'ab')", "x * b[0]", "b[0] = 7", "b.append(3)")
kind(
    "warn filters",
    "K = [0]\ndef G(x):\n    K[0] += 1\n    return x * K[0]",
    "G(x)",
    "K[0] = 10",
    "K.append(3)",
)
kind(
    "weakref",
    "import weakref\nclass A: pass\no = A(); o.k = 2; r = weakref.ref(o)",
    "x * r().k",
    "o.k = 3",
    "global o; o2 = o; o = A(); o.k = 9; global r; r = weakref.ref(o)",
)
kind("tensor attr", "t = torch.ones(3); t.scale = 2", "x * t.scale", "t.scale = 3", "t.scale = 5")
kind(
    "tensor grad_fn leaf",
    "t = torch.ones(3)",
    "x * (2 if t.requires_grad else 3)",
    "t.requires_grad_(True)",
    "t.requires_grad_(False)",
)
kind("complex global", "G = 1 + 2j", "x * G", "global G; G = 2 + 1j", "global G; G = 3")
kind(
    "fn attribute table",
    "def G(x): return x * 2\ndef H(x): return x * 3\nclass O: pass\no = O(); o.fn = G",
    "o.fn(x)",
    "o.fn = H",
    "o.fn = torch.sin",
    "o.fn = functools.partial(torch.add, 3)",
)
kind(
    "super method",
    "class B:\n    def go(self, x): return x * 2\nclass A(B):\n    def go(self, x): return super().go(x) + 1\no = A()",
    "o.go(x)",
    "B.go = lambda self, x: x * 7",
    "class Z(B):\n    def go(self, x): return x * 70\nA.__bases__ = (Z,)",
)
kind(
    "sys attr", "import sys as S\nS.ol_flag = 2", "x * S.ol_flag", "S.ol_flag = 3", "S.ol_flag = 5"
)
kind(
    "recursion limit",
    "import sys",
    "x * sys.getrecursionlimit()",
    "sys.setrecursionlimit(2000)",
    "sys.setrecursionlimit(3000)",
)
kind(
    "logging level",
    "import logging\nL = logging.getLogger('ol_test'); L.setLevel(10)",
    "x * 2 if L.isEnabledFor(20) else x",
    "L.setLevel(40)",
    "L.setLevel(10)",
)
kind(
    "warnings count",
    "import collections\nC = collections.Counter()",
    "x * C['a']",
    "C['a'] += 1",
    "C.update(a=3)",
)
kind("defaultdict", "C = collections.defaultdict(int)", "x * C['a']", "C['a'] += 1", "C['a'] = 9")
kind("userdict", "C = collections.UserDict(a=2)", "x * C['a']", "C['a'] += 1", "C['a'] = 9")
kind(
    "chainmap",
    "C = collections.ChainMap({'a': 2}, {'b': 3})",
    "x * C['a'] + C['b']",
    "C['a'] += 1",
    "C.maps[1]['b'] = 9",
)
kind(
    "mappingproxy",
    "D = {'a': 2}\nC = types.MappingProxyType(D)",
    "x * C['a'] + len(C)",
    "D['a'] = 4",
    "D['c'] = 9",
)
kind(
    "frozenset",
    "S = frozenset([1, 2])",
    "x * len(S)",
    "global S; S = frozenset([1])",
    "global S; S = frozenset([4, 5, 6])",
)
kind(
    "range object",
    "S = range(3)",
    "sum([x * i for i in S], x)",
    "global S; S = range(4)",
    "global S; S = range(2, 3)",
)
kind(
    "ordered",
    "C = collections.OrderedDict(a=1, b=2)",
    "x * next(iter(C.values()))",
    "C.move_to_end('a')",
    "C.move_to_end('b')",
)
kind("heap", "import heapq\nH = [1, 5, 7]", "x * H[0]", "heapq.heappush(H, 0)", "heapq.heappop(H)")
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
kind(
    "attr list of modules",
    "class N(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fs = [nn.ReLU(), nn.Tanh()]\n    def forward(self, x):\n        for f in self.fs: x = f(x)\n        return x\nnet = N()",
    "net(x)",
    "net.fs[0] = nn.Sigmoid()",
    "net.fs.append(nn.ReLU())",
    "net.fs = [torch.sin]",
)
kind(
    "attr dict of modules",
    "class N(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fs = {'a': nn.ReLU(), 'b': nn.Tanh()}\n    def forward(self, x):\n        for f in self.fs.values(): x = f(x)\n        return x\nnet = N()",
    "net(x)",
    "net.fs['a'] = nn.Sigmoid()",
    "net.fs['c'] = nn.ReLU()",
    "net.fs = {'a': torch.sin}",
)
kind(
    "module in object",
    "o = types.SimpleNamespace(m=nn.ReLU())",
    "o.m(x)",
    "o.m = nn.Tanh()",
    "o.m = nn.Sequential(nn.Sigmoid())",
    "o.m.inplace = False",
)
kind(
    "module in object train",
    "o = types.SimpleNamespace(m=nn.Dropout(0.5))",
    "o.m(x)",
    "o.m.eval()",
    "o.m.p = 0.9",
    "o.m.train()",
)
kind("module in global train", "m = nn.Dropout(0.5)", "m(x)", "m.eval()", "m.p = 0.9", "m.train()")
kind(
    "module in dict train",
    "o = {'m': nn.Dropout(0.5)}",
    "o['m'](x)",
    "o['m'].eval()",
    "o['m'].p = 0.9",
    "o['m'].train()",
)
kind(
    "module hook in object",
    "o = types.SimpleNamespace(m=nn.ReLU())",
    "o.m(x)",
    "o.m.register_forward_hook(lambda m, a, r: r * 3)",
    "o.m._forward_hooks.clear()",
)
kind(
    "global module children",
    "m = nn.Sequential(nn.ReLU(), nn.Tanh())",
    "m(x)",
    "m[0] = nn.Sigmoid()",
    "m.append(nn.ReLU())",
)

POSITIONS = {
    "between": """
def f(x):
    return {read}
def run(static):
    s = static(f)
    yield s(X), s(-X)
    for change in CHANGES:
        change()
        yield s(X), s(-X)
    CHANGES[0]()
    yield s(X), s(-X)
""",
    "inside": """
def f(x):
    found = [{read}]
{inlined}
    return found
def run(static):
    s = static(f)
    yield s(X)
    yield s(-X)
    yield s(X)
""",
    "on data": """
def f(x):
    first = {read}
    if x.sum() > 0:
{c0}
    else:
{c1}
    return first, {read}
def run(static):
    s = static(f)
    yield s(X)
    yield s(-X)
    yield s(-X)
    yield s(X)
    CHANGES[-1]()
    yield s(-X)
    yield s(X)
""",
    "by a call": """
def f(x):
    first = {read}
    change0()
    return first, {read}
def run(static):
    s = static(f)
    yield s(X)
    yield s(-X)
    CHANGES[-1]()
    yield s(X)
    yield s(X)
""",
    "by a call on data": """
def f(x):
    if x.sum() > 0:
        change0()
    return {read}
def run(static):
    s = static(f)
    yield s(-X)
    yield s(X)
    CHANGES[-1]()
    yield s(-X)
    yield s(X)
    yield s(-X)
""",
    "in a loop on data": """
def f(x):
    y, n = {read}, 0
    y = y if isinstance(y, torch.Tensor) else y[0]
    while x.abs().sum() > 8:
        x = x / 2
        change0()
        n += 1
    return y, {read}, n
def run(static):
    s = static(f)
    yield s(X)
    yield s(X * 5)
    CHANGES[-1]()
    yield s(X)
    yield s(X * 9)
""",
}

_GLOBALS = re.compile(r"global (\w+); ?")


def text_of(name: str, position: str) -> str:
    """The program, whose ``run(static)`` yields what calls of ``static(f)`` give."""
    setup, read, changes = KINDS[name]
    known = sorted({found for change in changes for found in _GLOBALS.findall(change)})
    bodies = [_GLOBALS.sub("", change) for change in changes]
    names = f"    global {', '.join(known)}\n" if known else ""
    functions = [
        f"def change{i}():\n{names}{indent(body, '    ')}\n" for i, body in enumerate(bodies)
    ]
    inner = "\n".join(f"{indent(b, '    ')}\n    found.append(({read}))" for b in bodies)
    first, second = (indent(bodies[i % len(bodies)], " " * 8) for i in (0, 1))
    body = POSITIONS[position].format(read=read, inlined=inner, c0=first, c1=second)
    if position in ("inside", "on data"):
        body = body.replace("def f(x):\n", f"def f(x):\n{names}", 1)
    table = f"CHANGES = [{', '.join(f'change{i}' for i in range(len(changes)))}]"
    x = "X = torch.tensor([1.5, 2.0, -0.5])"
    return "\n".join([HEAD, setup, *functions, table, x, body])
