"""One self-contained HTML file from a template: everything is escaped, pictures and style lie within."""

import base64
import datetime
import io
import os

from reports import charts
from system import files
from system.errors import UserError

TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
COLOURS = 8  # of series, in style.css; more repeat them
_INSTALL = "pip install -r requirements.txt"


def check_output(path, flag="--report"):
    """Raise `UserError` where the page could not be written: no jinja2, or something else stands there."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise UserError("reports need the package jinja2", flag, _INSTALL) from None
    files.refuse_as_output(path, (".html", ".htm"), flag)


def write(path, template, **values):
    """Fill a template and write the page, whole or not at all."""
    files.write_text(path, render(template, **values))


def render(template, **values):
    """Return the page: `values` for the template, every text in them escaped."""
    import jinja2
    from markupsafe import Markup

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    environment.globals.update(
        drawing=charts.drawing, size=charts, colours=COLOURS,
        now=f"{datetime.datetime.now().astimezone():%d %B %Y, %H:%M %Z}",
        inline=lambda name: Markup(_own(name)),  # of ours: style and script, which hold no text of anybody's
    )  # fmt: skip
    environment.filters["ends"] = lambda pair, between: between.join(f"{value:.3f}" for value in pair)
    return environment.get_template(template).render(**values)


def _own(name):
    with open(os.path.join(TEMPLATES, name), encoding="utf-8") as file:
        return file.read()


def picture(pixels, quality=80):
    """Return (H, W, 3) uint8 as an address that holds the picture itself (WebP)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
