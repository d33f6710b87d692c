"""Packages that the plain installation does without, and the extra that brings each."""

FILES = ("nibabel", "pydicom", "pylibjpeg", "openjpeg", "rle", "gdcm", "PIL")
TRAINING = ("torch", "scipy", "typer", "rich", "jinja2", "contourpy")


def remedy(package: str) -> str | None:
    """How to get `package`; None where no extra of ours has it."""
    if package in FILES:
        return "Install what reads every kind of file: pip install 'vesalius[files]'"
    if package in TRAINING:
        return "Install what training needs: pip install 'vesalius[train]'"
    return None
