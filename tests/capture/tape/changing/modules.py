"""Modules, their tensors and hooks."""

from tests.capture.tape.changing.kinds import NET, kind

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
kind("tensor attr", "t = torch.ones(3); t.scale = 2", "x * t.scale", "t.scale = 3", "t.scale = 5")
kind(
    "tensor grad_fn leaf",
    "t = torch.ones(3)",
    "x * (2 if t.requires_grad else 3)",
    "t.requires_grad_(True)",
    "t.requires_grad_(False)",
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
