"""Why a deploy failed, read from what `cdk` printed: a few lines for a person, without tracebacks.

It only reads text. The deploy calls it, and names the log for the rest.
"""

import re

_FAILED_RESOURCE = re.compile(r"\| (?:CREATE|UPDATE|DELETE)_FAILED +\| (\S+) +\| (.+)")
_CDK_OWN = re.compile(r"Subprocess exited with error|^\[?WARNING|^\s*Acknowledge with|^[✨❌‣]")
_MOST_LINES = 20


def deploy_failure(printed: str) -> str:
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    told = _failed_resources(lines) or _last_exception(lines) or _last_words(lines)
    if len(told) > _MOST_LINES:
        told = [*told[:_MOST_LINES], "..."]
    return "\n".join(told) or "it printed nothing"


def _failed_resources(lines: list[str]) -> list[str]:
    """CloudFormation's own words, without what it only canceled because of another's failure."""
    found = [match for line in lines if (match := _FAILED_RESOURCE.search(line))]
    told = dict.fromkeys(f"{match[2].strip()} [{match[1]}]" for match in found)
    causes = [line for line in told if "cancel" not in line.lower()]
    return causes or list(told)


def _last_exception(lines: list[str]) -> list[str]:
    """A Python program's message may have several lines, some of them indented."""
    headers = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent call")]
    if not headers:
        return []
    after = lines[headers[-1] + 1 :]
    message = next((n for n, line in enumerate(after) if not line.startswith(" ")), len(after))
    return [line for line in after[message:] if not _CDK_OWN.search(line)]


def _last_words(lines: list[str]) -> list[str]:
    """What came after the synthesis if there was one, else the app's own parting words."""
    synthesized = [n for n, line in enumerate(lines) if "Synthesis time" in line]
    if synthesized:
        return lines[-1:]
    return [line for line in lines if not _CDK_OWN.search(line)]
