"""The command `workpool`, also as `python -m workpool`. Says what to install if the command line's
packages are missing.
"""

import sys


def main() -> None:
    try:
        from workpool.cli import commands
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit("workpool: the command line needs typer and rich: pip install -e '.[cli]'")
    commands.main()


if __name__ == "__main__":
    main()
