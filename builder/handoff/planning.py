"""Archives and the section ``handoff`` → the plan of a hand-off: uploads, and calls in the order of sending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import UserError
from builder.handoff.endpoints import endpoint_calls
from builder.handoff.jobs import job_calls
from builder.handoff.making import Maker
from builder.handoff.models import image_of, models_of, uploads_of
from builder.handoff.names import slug
from builder.handoff.plan import Plan
from builder.handoff.scaling import scaling_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.handoff.plan import Facts
    from builder.recipe.handoff import SageMaker


def plan(settings: SageMaker, archives: Sequence[Facts]) -> Plan:
    """What is sent, and in which order.

    Args:
        settings: the section of the recipe.
        archives: what is handed off.

    Raises:
        UserError: the archives cannot be hosted like that, or what names need is missing.
    """
    name = _name(settings, [one.name for one in archives])
    make = Maker(settings, name)
    image = image_of(settings, archives)
    uploads = uploads_of(settings, name, archives)
    models = models_of(make, archives, uploads, image)
    calls = [*models, *endpoint_calls(make, archives, models, image)]
    calls += [*scaling_calls(make, calls), *job_calls(make, archives, models)]
    _check_names([(call.operation, call.name) for call in calls if call.operation != "RegisterScalableTarget"])
    limit = settings.endpoint.max_payload_mb if settings.endpoint else None
    prices = dict(settings.usd_per_hour)
    return Plan(settings.region, image, tuple(archives), tuple(uploads), tuple(calls), limit, prices)


def _name(settings: SageMaker, names: list[str]) -> str:
    if settings.name is None and len(set(names)) > 1:
        raise UserError(
            f"{len(names)} archives, and no name for all of them",
            mend="set handoff.sagemaker.name",
        )
    return slug(settings.name or names[0], limit=40)  # room for what is made of it


def _check_names(names: list[tuple[str, str]]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        operation, name = twice[0]
        raise UserError(f"two calls of {operation} would make {name!r}", mend="give them different names or contents")
