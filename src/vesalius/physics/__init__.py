"""Forward models of imaging: what a scanner would measure of a known object, each checked against a formula."""
