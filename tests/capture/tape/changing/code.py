"""Functions, classes and what they are bound to."""

from tests.capture.tape.changing.kinds import NET, kind

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
    "lru cache",
    "K = 2\n@functools.lru_cache\ndef G(n): return n * K",
    "x * G(3)",
    "global K; K = 5",
    "G.cache_clear()",
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
    "operator dunder",
    "class A:\n    k = 2\n    def __mul__(self, x): return x * self.k\n    def __call__(self, x): return x + self.k\no = A()",
    "o * x + o(x)",
    "o.k = 3",
    "A.__mul__ = lambda self, x: x * 9",
    "A.__call__ = lambda self, x: x - 9",
)
kind(
    "dispatch table str",
    "T = {'relu': torch.relu, 'tanh': torch.tanh}\nN = ['relu']",
    "T[N[0]](x)",
    "N[0] = 'tanh'",
    "T['relu'] = torch.sigmoid",
    "N[0] = 'relu'",
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
