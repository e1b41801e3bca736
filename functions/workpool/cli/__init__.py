"""The command line: the command `workpool`. `workpool.__main__` imports it; Lambda never does."""
