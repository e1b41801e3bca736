"""The catalogue of mutations fits the code as it is today; `python -m tests.mutations` runs it."""

import pytest

from tests.mutations import by_model, by_tests
from tests.mutations.catalogue import MUTATIONS, Mutation
from tests.mutations.tree import ROOT

LIBRARY = ROOT / "functions" / "workpool"
FILES = sorted({it.file for it in MUTATIONS})


def test_the_text_that_each_mutation_breaks_is_in_its_file_exactly_once() -> None:
    texts = {file: (LIBRARY / file).read_text() for file in FILES if (LIBRARY / file).is_file()}
    counts = {it: texts.get(it.file, "").count(it.old) for it in MUTATIONS}
    stale = [f"{it.file}: {it.breaks} ({n} times)" for it, n in counts.items() if n != 1]
    assert stale == []


def test_each_mutation_changes_its_file_and_no_two_are_the_same() -> None:
    assert [it.breaks for it in MUTATIONS if it.old == it.new] == []
    assert len({(it.file, it.old, it.new) for it in MUTATIONS}) == len(MUTATIONS)


def test_a_stale_mutation_is_refused() -> None:
    mutation = Mutation("core/run.py", "a", "b", "nothing")
    assert mutation.apply("cat") == "cbt"
    for text in ("dog", "banana"):
        with pytest.raises(ValueError, match=r"stale: 'a' is \d times in core/run.py"):
            mutation.apply(text)


@pytest.mark.parametrize("file", FILES)
def test_each_mutated_file_has_tests_that_are_tried_first(file: str) -> None:
    assert by_tests.own_tests(file)


def test_the_model_is_asked_about_files_of_the_catalogue() -> None:
    assert set(by_model.FILES) <= set(FILES)
