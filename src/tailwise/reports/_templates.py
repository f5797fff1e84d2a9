"""Templates and style sheets of the pages."""

import json
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from tailwise.reports import _numbers
from tailwise.reports._palette import SYMBOL_PATHS, dark_rules, heat_class, heat_rules
from tailwise.reports._sections import metric_name

__all__ = ["style_sheet", "template"]


def template(name: str) -> Template:
    """A page's template; every text put into it is escaped."""
    return _environment().get_template(name)


@cache
def style_sheet(*names: str) -> Markup:
    """Style sheets one after the other, with the colours filled in."""
    folder = resources.files("tailwise.reports").joinpath("templates")
    text = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    rules = {
        "dark chart colours": dark_rules(),
        "heat colours": heat_rules(dark=False),
        "dark heat colours": heat_rules(dark=True),
    }
    for place, css in rules.items():
        text = text.replace(f"/* {place} */", css)
    return Markup(text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tailwise.reports", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    for name in _numbers.__all__:
        if name.islower():
            environment.filters[name] = getattr(_numbers, name)
    environment.globals["symbol_paths"] = SYMBOL_PATHS
    environment.filters["heat_class"] = heat_class
    environment.filters["metric_name"] = metric_name
    environment.filters["compact_json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment
