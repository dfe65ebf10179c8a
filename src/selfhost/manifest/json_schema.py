"""What editors know about `models.yaml`: a JSON Schema generated from the types. Pure."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from selfhost.manifest.schema import Manifest
from selfhost.manifest.values import Listen


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the manifest, of which `schema.json` beside this file is a copy."""
    schema = Manifest.model_json_schema(schema_generator=_ForEditors)
    del schema["properties"]["name"]["default"]  # it depends on the folder
    return {"$schema": _ForEditors.schema_dialect, **schema}


class _ForEditors(GenerateJsonSchema):
    """Without titles that only repeat the key, and with defaults as a manifest spells them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Listen) else super().encode_default(dft)
