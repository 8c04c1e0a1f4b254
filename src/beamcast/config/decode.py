"""From a parsed TOML tree to a configuration struct, with every problem of the tree reported at once.

The choice: msgspec stops at the first thing wrong, and a person who mends a file wants to know them all. So
a walk over the tree, along msgspec's own description of the models, finds what is wrong and words it; the
struct is then made by msgspec, which remains the judge of what is right.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec
from msgspec import inspect

from beamcast.config.units import QUANTITIES, dec_hook
from beamcast.config.words import child, choice, counted, nearest, shown
from beamcast.config.workflow import PATTERN_WORDS, Struct
from beamcast.core.errors import ConfigError, Problem

S = TypeVar("S", bound=Struct)
# A whole number of a file ends up in a pvAccess field or a scheduler's line, both of 64 bits at most.
_LARGEST = 2**63 - 1


def decode(model: type[S], tree: Mapping[str, object], *, file: str, origins: Mapping[str, str]) -> S:
    """Return the `model` that `tree` describes.

    `origins` names, by path, where a value came from that does not stand in `file` (a `--set`).
    Raises ConfigError with every problem found.
    """
    found = list(_struct(_info(model), tree, ""))
    if found:
        raise ConfigError.of(located(problem, file=file, origins=origins) for problem in found)
    try:
        return msgspec.convert(tree, model, dec_hook=dec_hook)
    except msgspec.ValidationError as error:  # a rule of the model that the walk does not know
        raise ConfigError.of([Problem(str(error)).inside(file)]) from error


def located(problem: Problem, *, file: str, origins: Mapping[str, str]) -> Problem:
    """Return the problem with its file, or the `--set` that brought the value in, before its path."""
    path = problem.where or ""
    for place, origin in origins.items():
        if path == place or path.startswith((place + ".", place + "[")):
            return problem.inside(origin)
    return problem.inside(file)


def bare(kind: inspect.Type) -> inspect.Type:
    """Return the type without its description and without "or absent": TOML has no null."""
    if isinstance(kind, inspect.Metadata):
        return bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        left = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        return bare(left[0]) if len(left) == 1 else inspect.UnionType(tuple(left))
    return kind


def variants(kind: inspect.UnionType) -> tuple[str, dict[str, inspect.StructType]]:
    """Return the tag's key and the structs by tag of a tagged union."""
    structs = [member for member in kind.types if isinstance(member, inspect.StructType)]
    assert len(structs) == len(kind.types), "the models have unions of tagged structs only"
    return str(structs[0].tag_field), {str(struct.tag): struct for struct in structs}


def expected(kind: inspect.Type) -> str:
    """Return in words what a value of this type may be."""
    kind = bare(kind)
    match kind:
        case inspect.StrType():
            return _text_words(kind)
        case inspect.IntType():
            return "a whole number" + _range_words(kind)
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return choice(kind.values)
        case inspect.TupleType():
            return f"a list of {counted(len(kind.item_types), 'item')}, each {expected(kind.item_types[0])}"
        case inspect.VarTupleType():
            least = f" of at least {counted(kind.min_length, 'item')}" if kind.min_length else ""
            return f"a list{least}, each {expected(kind.item_type)}"
        case inspect.CustomType():
            return next((q.words() for q in QUANTITIES if kind.cls is q), "any value")
    return "a table"


def _walk(kind: inspect.Type, value: object, path: str) -> Iterator[Problem]:
    kind = bare(kind)
    match kind, value:
        case inspect.StructType(), dict():
            yield from _struct(kind, value, path)
        case inspect.UnionType(), dict():
            yield from _union(kind, value, path)
        case inspect.DictType(), dict():
            for key, item in value.items():
                yield from _walk(kind.value_type, item, child(path, key))
        case inspect.VarTupleType(), list() if len(value) >= (kind.min_length or 0):
            for index, item in enumerate(value):
                yield from _walk(kind.item_type, item, child(path, index))
        case inspect.TupleType(), list() if len(value) == len(kind.item_types):
            for index, item in enumerate(value):
                yield from _walk(kind.item_types[index], item, child(path, index))
        case inspect.CustomType(), _:
            yield from _quantity(kind, value, path)
        case _:
            yield from _leaf(kind, value, path)


