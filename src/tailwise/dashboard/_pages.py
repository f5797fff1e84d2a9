"""From page models to HTML: templates that escape every text."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tailwise.dashboard import _figures, _words
from tailwise.reports import _numbers, _templates

__all__ = ["ICON", "render", "style_sheet", "style_version"]

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" '
    'fill="#0b6fb4"/><path d="M3 4.5c3 0 2.5 7 10 7" fill="none" stroke="#fff" stroke-width="2"/></svg>'
)


@cache
def style_sheet() -> str:
    """Return the style sheet of all pages, behind what they share with reports."""
    folder = resources.files("tailwise.dashboard").joinpath("templates")
    own = folder.joinpath("dashboard.css").read_text(encoding="utf-8")
    return f"{_templates.style_sheet('base.css')}\n{own}"


@cache
def style_version() -> str:
    """Changes with the style sheet, so that browsers may keep it."""
    return hashlib.sha256(style_sheet().encode()).hexdigest()[:12]


def render(name: str, values: Mapping[str, Any]) -> str:
    """Render a page; a value that the template needs and does not get is an error."""
    return _environment().get_template(name).render(style_version=style_version(), **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tailwise.dashboard", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    for module in (_numbers, _words):
        for name in module.__all__:
            if name.islower():
                environment.filters[name] = getattr(module, name)
            else:
                environment.globals[name] = getattr(module, name)
    for name in ("interval_mark", "path_figure", "reach_of", "shares_figure"):
        environment.globals[name] = getattr(_figures, name)
    return environment
