"""Validates deliveries against the OpenAPI document whose path is the first argument.

Reads one delivery per line, {"headers": {...}, "body": ...}, and prints one line for each: empty,
or the path and the kind of the first violation. Opens no other file and no connection.
"""

import json
import sys

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

with open(sys.argv[1], encoding="utf-8") as file:
    document = yaml.safe_load(file)
post = document["webhooks"]["outcome"]["post"]
headers = [parameter for parameter in post["parameters"] if parameter["in"] == "header"]
schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    # Where the document's references point to.
    "components": document["components"],
    "properties": {
        "headers": {
            "required": [header["name"].lower() for header in headers if header["required"]],
            "properties": {header["name"].lower(): header["schema"] for header in headers},
        },
        "body": post["requestBody"]["content"]["application/json"]["schema"],
    },
}
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for line in sys.stdin:
    violation = best_match(validator.iter_errors(json.loads(line)))
    print(f"{violation.json_path}: {violation.message}".splitlines()[0][:300] if violation else "", flush=True)
