"""The interface's description in OpenAPI 3.0, the newest that the Swagger UI at hand can show.

FastAPI writes 3.1, where a value that may be missing is `anyOf: [its type, null]`; 3.0 says `nullable: true`.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

OPENAPI_VERSION = "3.0.3"
PROBLEM = {"$ref": "#/components/schemas/Problem"}


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of every route that is part of the interface."""
    described = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        openapi_version=OPENAPI_VERSION,
        routes=app.routes,
    )
    for path in described["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                _name_problem(response)
    plain: dict[str, Any] = _without_null(described)
    return plain


def _name_problem(response: dict[str, Any]) -> None:
    """FastAPI says of every answer with a model that it is application/json."""
    content = response.get("content", {})
    if content.get("application/json", {}).get("schema") == PROBLEM:
        content["application/problem+json"] = content.pop("application/json")


def _without_null(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: _without_null(value) for key, value in schema.items() if key != "anyOf"}
    choices = schema.get("anyOf")
    if choices is None:
        return rest
    real = [_without_null(choice) for choice in choices if choice != {"type": "null"}]
    nullable = {"nullable": True} if len(real) < len(choices) else {}
    # In 3.0 nothing may stand beside a $ref, so a reference that may be missing is wrapped.
    choice = real[0] if len(real) == 1 and "$ref" not in real[0] else {"allOf" if len(real) == 1 else "anyOf": real}
    return {**choice, **rest, **nullable}
