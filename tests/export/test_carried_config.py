"""The text in a checkpoint's `meta['cfg']`: read as literals, never run, in bounded time."""

import keyword
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cigpose_export.checkpoints.carried_config import Unread, read_config_text
from cigpose_export.openmmlab import Config

LITERALS = {
    "a number": ("x = 3", 3),
    "a float": ("x = 1.0e-05", 1e-5),
    "a negative number": ("x = -3", -3),
    "text": ("x = 'a'", "a"),
    "text in parts": ("x = 'a' 'b'", "ab"),
    "none": ("x = None", None),
    "a truth value": ("x = True", True),
    "infinity, as MMEngine prints it": ("x = inf", math.inf),
    "a list": ("x = [1, 'a', [2.5]]", [1, "a", [2.5]]),
    "a tuple": ("x = (4, )", (4,)),
    "dict()": ("x = dict(a=1, b=dict(c=(2, )))", {"a": 1, "b": {"c": (2,)}}),
    "a display": ("x = {'a.b': 1, 2: 'c'}", {"a.b": 1, 2: "c"}),
    "dict() of a display": ("x = dict({'a.b': 1})", {"a.b": 1}),
    "dict() with more": ("y = dict(a=1)\nx = dict(y, b=2)", {"a": 1, "b": 2}),
    "stars": ("y = dict(a=1, b=1)\nx = dict(**y, c=2)", {"a": 1, "b": 1, "c": 2}),
    "tuple()": ("x = tuple([1, 2])", (1, 2)),
    "a name": ("y = 3\nx = [y, y]", [3, 3]),
    "the value that a name has last": ("y = 3\ny = 4\nx = y", 4),
    "an item": ("codec = dict(size=(3, 4))\nx = codec['size']", (3, 4)),
    "an attribute": ("codec = dict(size=(3, 4))\nx = codec.size[1]", 4),
    "a base's name": ("n = 17\nx = dict(k=_base_.n)", {"k": 17}),
    "an interpolated name": ("n = 17\nx = dict(k={{_base_.n}})", {"k": 17}),
    "an interpolated name as text": ("n = 17\nx = '{{_base_.n}}'", 17),
    "a sum of texts": ("root = 'data/'\nx = root + 'val.json'", "data/val.json"),
    "a sum of lists": ("y = [1]\nx = y + [2]", [1, 2]),
    "arithmetic": ("e = 420\nx = [e // 2, e - 30, 4e-3 * 0.5, 3 % 2]", [210, 390, 0.002, 1]),
    "a comment and a docstring": ("'''A config.'''\nx = 1  # one", 1),
}


@pytest.mark.parametrize(("text", "expected"), LITERALS.values(), ids=LITERALS)
def test_a_literal_is_read(text, expected):
    assert read_config_text(text)["x"] == expected


UNREAD = {
    "a call": "x = open('f')",
    "a method": "y = []\nx = y.copy()",
    "a lambda": "x = lambda: 1",
    "a comprehension": "x = [i for i in (1, 2)]",
    "an f-string": "y = 1\nx = f'{y}'",
    "a name from nowhere": "x = y",
    "a base that is not there": "x = _base_.model",
    "a file's name": "x = '{{ fileDirname }}'",
    "an item that is not there": "y = dict()\nx = y['a']",
    "a sum of unlike things": "x = 'a' + 1",
    "a division by zero": "x = 1 / 0",
    "a power": "x = 9**9**9",
    "a value that a loop may have changed": "x = []\nfor i in (1, 2):\n    x.append(i)",
    "a value that a call may have changed": "x = dict()\nx.update(a=1)",
    "a value of which a part was replaced": "x = dict(a=1)\nx['a'] = 2",
    "a value that was added to": "x = 1\nx += 1",
    "a value that was deleted": "x = 1\ndel x",
    "a name that an import may have replaced": "x = 1\nfrom os import *",
    "an imported name": "import os.path as x",
    "a function": "def x(): pass",
    "a branch": "if True:\n    x = 1",
}


@pytest.mark.parametrize("text", UNREAD.values(), ids=UNREAD)
def test_what_is_no_literal_is_said_in_its_place(text):
    read = read_config_text(f"before = 1\n{text}\nafter = 2")
    assert isinstance(read["x"], Unread)
    assert read["after"] == 2


def test_the_rest_of_a_value_with_an_unread_part_is_read():
    read = read_config_text("x = dict(a=f(), b=[1, g(), 3])")
    assert isinstance(read["x"]["a"], Unread)
    first, second, third = read["x"]["b"]
    assert (first, third) == (1, 3)
    assert second == Unread("line 1 is no literal")


