"""Packages that the plain installation does without, and the extra that brings each."""

FILES = ("nibabel", "pydicom", "pylibjpeg", "openjpeg", "rle", "gdcm", "PIL")
TRAINING = ("torch", "scipy", "typer", "rich", "jinja2", "contourpy", "pydantic")


def known(module: str | None) -> bool:
    """Whether an extra of ours brings the package of `module`."""
    return (module or "").partition(".")[0] in (*FILES, *TRAINING)


def remedy(module: str | None) -> str:
    """How to get the package of `module`."""
    package = (module or "").partition(".")[0]
    if package in FILES:
        return "Install what reads every kind of file: pip install 'vesalius[files]'"
    if package in TRAINING:
        return "Install what training needs: pip install 'vesalius[train]'"
    return f"Install it: pip install {package}"
