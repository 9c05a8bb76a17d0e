"""What each writer holds of a Redis: where room ends, who holds most gives way.

A Redis that is full evicts what was used longest ago, whoever wrote it: one key could push out
what is there of another. So what is written for a key is counted there, by a script that writes and
counts in one call, and makes room by dropping entries of the writer who holds most, those that
expire first before others. Of n writers each keeps what he has up to his n-th, as in memory
(`service.sharing.owned_cache`).

`xclip:writers` has the bytes of each writer, `xclip:writers:…` the entries of one by the time at
which they expire. Where these are lost, counting begins anew.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import redis.exceptions as lost

from service.cache.redis.write_behind import Entry
from service.cache.spaces import SHARED

WRITERS = b"xclip:writers"
FOR_WRITERS = 0.75  # of the memory of a Redis; the rest is for what nobody counts

# Sizes are estimates from above: room is given out in steps of up to a quarter, and keys are
# there twice. How many entries that have expired are looked at in one call is bounded, so that
# reads do not wait behind it.
WRITE = """
local writers, held, writer, most = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
local now = tonumber(redis.call('TIME')[1])
if redis.call('EXISTS', held) == 0 then
  redis.call('ZREM', writers, writer)  -- all of it has expired, or is lost
end
for i = 3, #KEYS do
  local seconds, value = tonumber(ARGV[2 * i - 3]), ARGV[2 * i - 2]
  local size = math.floor(1.25 * #value) + 2 * #KEYS[i] + 300
  redis.call('SET', KEYS[i], value, 'EX', seconds)
  if redis.call('ZADD', held, now + seconds, size .. ' ' .. KEYS[i]) == 1 then
    redis.call('ZINCRBY', writers, size, writer)
  end
end
redis.call('EXPIREAT', held, redis.call('ZRANGE', held, -1, -1, 'WITHSCORES')[2])

local total, names = 0, {}
local all = redis.call('ZRANGE', writers, 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  names[#names + 1] = all[i]
  total = total + tonumber(all[i + 1])
end

local function drop(name, entries)
  for _, entry in ipairs(entries) do
    local size, key = string.match(entry, '^(%d+) (.*)$')
    redis.call('UNLINK', key)
    redis.call('ZREM', writers .. ':' .. name, entry)
    redis.call('ZINCRBY', writers, -size, name)
    total = total - size
  end
end

if total > most then
  for _, name in ipairs(names) do
    if total <= most then break end
    local old = {'ZRANGEBYSCORE', writers .. ':' .. name, '-inf', now, 'LIMIT', 0, 500}
    drop(name, redis.call(unpack(old)))
    if redis.call('EXISTS', writers .. ':' .. name) == 0 then
      total = total - redis.call('ZSCORE', writers, name)
      redis.call('ZREM', writers, name)
    end
  end
end
while total > most do
  local name, bytes = unpack(redis.call('ZREVRANGE', writers, 0, 0, 'WITHSCORES'))
  local first = redis.call('ZRANGE', writers .. ':' .. name, 0, 0)
  drop(name, first)
  if #first == 0 then
    redis.call('ZREM', writers, name)
    total = total - bytes
  end
end
return #KEYS - 2
"""


async def room_of(redis: Any) -> int:
    """Return bytes that writers may fill together; 0 where a Redis names no bound, or tells none.

    Raises what asking raises where it cannot be asked.
    """
    try:
        return int(FOR_WRITERS * int((await redis.info("memory"))["maxmemory"]))
    except (lost.ResponseError, AttributeError, KeyError, TypeError, ValueError):
        return 0


def queue_writes(pipeline: Any, batch: Mapping[bytes, Entry], room: int) -> list[int]:
    """Queue the commands that write a batch, one for each writer who is counted.

    Args:
        pipeline: Of redis-py.
        batch: By key; entries in the space of all are nobody's, and not counted.
        room: Bytes for all writers; 0 counts nobody.

    Returns:
        How many entries each command writes.
    """
    of_writers: dict[str, dict[bytes, Entry]] = defaultdict(dict)
    counts = []
    for key, entry in batch.items():
        if room and entry.writer != SHARED:
            of_writers[entry.writer][key] = entry
        else:
            pipeline.set(key, entry.value, ex=entry.ttl_s)
            counts.append(1)
    for writer, entries in of_writers.items():
        name = hashlib.sha256(f"writer\n{writer}".encode()).hexdigest()[:32].encode()
        keys = [WRITERS, WRITERS + b":" + name, *entries]
        values = [part for entry in entries.values() for part in (entry.ttl_s, entry.value)]
        pipeline.eval(WRITE, len(keys), *keys, name, room, *values)
        counts.append(len(entries))
    return counts
