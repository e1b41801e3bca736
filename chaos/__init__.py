"""Chaos: the deployed stack under load while a seeded monkey causes faults, then every invariant
of the project checked against what the actions themselves wrote down.

`plan` is what a seed means, `load` submits it, `monkey` does the harm, `watch` keeps what can be
seen only while it happens, `rest` waits for the end, `checks` judges, `run` joins them. `actions`
and `completions` are no part of this package: they are copied into the project that is deployed.
"""
