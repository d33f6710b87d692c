"""A page of its own beside the report of a run: the same look, one file, nothing of the network."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vesalius.core.files import write_text
from vesalius.core.record import record
from vesalius.report import html


def write_page(path: Path, template: str, **values: Any) -> Path:
    """`template` filled with `values` (and the looks that all pages share), written to `path`."""
    script = (html.TEMPLATES / "report.js").read_text(encoding="utf-8")
    shared = {
        "style": Markup((html.TEMPLATES / "report.css").read_text(encoding="utf-8")), "script": Markup(script),
        "script_hash": b64encode(sha256(script.encode()).digest()).decode(), "version": record([])["versions"]["vesalius"] or "",
    }  # fmt: skip
    write_text(path, html.environment().get_template(template).render({**shared, **values}))
    return path
