"""The ASGI application around routers: request ids, error answers, nothing else."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.responses import JSONResponse

from llm_gateway import __version__
from llm_gateway.entrypoints.http.boundary import (
    RequestBoundary,
    RequestObserver,
    error_answer,
    exception_handlers,
)
from llm_gateway.entrypoints.http.callers import RequestCallers
from llm_gateway.validation import explained


def create_app(
    *routers: APIRouter, observer: RequestObserver, callers: RequestCallers | None = None
) -> FastAPI:
    """An application that serves `routers`.

    Args:
        routers: The endpoints.
        observer: Logs and metrics.
        callers: Who may learn which methods an endpoint takes; None is everybody.
    """
    app = FastAPI(
        title="LLM Gateway",
        version=__version__,
        description="Call stored prompts by name; every token is accounted for.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers=exception_handlers(observer, callers),
    )
    for router in routers:
        app.include_router(router)

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_answer(request, explained(list(error.errors()), _query_model(request)), observer)

    app.add_middleware(RequestBoundary, observer=observer)
    return app


def _query_model(request: Request) -> type[BaseModel] | None:
    """What the route makes of its query: each endpoint has one model of it at most."""
    route = request.scope.get("route")
    kinds = [field.field_info.annotation for field in route.dependant.query_params] if route else []
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
