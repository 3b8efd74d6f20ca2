"""GET /v1/models."""

from __future__ import annotations

from fastapi import APIRouter

from llm_gateway.model_catalogue import ModelCatalogue
from llm_gateway.wire.models import ModelInfo, ModelList


def router(catalogue: ModelCatalogue, default_model: str) -> APIRouter:
    """The endpoint."""
    routes = APIRouter()

    @routes.get("/v1/models", operation_id="ListModels")
    async def list_models() -> ModelList:
        """List the models that can be called, with their limits and prices."""
        specs = sorted(catalogue, key=lambda spec: (spec.provider, spec.name))
        return ModelList(models=[ModelInfo.of(spec) for spec in specs], default_model=default_model)

    return routes
