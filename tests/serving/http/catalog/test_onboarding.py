"""Items to ask a newcomer about, and what the answers change."""

from typing import Any

from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids, make_event

GROUPS = {group: [f"{group}{n}" for n in range(6)] for group in ("tea", "rope", "lamp")}


def ask(loop: LiveLoop, **params: Any) -> list[str]:
    response = loop.http.get("/v1/onboarding", params=params)
    assert response.status_code == 200, response.text
    return list_item_ids(response.json())


def visit(loop: LiveLoop) -> None:
    """Each visitor acts on items of one group; item 0 of a group is its most popular one."""
    for n in range(24):
        for group, items in GROUPS.items():
            selected = [items[0], *items[1 + n % 3 : 4 + n % 3]]
            loop.send_events(
                *(make_event(user_id=f"{group}-{n}", item_id=item, ts=NOW - 90_000 + 1000 * n + i)
                  for i, item in enumerate(selected))
            )  # fmt: skip
    loop.run_until_idle()


def test_questions_stand_for_all_groups(loop: LiveLoop) -> None:
    loop.put_items(*(item for items in GROUPS.values() for item in items))
    visit(loop)
    response = loop.http.get("/v1/onboarding", params={"k": 6}).json()

    assert {item[:-1] for item in list_item_ids(response)[:3]} == set(GROUPS)
    coverage = [item["coverage"] for item in response["items"]]
    assert coverage == sorted(coverage, reverse=True)
    assert sum(coverage) <= 1


def test_answers_change_the_slate_and_the_next_questions(loop: LiveLoop) -> None:
    loop.put_items(*(item for items in GROUPS.values() for item in items))
    visit(loop)
    questions = ask(loop, k=3)
    slates = []
    for number, liked in enumerate(questions):
        answers = {item: "like" if item == liked else "dislike" for item in questions}
        session = f"s{number}"
        loop.send_events(
            *(make_event(user_id=None, session_id=session, item_id=item, type=answer, ts=NOW - 5)
              for item, answer in answers.items())
        )  # fmt: skip
        loop.run_until_idle()
        slate = list_item_ids(loop.recommend(None, session_id=session, k=5, explore=False, log=False))
        slates.append(slate)

        assert not set(ask(loop, k=3, session_id=session)) & set(questions)
        assert sum(item[:-1] == liked[:-1] for item in slate) >= 4

    assert len({tuple(slate) for slate in slates}) == 3


def test_catalog_without_events_is_divided_by_category(loop: LiveLoop) -> None:
    for group, items in GROUPS.items():
        loop.put_items(*items, categories=[group])

    assert {item[:-1] for item in ask(loop, k=3)} == set(GROUPS)


def test_empty_shop_has_a_reason(loop: LiveLoop) -> None:
    assert loop.http.get("/v1/onboarding").json()["reason"]


def test_questions_pass_filters(loop: LiveLoop) -> None:
    loop.put_items("a", "b", categories=["tea"])
    loop.put_items("c", categories=["rope"])

    assert set(ask(loop, filters='{"categories": ["tea"]}', exclude="b")) == {"a"}
    assert_problem(loop.http.get("/v1/onboarding", params={"k": 0}), 422)
    assert_problem(loop.http.get("/v1/onboarding", params={"user": "u1"}), 422)
