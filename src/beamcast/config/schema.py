"""JSON schema of the workflow and the site file, for editors and for the reference pages.

msgspec's own schema can't write the default of a quantity and says "null" where TOML can only leave a key
out; so the schema is written here, along msgspec's description of the models.
"""

from collections.abc import Mapping

import msgspec
from msgspec import inspect

from beamcast.config.decode import bare, variants
from beamcast.config.site import Site
from beamcast.config.units import enc_hook, schema_hook
from beamcast.config.workflow import Struct, Workflow

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, object]


def workflow_schema() -> Schema:
    """Return the JSON schema of a workflow file."""
    return {"$schema": DIALECT, "title": "beamcast workflow", **_model(Workflow)}


def site_schema() -> Schema:
    """Return the JSON schema of a site file, with `extends`, which the loader consumes."""
    schema = _model(Site)
    extends: Schema = {
        "type": "string",
        "description": "the shipped site, or site file, that this one changes",
    }
    schema["properties"] = {"extends": extends, **_properties(Site)}
    # What a file must say may come from the one it extends.
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["extends"]}]
    return {"$schema": DIALECT, "title": "beamcast site", **schema}


def _model(model: type[Struct]) -> Schema:
    return _schema(inspect.type_info(model))


def _properties(model: type[Struct]) -> Schema:
    properties = _model(model)["properties"]
    assert isinstance(properties, dict)
    return properties


def _schema(kind: inspect.Type) -> Schema:
    description = _description(kind)
    schema = _bare_schema(bare(kind))
    return {**schema, "description": description} if description else schema


def _bare_schema(kind: inspect.Type) -> Schema:
    match kind:
        case inspect.StructType():
            return _struct(kind)
        case inspect.UnionType():
            tag_field, structs = variants(kind)
            return {"oneOf": [_variant(struct, tag_field, tag) for tag, struct in structs.items()]}
        case inspect.LiteralType():
            return {"enum": list(kind.values)}
        case inspect.StrType():
            limits = {"minLength": kind.min_length, "maxLength": kind.max_length, "pattern": kind.pattern}
            return {"type": "string", **_given(limits)}
        case inspect.IntType():
            return {"type": "integer", **_given({"minimum": kind.ge, "maximum": kind.le})}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.TupleType():
            items = [_schema(item) for item in kind.item_types]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        case inspect.VarTupleType():
            return {
                "type": "array",
                "items": _schema(kind.item_type),
                **_given({"minItems": kind.min_length}),
            }
        case inspect.DictType():
            return {"type": "object", "additionalProperties": _schema(kind.value_type)}
        case inspect.CustomType():
            return {} if kind.cls is object else schema_hook(kind.cls)
    raise NotImplementedError(f"no schema for {kind}")


def _struct(kind: inspect.StructType) -> Schema:
    required = [field.encode_name for field in kind.fields if field.required]
    return {
        "type": "object",
        "description": (kind.cls.__doc__ or "").strip(),
        "properties": {field.encode_name: _field(field) for field in kind.fields},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _variant(kind: inspect.StructType, tag_field: str, tag: str) -> Schema:
    schema = _struct(kind)
    own = schema["properties"]
    assert isinstance(own, dict)
    required = schema.get("required", [])
    assert isinstance(required, list)
    return {**schema, "properties": {tag_field: {"const": tag}, **own}, "required": [tag_field, *required]}


def _field(field: inspect.Field) -> Schema:
    schema = _schema(field.type)
    simple = isinstance(field.default, str | int | float | tuple) and not isinstance(field.default, Struct)
    if not simple:
        return schema  # no default, "absent", or a table whose fields say theirs
    return {**schema, "default": msgspec.to_builtins(field.default, enc_hook=enc_hook)}


def _description(kind: inspect.Type) -> str | None:
    """Return the outermost description: the field's own words before those of its type."""
    if isinstance(kind, inspect.Metadata):
        own = (kind.extra_json_schema or {}).get("description")
        return str(own) if own else _description(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next((words for member in kind.types if (words := _description(member))), None)
    return None


def _given(limits: Mapping[str, object]) -> Schema:
    return {key: value for key, value in limits.items() if value is not None}
