"""GET /v1/models."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from llm_gateway.access.caller import Caller
from llm_gateway.api.models import ModelInfo, ModelList
from llm_gateway.entrypoints.http.callers import RequestCallers, permitted
from llm_gateway.models.catalogue import ModelCatalogue


def router(catalogue: ModelCatalogue, default_model: str, callers: RequestCallers) -> APIRouter:
    """The endpoint."""
    routes = APIRouter()
    known = Depends(permitted(callers, "ListModels"))

    @routes.get("/v1/models", operation_id="ListModels")
    async def list_models(caller: Caller = known) -> ModelList:
        """List the models that the caller may use, with their limits and prices."""
        specs = [spec for spec in catalogue if caller.may_use(spec.full_name)]
        specs.sort(key=lambda spec: (spec.provider, spec.name))
        default = default_model if caller.may_use(default_model) else None
        return ModelList(models=[ModelInfo.of(spec) for spec in specs], default_model=default)

    return routes
