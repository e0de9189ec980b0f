"""Generated ids follow the content of a row and its number among equal rows."""

from replay.files.row_ids import RowIdGenerator


def test_ids_do_not_depend_on_batches() -> None:
    rows = [f"row {i % 70}" for i in range(300)]
    one_batch = RowIdGenerator("").make_ids(rows)
    generator = RowIdGenerator("")
    small_batches = [name for start in range(0, 300, 7) for name in generator.make_ids(rows[start : start + 7])]

    assert one_batch == small_batches
    assert len(set(one_batch)) == 300


def test_salt_separates_files_with_equal_rows() -> None:
    assert RowIdGenerator("like").make_ids(["r"]) != RowIdGenerator("purchase").make_ids(["r"])


def test_no_rows_have_no_ids() -> None:
    assert RowIdGenerator("").make_ids([]) == []
