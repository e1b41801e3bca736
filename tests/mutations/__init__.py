"""Do the tests notice? This breaks the library on purpose, one line at a time, and runs them.

`.venv/bin/python -m tests.mutations [--model] [word ...]` prints what found each mutation, and
exits with 1 if one survives. It works on copies of the tree: nothing in the checkout changes, and
pytest does not collect it. `by_tests` asks the tests (about ten minutes), `by_model` the model
test (about an hour).
"""
