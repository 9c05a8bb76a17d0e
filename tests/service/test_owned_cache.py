"""A cache that clients share: what it holds, and of whom it is that gives way."""

from __future__ import annotations

import random
import time

import pytest

from service.sharing import owned_cache as under_test
from service.sharing.owned_cache import OwnedCache


def cache_of(max_bytes: int, ttl_s: float | None = None) -> OwnedCache[str, int]:
    """A cache whose values are their own size."""
    return OwnedCache(max_bytes, lambda _, value: value, ttl_s)


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = cache_of(6)
    for key in "abc":
        cache.put("alice", key, 1)
    assert cache.get("a") == 1
    cache.put("alice", "d", 1)
    assert [key in cache for key in "abcd"] == [True, False, True, True]
    assert (len(cache), cache.nbytes) == (3, 3)


def test_one_has_half_at_most_and_gives_way_to_others() -> None:
    cache = cache_of(100)
    for owner in ("alice", "bob"):
        for number in range(200):
            cache.put(owner, f"{owner} {number}", 1)
        assert cache.held_by(owner) == 50
    assert all(f"alice {number}" in cache for number in range(150, 200))
    cache.put("carol", "c", 10)
    assert (cache.held_by("alice"), cache.held_by("bob"), cache.held_by("carol")) == (45, 45, 10)


def test_nobody_loses_his_part_to_the_others() -> None:
    cache = cache_of(100)
    for number in range(30):
        cache.put("alice", f"a{number}", 1)
    draw = random.Random(0)
    for number in range(2000):
        cache.put(draw.choice(["bob", "carol"]), f"{number}", draw.randint(1, 20))
        assert cache.held_by("alice") == 30
        assert max(cache.held_by("bob"), cache.held_by("carol")) <= 50
        assert cache.nbytes <= 100


def test_what_is_larger_than_one_may_hold_or_zero_bytes_are_held() -> None:
    cache = cache_of(10)
    cache.put("alice", "a", 5)
    cache.put("bob", "b", 6)
    assert cache.get("b") is None
    assert cache.get("a") == 5
    cache.put("bob", "a", 6)  # what was there under the name is not true any more
    assert (cache.get("a"), cache.nbytes, len(cache)) == (None, 0, 0)


def test_a_value_that_is_computed_again_has_one_owner() -> None:
    cache = cache_of(12)
    cache.put("alice", "a", 4)
    cache.put("bob", "a", 6)
    assert (cache.held_by("alice"), cache.held_by("bob"), cache.nbytes) == (0, 6, 6)
    cache.drop("a")
    cache.drop("a")
    assert (cache.held_by("bob"), len(cache)) == (0, 0)


def test_what_is_old_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cache = cache_of(10, ttl_s=5)
    cache.put("alice", "a", 1)
    now = 104.0
    cache.put("alice", "b", 1)
    assert cache.get("a") == 1
    now = 105.0
    assert cache.get("a") is None
    assert "b" in cache
    assert cache.nbytes == 1
    now = 109.0
    assert "b" not in cache
    assert cache.held_by("alice") == 0


def test_many_owners_cost_no_more_than_few() -> None:
    """Notes of who holds how much stay in proportion, whatever comes and goes."""
    cache = cache_of(1000)
    for number in range(20_000):
        cache.put(f"client {number}", f"{number}", 1)
    assert (len(cache), cache.nbytes) == (1000, 1000)
    assert len(cache._bytes_of) == len(cache._keys_of) == 1000
    assert len(cache._largest) <= 2 * 1000 + under_test.STALE_NOTES
