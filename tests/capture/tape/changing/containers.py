"""Containers, iterators and arrays."""

from tests.capture.tape.changing.kinds import kind

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
    "slice object",
    "S = slice(0, 2)",
    "x[S]",
    "global S; S = slice(1, 3)",
    "global S; S = slice(0, 1)",
)
kind("size tuple", "S = (3, 1)", "x.reshape(S)", "global S; S = (1, 3)", "global S; S = (1, 3, 1)")
kind("set", "S = {1, 2}", "x * len(S) if 2 in S else x", "S.add(5)", "S.discard(2)")
kind("bytes", "b = bytearray(b'ab')", "x * b[0]", "b[0] = 7", "b.append(3)")
kind(
    "warn filters",
    "K = [0]\ndef G(x):\n    K[0] += 1\n    return x * K[0]",
    "G(x)",
    "K[0] = 10",
    "K.append(3)",
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
