from __future__ import annotations

import pytest

from botwire.errors import StoreError
from botwire.values import decode_all


def test_several_values_are_decoded_together():
    assert decode_all([]) == []
    assert decode_all(['{"a":[1]}', "null", '"x"']) == [{"a": [1]}, None, "x"]


@pytest.mark.parametrize("damaged", ["1,2", "", "[", "]", "1],[2", "{"])
def test_a_damaged_value_is_not_read_as_others(damaged):
    with pytest.raises(StoreError, match="the stored value is damaged"):
        decode_all(["1", damaged, "3"])