CODE = {
    "a call": "x = __import__('pathlib').Path({marker!r}).touch()",
    "a statement": "__import__('pathlib').Path({marker!r}).touch()",
    "an import": "from pathlib import Path\nPath({marker!r}).touch()",
    "an argument of dict": "x = dict(a=open({marker!r}, 'w'))",
    "a default": "def f(a=open({marker!r}, 'w')): pass",
    "a class": "class A:\n    open({marker!r}, 'w')",
    "a decorator": "@(lambda f: open({marker!r}, 'w'))\ndef f(): pass",
    "a comprehension": "x = [open({marker!r}, 'w') for _ in (1,)]",
    "an f-string": "x = f\"{{open({marker!r}, 'w')}}\"",
    "dict replaced": "dict = lambda **a: open({marker!r}, 'w')\nx = dict(a=1)",
    "an index": "y = dict(a=1)\nx = y[open({marker!r}, 'w')]",
    "an operand": "x = 1 + open({marker!r}, 'w')",
    "an interpolation": "x = {{{{open({marker!r}, 'w')}}}}",
}


@pytest.mark.parametrize("code", CODE.values(), ids=CODE)
def test_code_in_a_text_is_not_run(tmp_path, code):
    marker = tmp_path / "ran"
    text = code.format(marker=str(marker))
    compile(text, "<text>", "exec")  # it is what would run
    read_config_text(text)
    assert not marker.exists()


# Any config that MMEngine prints

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=8),
)
KEYS = st.from_regex(r"\A[a-z]{1,6}_?\Z").filter(lambda key: not keyword.iskeyword(key))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.from_regex(r"\Av_[a-z]{1,4}\Z"), VALUES, max_size=4))
def test_what_mmengine_prints_is_read_back(values):
    config = Config(values, format_python_code=False)
    assert read_config_text(config.pretty_text) == config.to_dict()


# Texts that are no config

BROKEN = {
    "no Python": "model = dict(",
    "binary": "\x00\x01",
    "half a character": "x = '\ud800'",
    "brackets": "(" * 100_000,
    "signs": "-" * 500_000 + "1",
    "a sum of many": "x = " + "1+" * 200_000 + "1",
    "many attributes": "x = y" + ".a" * 200_000,
    "many conditions": "x = " + "a if b else " * 30_000 + "1",
    "10 MB": "x = [" + "1," * 5_000_000 + "]",
    "values that double": "x = [1]\n" + "x = [x, x]\n" * 60,
    "a list that doubles": "x = [1]\n" + "x = x + x\n" * 60,
    "a text that doubles": "x = 'a'\n" + "x = x + x\n" * 60,
    "many uses of a long list": f"x = {[1] * 10_000}\n" + "y = x\n" * 30_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_text_that_is_no_config_is_unread_as_a_whole(text):
    started = time.process_time()
    read = read_config_text(text)
    assert isinstance(read, Unread)
    assert "\n" not in read.why
    assert time.process_time() - started < 20


DEEP = {
    "lists": "x = " + "[" * 90 + "]" * 90,
    "dicts": "x = " + "dict(a=" * 90 + "1" + ")" * 90,
    "names": "x = []\n" + "x = [x]\n" * 500,
    "a number that grows": "x = 2\n" + "x = x * x\n" * 500,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_a_value_that_no_config_has_is_bounded(text):
    read = read_config_text(f"{text}\nafter = 1")
    assert read["after"] == 1
    assert len(repr(read)) < 10_000


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_any_text_is_read_or_unread(text):
    assert isinstance(read_config_text(text), dict | Unread)


FRAGMENTS = st.sampled_from(
    [
        "model",
        "codec",
        "dict",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "{{",
        "}}",
        "=",
        ",",
        ".",
        "_base_",
        "'a'",
        "1",
        "2.5",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "~",
        "not",
        "x",
        "y",
        "None",
        "lambda",
        ":",
        "for",
        "in",
        "if",
        "else",
        "import",
        "del",
        "*",
    ]
)


@settings(max_examples=500)
@given(st.lists(FRAGMENTS, max_size=30).map(" ".join))
def test_any_sequence_of_words_is_read_or_unread(text):
    assert isinstance(read_config_text(text), dict | Unread)


SMALL = Config(
    {"codec": {"size": (192, 256)}, "model": {"head": {"groups": [[0, 1], [2]], "a.b": 1.5}}}
).pretty_text


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_config_is_read_or_unread(data):
    text = SMALL
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(FRAGMENTS) + text[at + data.draw(st.integers(0, 5)) :]
    assert isinstance(read_config_text(text), dict | Unread)
