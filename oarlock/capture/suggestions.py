"""What to do about an overload that is refused."""

from __future__ import annotations

_BY_NAME = {
    ("nonzero", "argwhere", "masked_select", "unique", "_unique2", "unique_dim",
     "unique_consecutive", "bincount"):
        "the size of its result depends on data; use torch.where, a mask, or topk with a fixed k",
    ("index",): "the size of x[mask] depends on data; use torch.where or masked_fill",
    ("item", "_local_scalar_dense", "is_nonzero", "equal"):
        "keep it a tensor: torch.where instead of if, masks instead of loops",
    ("dropout", "bernoulli", "alpha_dropout", "feature_dropout"): "call model.eval() first",
    ("rand", "randn", "rand_like", "randn_like", "randint", "randint_like", "randperm", "normal",
     "multinomial", "exponential", "uniform", "poisson"):
        "draw the numbers outside of the model and pass them in",
    ("_pack_padded_sequence", "_pad_packed_sequence"):
        "packed sequences are as long as the data says; pass padded tensors and a mask",
}  # fmt: skip
SUGGESTIONS = {name: text for names, text in _BY_NAME.items() for name in names}


def suggestion(overload: str) -> str:
    """Advice about ``aten.name.overload``, or nothing."""
    parts = overload.split(".")
    return SUGGESTIONS.get(parts[1], "") if len(parts) > 1 else ""
