"""Route of the items to ask a newcomer about."""

from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.datastructures import State

from serving.filters.language import Filters
from serving.http.operations import Operation, contract
from serving.http.parameters import decode_query
from serving.http.requests import get_service
from serving.pipeline.onboarding import MAX_POOL, select_questions
from serving.records import OnboardingItem, OnboardingItems
from stream.records.events import name_user, validate_id


class OnboardingQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Query of the items to ask about."""

    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_POOL, description="Maximum number of items.")] = 10
    user_id: Annotated[str | None, msgspec.Meta(description="A user, whose own items count as answered.")] = None
    session_id: Annotated[str | None, msgspec.Meta(description="The same for the anonymous user of a session.")] = None
    filters: Annotated[Filters | None, msgspec.Meta(description="Conditions that every item meets, as JSON.")] = None
    exclude: Annotated[list[str], msgspec.Meta(description="Items that must not be among them.")] = []

    def __post_init__(self) -> None:
        for field in ("user_id", "session_id"):
            name = getattr(self, field)
            if name is not None and (error := validate_id(field, name)):
                raise ValueError(error[1])


_ONBOARDING = Operation(
    access="recommend", query=OnboardingQuery, query_example={"k": "5", "session_id": "s1"}, response=OnboardingItems,
    response_example={"items": [{"item_id": "kettle", "coverage": 0.25}]},
)  # fmt: skip


@get("/v1/onboarding", tags=["recommendations"], opt=contract(_ONBOARDING))
async def list_questions(state: State, request: Request[Any, Any, Any]) -> OnboardingItems:
    """List the most informative items to ask a newcomer about, best first.

    They are popular, and each stands for others than the items before it. Send the answers as events, such as `like`
    and `dislike`; with the user or session, the next list takes them into account. No impression is logged.
    """
    service, query = get_service(state), decode_query(request.query_params, OnboardingQuery)
    mask, now = service.replica.mask_candidates(query.filters, query.exclude), service.clock.now_ms()
    user = service.pseudonyms.replace(name_user(query.user_id, query.session_id))
    rows, coverage = select_questions(service.replica, mask, service.recommender.find_own_rows(user, now), query.k, now)
    names = service.replica.get_item_ids(rows)
    items = [OnboardingItem(name, round(share, 6)) for name, share in zip(names, coverage.tolist(), strict=True)]
    return OnboardingItems(items, None if items else "no available item passes filters and exclude, or has no answer")


ROUTES = (list_questions,)
