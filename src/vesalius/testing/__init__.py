"""The contract suites that every entry of a shelf must pass, shipped so that entries of other packages can run them."""
