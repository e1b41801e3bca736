"""The AWS CLI as far as the runbooks use it. The CLI itself would need another version of botocore;
this uses the SDK, whose models know the names and options of all commands.

tests/e2e/test_runbooks.py runs it as a script.
"""

import json
import sys
from typing import Any

import boto3
import jmespath
from botocore import xform_name

FLAGS = {"query": None, "output": "json"}


def options(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The options with their values, and the argument at the end that belongs to no option."""
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            values = found.setdefault(word[2:], [])
        elif word.startswith("/dev/"):  # A file to write to; only `invoke` has one.
            return found, [word]
        else:
            values.append(word)
    return found, []


def typed(shape: Any, values: list[str]) -> Any:
    if shape.type_name == "list":
        return [typed(shape.member, [it]) for it in values]
    (value,) = values
    return int(value) if shape.type_name in ("integer", "long") else value


def main(service: str, command: str, *words: str) -> None:
    client = boto3.client(service)
    method = command.replace("-", "_")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    members = {xform_name(it, "-"): it for it in model.input_shape.members}
    given, files = options(list(words))
    shown = {name: (given.pop(name, None) or [default])[0] for name, default in FLAGS.items()}
    answer = getattr(client, method)(
        **{members[it]: typed(model.input_shape.members[members[it]], given[it]) for it in given}
    )
    answer.pop("ResponseMetadata")
    if files:
        answer["Payload"] = answer["Payload"].read().decode()
    value = jmespath.search(shown["query"], answer) if shown["query"] else answer
    if answer.get("FunctionError"):
        sys.exit(str(answer))
    print(value if shown["output"] == "text" else json.dumps(value, default=str, indent=4))


if __name__ == "__main__":
    main(*sys.argv[1:])
