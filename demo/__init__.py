"""The demo: a hundred orders, a payment provider with an outage, and every claim checked.

`story` tells it, `provider` is the third party, `view` shows it, `checks` judges it. Everything
it starts it also stops.
"""
