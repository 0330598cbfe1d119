"""Questions that tests have."""

import _tables
import query


def ask(database, sql):
    """The rows of the answer."""
    table = query.answer(database, sql)
    return [tuple(row) for row in zip(*_tables.values(table), strict=True)]
