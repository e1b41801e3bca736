"""The demo: a hundred orders, a payment provider with an outage, and every claim checked.

`run` starts and stops everything. `story` submits the orders and causes the faults, `provider` is
the third party, `view` shows what happens, `checks` judges the result. `actions` and `completions`
are not part of this package: they are deployed as the user's code, in a copy of the project.
"""