def _struct(
    kind: inspect.StructType, table: Mapping[str, object], path: str, tag_field: str | None = None
) -> Iterator[Problem]:
    fields = {field.encode_name: field for field in kind.fields}
    valid = [*fields, *([tag_field] if tag_field else [])]
    for key, value in table.items():
        if key in fields:
            yield from _walk(fields[key].type, value, child(path, key))
        elif key != tag_field:
            yield Problem(f"unknown key {shown(key)}", child(path, key), nearest(key, valid))
    for name, field in fields.items():
        if field.required and name not in table:
            yield Problem(f"missing key '{name}'", child(path, name), f"Expected {expected(field.type)}")


def _union(kind: inspect.UnionType, table: Mapping[str, object], path: str) -> Iterator[Problem]:
    tag_field, structs = variants(kind)
    tag = table.get(tag_field)
    where = child(path, tag_field)
    if tag is None:
        yield Problem(f"missing key '{tag_field}'", where, f"Expected {choice(sorted(structs))}")
    elif isinstance(tag, str) and tag in structs:
        yield from _struct(structs[tag], table, path, tag_field)
    else:
        hint = nearest(tag, structs) if isinstance(tag, str) else None
        yield Problem(f"expected {choice(sorted(structs))}, got {shown(tag)}", where, hint)


def _quantity(kind: inspect.CustomType, value: object, path: str) -> Iterator[Problem]:
    try:
        dec_hook(kind.cls, value)
    except ValueError as error:
        yield Problem(str(error), path)


def _leaf(kind: inspect.Type, value: object, path: str) -> Iterator[Problem]:
    if isinstance(kind, inspect.StrType | inspect.IntType | inspect.BoolType | inspect.LiteralType):
        if not _fits(kind, value):
            yield Problem(f"expected {expected(kind)}, got {shown(value)}", path, _hint(kind, value))
    else:  # a table or list was due and something else came, or a list of the wrong length
        size = f" of {counted(len(value), 'item')}" if isinstance(value, list) else ""
        yield Problem(f"expected {expected(kind)}, got {shown(value)}{size}", path)


def _fits(kind: inspect.Type, value: object) -> bool:
    match kind:
        case inspect.LiteralType():
            return isinstance(value, str) and value in kind.values
        case inspect.StrType():
            return isinstance(value, str) and _text_fits(kind, value)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool) and _in_range(kind, value)
    return isinstance(value, bool)


def _text_fits(kind: inspect.StrType, value: str) -> bool:
    short_enough = kind.max_length is None or len(value) <= kind.max_length
    return (
        len(value) >= (kind.min_length or 0) and short_enough and bool(re.search(kind.pattern or "", value))
    )


def _in_range(kind: inspect.IntType, value: int) -> bool:
    most = _LARGEST if kind.le is None else kind.le
    return (kind.ge is None or value >= kind.ge) and value <= most


def _text_words(kind: inspect.StrType) -> str:
    if kind.pattern in PATTERN_WORDS:
        return PATTERN_WORDS[kind.pattern]
    return "text that is not empty" if kind.min_length else "text"


def _range_words(kind: inspect.IntType) -> str:
    if kind.ge is None:
        return ""
    return f" of at least {kind.ge}" if kind.le is None else f" from {kind.ge} to {kind.le}"


def _hint(kind: inspect.Type, value: object) -> str | None:
    if isinstance(kind, inspect.LiteralType) and isinstance(value, str):
        near = difflib.get_close_matches(value[:60], [str(item) for item in kind.values], n=1)
        return f"Did you mean '{near[0]}'?" if near else None
    if isinstance(kind, inspect.IntType) and isinstance(value, int) and value > _LARGEST:
        return "It has to fit in 64 bits"
    if isinstance(kind, inspect.IntType | inspect.BoolType) and isinstance(value, str):
        return "Write it without quotes" if re.fullmatch(r"[0-9]{1,9}|true|false", value) else None
    return None


def _info(model: type[Struct]) -> inspect.StructType:
    kind = inspect.type_info(model)
    assert isinstance(kind, inspect.StructType)
    return kind
