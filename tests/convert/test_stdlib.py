"""Real code: modules of the standard library, converted with all they call, against themselves."""

from __future__ import annotations

import ast
import base64
import calendar
import collections
import configparser
import copy
import difflib
import email.utils
import fractions
import graphlib
import heapq
import html.parser
import importlib
import io
import json
import pprint
import shlex
import statistics
import string
import textwrap
import tokenize
import urllib.parse
from pathlib import Path

import pytest

from oarlock.capture.convert import convert, left_out

entry = importlib.import_module("oarlock.capture.convert.convert")
TEXT = Path(textwrap.__file__).read_text()
LINES = TEXT.splitlines()


def unified(a, b):
    return list(difflib.unified_diff(a, b))


def decode(text):
    return json.JSONDecoder(object_hook=lambda d: sorted(d.items())).decode(text)


def third(a, b):
    x = fractions.Fraction(a) + fractions.Fraction(b) * fractions.Fraction("0.125")
    return x, x.limit_denominator(7), round(x), x > 1


def read_config(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser}


def tags(text):
    out = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            out.append((tag, attrs))

        def handle_data(self, data):
            out.append(data)

    Parser().feed(text)
    return out


def tokens(text):
    return [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline)]


def counts(text):
    found = collections.Counter(text)
    found.update("xyz")
    return found.most_common(3), sorted((found - collections.Counter("ab")).elements())


def sorted_graph(graph):
    return list(graphlib.TopologicalSorter(graph).static_order())


def merged(*rows):
    return list(heapq.merge(*rows)), heapq.nsmallest(2, rows[0], key=lambda x: -x)


CALLS = [
    (textwrap.fill, (TEXT, 40)),
    (textwrap.dedent, (TEXT,)),
    (textwrap.shorten, (TEXT, 100)),
    (merged, ([1, 3, 9], [2, 4])),
    (unified, (LINES[:60], LINES[5:70])),
    (difflib.get_close_matches, ("appel", ["ape", "apple", "peach"])),
    (statistics.stdev, ([1, 2, 3.5],)),
    (statistics.quantiles, ([1, 2, 3.5, 9],)),
    (statistics.linear_regression, ([1, 2, 3], [2, 4, 7])),
    (decode, ('{"a":[1,2,{"b":null}],"c":1.5e3}',)),
    (json.dumps, ({"a": [1, 2, {"b": None}], "c": 1.5},)),
    (third, ("3/7", "-2.5e-1")),
    (string.Template("$a ${b} $$").safe_substitute, ({"a": 1},)),
    (shlex.split, ("a 'b c' \"d e\" f\\ g # h", True)),
    (calendar.TextCalendar().formatyear, (2024,)),
    (ast.unparse, (ast.parse(TEXT),)),
    (ast.literal_eval, ("{'a':[1,2,(3,-4j)],'b':{1,2}}",)),
    (tokens, (TEXT[:3000],)),
    (pprint.pformat, ({"a": list(range(40)), "b": {"c": "x" * 100}},)),
    (copy.deepcopy, ({"a": [1, {2: 3}], "b": (1, [2])},)),
    (sorted_graph, ({"a": {"b"}, "b": {"c"}},)),
    (urllib.parse.urlencode, ({"a": [1, 2], "b": "x y"}, True)),
    (urllib.parse.urljoin, ("http://a/b/c/d", "../e?f")),
    (base64.b85encode, (b"hello world",)),
    (base64.a85decode, (b"87cURD]j",)),
    (email.utils.parsedate_tz, ("Mon, 20 Nov 1995 19:12:08 -0500",)),
    (read_config, ("[a]\nx=1\ny=%(x)s2\n[b]\nz:\n  multi\n  line\n",)),
    (tags, ("<a href='x&amp;y'>t &lt; <b>u</b><!-- c --></a>",)),
    (counts, ("abracadabra",)),
]


@pytest.fixture(autouse=True)
def _convert_the_library(monkeypatch):
    monkeypatch.setattr(
        left_out, "is_library", lambda m, _: m.startswith(("oarlock", "torch", "numpy"))
    )


@pytest.mark.parametrize("fn, args", CALLS, ids=[fn.__name__ for fn, _ in CALLS])
def test_converted_library(fn, args):
    want = repr(fn(*copy.deepcopy(args)))
    assert repr(convert(fn)(*copy.deepcopy(args))) == want


def test_most_of_it_was_converted():
    """The calls above recurse: hundreds of functions, none of them refused for its syntax."""
    for fn, args in CALLS:
        convert(fn)(*copy.deepcopy(args))
    library = str(Path(textwrap.__file__).parent)
    every = entry._templates.values()
    found = [made for code, made in every if code.co_filename.startswith(library)]
    refused = [p for m in found if not isinstance(m, entry.Template) for p in m.found]
    assert len(found) > 200
    assert {p.reason for p in refused} <= {"its source is not available"}
