"""Builds the portal's application from its parts.

/health                         open: is the node well?
/docs, /openapi.json            open: the interface explained
/metrics                        counts for Prometheus
/api/v1/studies[/{uid}]         what was done to each study, and why
/api/v1/studies/{uid}/retry     and /cancel, /reanalyse, /withdraw: do something for a study
/api/v1/studies/{uid}/feedback  what readers say of its findings
/api/v1/models                  how versions of a model differ
/api/v1/clinics                 who may send
/api/v1/usage[/studies[.csv]]   what was used of each plan, and what became of each study
/api/v1/ledger, /credits        what was charged; take a charge back
/api/v1/invoices[/{number}]     what clinics were asked to pay
/api/v1/billing[/checkout]      how it stands with Stripe, and /portal: links to its pages
/api/v1/stripe/webhook          what Stripe tells, signed by it
/api/v1/quarantine              what came and cannot be used

/sign-in, /studies[/{uid}], /usage   pages for people (pages/)

All but the open ones need an API key (auth.py) whose role may (permissions.py); pages ask for it once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from domain.clinics import Clinic
from domain.errors import Refuse
from portal_api.asking import Problem
from portal_api.body_limit import BodyLimit
from portal_api.headers import SecurityHeaders
from portal_api.openapi import describe
from portal_api.pages import rendering
from portal_api.pages import sign_in as sign_in_page
from portal_api.pages import studies as studies_page
from portal_api.pages import study as study_page
from portal_api.pages import usage as usage_page
from portal_api.parts import Care, Parts, Payments, no_payments
from portal_api.problems import bad_parameters, bug, no_answer, refused
from portal_api.requests import RequestLog
from portal_api.routes import (
    billing,
    care,
    docs,
    feedback,
    health,
    invoices,
    ledger,
    metrics,
    models,
    quarantine,
    stripe_webhook,
    studies,
    study,
    usage,
)
from portal_api.routes import clinics as clinics_route
from storage.database import Database

DESCRIPTION = """\
Reads what a Collimator node has done, lets a study be tried again, cancelled or analysed anew, and takes what readers
say of its findings.
Nothing here names a patient.

Every request needs an API key, made on the node with `collimator keys create NAME --role ROLE`.
Lists are plain lists, the newest first; `X-Total-Count` says how many there are in all.
"""
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "no valid API key"},
    403: {"model": Problem, "description": "the key's role may not do this"},
    422: {"model": Problem, "description": "a parameter is not what it should be"},
}


def build_app(
    *,
    database: Database,
    clinics: tuple[Clinic, ...],
    version: str,
    worker_lease_s: float = 20.0,
    data_dir: Path | None = None,
    open_care: Callable[[], Care],
    open_payments: Callable[[], Payments | None] = no_payments,
    return_url: str = "",
) -> FastAPI:
    """The application; it opens and closes nothing by itself."""
    app = FastAPI(
        title="Collimator", version=version, description=DESCRIPTION, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.parts = Parts(
        database=database,
        clinics=clinics,
        version=version,
        worker_lease_s=worker_lease_s,
        data_dir=data_dir,
        open_care=open_care,
        open_payments=open_payments,
        return_url=return_url,
    )
    app.include_router(health.router)
    app.include_router(stripe_webhook.router)
    for guarded in (studies, study, feedback, care, clinics_route, quarantine, models, metrics):
        app.include_router(guarded.router, responses=REFUSALS)
    for about_money in (usage, ledger, invoices, billing):
        app.include_router(about_money.router, responses=REFUSALS)
    for page in (sign_in_page, studies_page, study_page, usage_page):
        app.include_router(page.router)
    app.routes.append(rendering.assets())
    app.include_router(docs.router)
    app.routes.append(docs.assets())

    description = describe(app)
    app.add_api_route("/openapi.json", lambda: description, include_in_schema=False)
    app.add_exception_handler(HTTPException, no_answer)
    app.add_exception_handler(RequestValidationError, bad_parameters)
    app.add_exception_handler(Refuse, refused)
    app.add_exception_handler(Exception, bug)
    app.add_middleware(BodyLimit)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog)
    return app
