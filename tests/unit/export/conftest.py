"""Both ways from logits to labels."""

import pytest

from vesalius.engine import cells


@pytest.fixture(params=["kernels", "numpy"])
def way(request, monkeypatch):
    """With the kernels, or as where there are none, here and in torch."""
    if request.param == "numpy":
        monkeypatch.setattr(cells, "suit", lambda *sums: False)
    elif not cells.suit("float16", "cpu", 3):
        pytest.skip("the kernels are not built: python -m vesalius.core.kernels.build")
    return request.param
