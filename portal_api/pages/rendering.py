"""Templates and style sheet. Whatever a template is given is text; a page holds no script and no style of its own."""

from datetime import datetime
from functools import cache
from pathlib import Path

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from domain.findings import told_apart

HERE = Path(__file__).parent
STATIC = "/pages"


def page(template: str, status: int = 200, **values: object) -> HTMLResponse:
    return HTMLResponse(_environment().get_template(template).render(values), status)


def assets() -> Mount:
    return Mount(STATIC, StaticFiles(directory=HERE / "static"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = _moment
    environment.filters["told_apart"] = told_apart
    return environment


def _moment(value: datetime | None) -> str:
    return "" if value is None else f"{value:%Y-%m-%d %H:%M} UTC"
