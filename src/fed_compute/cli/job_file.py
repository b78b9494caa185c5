"""A job file as the coordinator takes it. A plug-in model's parameters and v1 come from this machine."""

import base64
import json
from pathlib import Path

from fed_compute.errors import ExtraMissing, SettingInvalid
from fed_compute.protocol.architectures import BUILT_IN
from fed_compute.protocol.job import JobSpec, parse_job, parse_job_text
from fed_compute.protocol.models import decode_model, encode_model
from fed_compute.protocol.schema import ParameterSchema, Vector

_TOML, _JSON = "application/toml", "application/json"


def read_job(file: Path, first_model: Path | None) -> tuple[bytes, str]:
    """Return the body that creates the job of a file, TOML or JSON, and its type.

    Args:
        file: the job file.
        first_model: a model file that becomes v1.

    Raises:
        SettingInvalid: if a file cannot be read.
        JobFileInvalid: if it is no job; an unknown key names the nearest known one.
        ModelMalformed: if `first_model` is no model of the job.
        ExtraMissing, ModelUnknown, ModelMismatch: if a plug-in model cannot be built here.
    """
    text = _text(file)
    spec = parse_job(_document(file, text)) if file.suffix == ".json" else parse_job_text(text)
    start = None if first_model is None else _bytes(first_model)
    if spec.model.name in BUILT_IN:
        if start is not None:
            decode_model(start, spec.schema_of_model())
        elif file.suffix != ".json":
            return text.encode(), _TOML
        return _message(spec, None, start), _JSON
    schema, vector = _plugged_in(spec)
    if start is None:
        start = encode_model(vector, schema)
    decode_model(start, schema)
    return _message(spec, schema, start), _JSON


def _plugged_in(spec: JobSpec) -> tuple[ParameterSchema, Vector]:
    try:
        from fed_compute.client.models.conversion import start_of_plugin
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            what=f"the model {spec.model.name[:80]!r}, which is not built in,", extra="client"
        ) from error
    return start_of_plugin(spec.model.name, spec.model.args, seed=spec.seed)


def _message(spec: JobSpec, schema: ParameterSchema | None, first_model: bytes | None) -> bytes:
    message: dict[str, object] = {"job": spec.model_dump(mode="json")}
    if schema is not None:
        message["parameters"] = schema.to_json()
    if first_model is not None:
        message["first_model"] = base64.b64encode(first_model).decode("ascii")
    return json.dumps(message).encode()


def _document(file: Path, text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SettingInvalid(f"the job file {file} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise SettingInvalid(f"the job file {file} is no JSON object")
    return document


def _text(file: Path) -> str:
    try:
        return _bytes(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingInvalid(f"the job file {file} is not UTF-8 text") from error


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingInvalid(f"{file} cannot be read: {error.strerror}") from error
