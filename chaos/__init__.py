"""Chaos: load and faults on a deployed stack, and every invariant of the project checked.

`plan` turns a seed into submits and faults, `load` submits, `monkey` causes the faults, `watch`
records what can be seen only while it happens, `rest` waits until nothing is left to do, `evidence`
collects everything, `checks` judges it, and `run` joins them. `actions` and `completions` are not
part of this package: they are deployed as the user's code, in a copy of the project.
"""
