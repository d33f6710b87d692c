"""`python -m vesalius`, which is also what `torchrun -m vesalius` starts."""

import sys

from vesalius.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
