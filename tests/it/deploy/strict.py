"""Judges Kubernetes objects (YAML on stdin) strictly: a field that the schema does not know is an error.

Kubernetes' own kinds by the schemas that kubernetes-validate ships; KEDA's and the Prometheus operator's by cloudcoil's models, which
ignore what they do not know: so that what they read has to be all there was. RabbitMQ's operators' by the schema beside this file.
"""
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus

RABBITMQ = json.loads(pathlib.Path(__file__).with_name("rabbitmq.schema.json").read_text())
MODELS = {"keda.sh/v1alpha1": keda, "monitoring.coreos.com/v1": prometheus}


def unknown(given, known, path):
    """What was given and not read, as paths."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                yield f"{path}.{key}: unknown"
            else:
                yield from unknown(value, known[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(known, list):
        for number, (one, other) in enumerate(zip(given, known)):
            yield from unknown(one, other, f"{path}[{number}]")


def problems(document):
    version, kind = document["apiVersion"], document["kind"]
    if version in MODELS:
        model = getattr(MODELS[version], kind)
        read = json.loads(model.model_validate(document).model_dump_json(by_alias=True, exclude_unset=True))
        yield from unknown(document, read, kind)
    elif version.startswith("rabbitmq.com/"):
        schema = {"$ref": f"#/$defs/{kind}", "$defs": RABBITMQ["$defs"]}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
            yield f"{'.'.join(map(str, error.path))}: {error.message}"
    else:
        try:
            kubernetes_validate.validate(document, sys.argv[1], strict=True)
        except Exception as error:  # of several classes, without a common one
            yield str(error).splitlines()[0]


judged, wrong = 0, 0
for document in yaml.safe_load_all(sys.stdin):
    judged += 1
    name = f"{document['kind']} {document['metadata'].get('name')}"
    try:
        found = list(problems(document))
    except Exception as error:
        found = [f"{type(error).__name__}: {error}"]
    for problem in found:
        wrong += 1
        print(f"{name}: {problem}")
print(f"{judged} objects, {wrong} problems")
sys.exit(wrong > 0)
