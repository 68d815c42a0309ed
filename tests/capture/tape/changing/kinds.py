"""The table of kinds of state, and how one is put in."""

from textwrap import dedent

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
