"""Networks as plain torch modules, one paper per file, 2D and 3D from one code: `Net(ndim, in_channels, out_channels, ...)`."""

from vesalius.core.shelf import Shelf

NETS = Shelf("nets")
