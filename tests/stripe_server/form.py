"""Reads Stripe's form encoding: `items[0][price]=p&metadata[a]=b`.

That is {"items": [{"price": "p"}], "metadata": {"a": "b"}}.
"""

import re
from typing import Any
from urllib.parse import parse_qsl

from tests.stripe_server.problems import Json


def decode(text: str) -> Json:
    tree: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        *way, last = re.findall(r"[^\[\]]+", name) if not name.endswith("[]") else [*re.findall(r"[^\[\]]+", name), "0"]
        place = tree
        for part in way:
            place = place.setdefault(part, {})
        place[last] = value
    plain: Json = _with_lists(tree)
    return plain


def _with_lists(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isdigit() for key in tree):
        return [_with_lists(tree[key]) for key in sorted(tree, key=int)]
    return {key: _with_lists(value) for key, value in tree.items()}
