"""The ASGI application around routers: request ids, error answers, nothing else."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse

from llm_gateway import __version__
from llm_gateway.entrypoints.http.boundary import (
    RequestBoundary,
    RequestObserver,
    error_answer,
    exception_handlers,
)
from llm_gateway.validation import explained


def create_app(*routers: APIRouter, observer: RequestObserver) -> FastAPI:
    """An application that serves `routers`."""
    app = FastAPI(
        title="LLM Gateway",
        version=__version__,
        description="Call stored prompts by name; every token is accounted for.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers=exception_handlers(observer),
    )
    for router in routers:
        app.include_router(router)

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_answer(request, explained(list(error.errors())), observer)

    app.add_middleware(RequestBoundary, observer=observer)
    return app
