"""Find out why a deploy failed: a few lines for a person, from the output of `cdk`.

It only reads text. The deploy calls it, and names the log for everything else.
"""

import re

_FAILED_RESOURCE = re.compile(r"\| (?:CREATE|UPDATE|DELETE)_FAILED +\| (\S+) +\| (.+)")
_CDK_OWN = re.compile(r"Subprocess exited with error|^\[?WARNING|^\s*Acknowledge with|^[✨❌‣]")
_MOST_LINES = 20


def deploy_failure(output: str) -> str:
    """The reason in at most 21 lines, without a traceback."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    reason = _failed_resources(lines) or _last_exception(lines) or _last_words(lines)
    if len(reason) > _MOST_LINES:
        reason = [*reason[:_MOST_LINES], "..."]
    return "\n".join(reason) or "it printed nothing"


def _failed_resources(lines: list[str]) -> list[str]:
    """CloudFormation's own messages, without resources canceled because another one failed."""
    found = [match for line in lines if (match := _FAILED_RESOURCE.search(line))]
    failures = dict.fromkeys(f"{match[2].strip()} [{match[1]}]" for match in found)
    causes = [line for line in failures if "cancel" not in line.lower()]
    return causes or list(failures)


def _last_exception(lines: list[str]) -> list[str]:
    """The message of the last Python exception: all its lines, some of which may be indented."""
    headers = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent call")]
    if not headers:
        return []
    after = lines[headers[-1] + 1 :]
    message = next((n for n, line in enumerate(after) if not line.startswith(" ")), len(after))
    return [line for line in after[message:] if not _CDK_OWN.search(line)]


def _last_words(lines: list[str]) -> list[str]:
    """The last line if the synthesis succeeded, else all that the app printed."""
    synthesized = [n for n, line in enumerate(lines) if "Synthesis time" in line]
    if synthesized:
        return lines[-1:]
    return [line for line in lines if not _CDK_OWN.search(line)]
