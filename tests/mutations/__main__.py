"""Applies the chosen mutations and prints a table of what found each."""

import argparse
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutations import by_model, by_tests
from tests.mutations.catalogue import Mutation


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations")
    parser.add_argument("--model", action="store_true", help="ask tests/model alone")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="word",
        help="apply only mutations that have one of these words in their file or description",
    )
    options = parser.parse_args()
    asked = by_model if options.model else by_tests
    chosen = [it for it in asked.CHOSEN if _has_one(options.words, it)]
    if not chosen:
        print(f"no mutation has one of these words: {' '.join(options.words)}")
        return 1
    with tempfile.TemporaryDirectory(prefix="mutations-") as scratch:
        base = Path(scratch) / "base"
        judge = by_model.Model(base) if options.model else by_tests.Tests(base)

        def is_found(numbered: tuple[int, Mutation]) -> bool:
            number, mutation = numbered
            tree = shutil.copytree(base, Path(scratch) / str(number))
            file = tree / "functions" / "workpool" / mutation.file
            try:
                file.write_text(mutation.apply(file.read_text()))
            except (OSError, ValueError) as stale:
                found_by, note = None, str(stale)
            else:
                found_by = judge.first_to_notice(mutation.file, tree)
                note = found_by or "SURVIVES"
            shutil.rmtree(tree)
            print(f"{mutation.file:<22} {mutation.breaks:<62} | {note}", flush=True)
            return found_by is not None

        with ThreadPoolExecutor(asked.AT_ONCE) as threads:
            results = list(threads.map(is_found, enumerate(chosen)))
    print(f"{sum(results)} of {len(results)} mutations found")
    return 0 if all(results) else 1


def _has_one(words: list[str], mutation: Mutation) -> bool:
    return not words or any(word in f"{mutation.file} {mutation.breaks}" for word in words)


if __name__ == "__main__":
    sys.exit(main())
