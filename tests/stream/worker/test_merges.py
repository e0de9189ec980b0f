"""Merges survive crashes at any moment: the account gets each action once."""

import msgspec

from stream.ids import hash_id, partition_for_id
from stream.records.batches import Kind
from stream.users.profiles import decode_profile, describe
from tests.support.events import START
from tests.support.faults import CrashInjector
from tests.support.stream_harness import PARTITIONS, StreamHarness, make_settings

ANONYMOUS, ACCOUNT = "cookie", "account-1"  # in two partitions


def write(harness: StreamHarness, user: str, number: int, **fields: object) -> None:
    event = {"event_id": f"e{number}", "type": "click", "ts": START + number, "user_id": user, "item_id": f"i{number}"}
    record = user.encode(), msgspec.json.encode(event | fields)
    harness.write_records({partition_for_id(user, PARTITIONS): [record]})


def run(injector: CrashInjector) -> StreamHarness:
    harness = StreamHarness(make_settings(batch=2), injector)
    for number, user in enumerate((ANONYMOUS, ACCOUNT, ANONYMOUS, ACCOUNT, ANONYMOUS)):
        write(harness, user, number)
    write(harness, ACCOUNT, 5, type="alias", anonymous_id=ANONYMOUS)
    write(harness, ACCOUNT, 6)
    harness.catch_up()
    return harness


def describe_account(harness: StreamHarness) -> tuple[list[str], int, int]:
    """History and clicks of the account, and the number of merges in the examples."""
    user = describe(decode_profile(harness.read_users()[hash_id(ACCOUNT)]))
    batches = [batch for partition in range(PARTITIONS) for _, batch in harness.read_blocks(partition)]
    n_merges = sum(int((batch.kind == Kind.merged).sum()) for batch in batches)
    return [entry["event_id"] for entry in user["history"]], user["counts"]["click"], n_merges


def test_users_are_in_two_partitions() -> None:
    assert partition_for_id(ANONYMOUS, PARTITIONS) != partition_for_id(ACCOUNT, PARTITIONS)


def test_crash_at_any_moment_merges_once() -> None:
    calm = CrashInjector()
    expected = describe_account(run(calm))
    assert expected == (["e0", "e1", "e2", "e3", "e4", "e6"], 6, 1)

    for moment in range(calm.ticks):
        harness = run(CrashInjector(moment))
        assert harness.crashes == 1
        assert describe_account(harness) == expected, moment
        assert decode_profile(harness.read_users()[hash_id(ANONYMOUS)]).is_empty
