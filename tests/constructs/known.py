"""Cases that fail, each with its reason; a case that passes again must leave the list."""

NEAR = "near the bound:"  # of time; passes or fails with the load of the machine
KNOWN: dict[str, str] = {
    "functions.mutable_default": "the default list of a function is not carried between calls",
}

# Of test_positions.py, likewise.
IN_POSITIONS: dict[str, str] = {
    "while_in_for.and_value": "the dtype of a value that is a truth or a number in a loop: refused",
    "while_loop.and_value": "the dtype of a value that is a truth or a number in a loop: refused",
}
