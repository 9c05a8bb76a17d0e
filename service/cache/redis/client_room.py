"""What each client holds of a Redis: half of its room at most, and who holds most gives way.

A Redis that is full evicts what was used longest ago, whoever wrote it: one client could push out
what is there of the others. So what is written for a client is counted there, by a script that
writes and counts in one call, and makes room by dropping his own entries where he holds more than
half, then those of whoever holds most: what has expired, then what was written longest ago. Of n
clients, more than one, each keeps what he has up to his n-th, as in memory
(`service.sharing.owned_cache`).

`xclip:clients` has the bytes of each client, by a hash of his name, and of all, by none and below
zero; `xclip:clients:…` has the entries of one by the time at which they were written, and
`xclip:clients:…:ends` by that at which they expire. Where these are lost, counting begins anew.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import redis.exceptions as lost

from service.cache.redis.write_behind import Entry

CLIENTS = b"xclip:clients"
FOR_CLIENTS = 0.75  # of the memory of a Redis; the rest is for what nobody counts

# Sizes are estimates from above: room is given out in steps of up to a quarter, and keys are
# there three times. How many clients and entries are looked at in one call is bounded, so that
# reads do not wait behind it; what is too much then is dropped in the next ones.
WRITE = """
local clients, client, room = KEYS[1], ARGV[1], tonumber(ARGV[2])
local now, tick = unpack(redis.call('TIME'))
now, tick = tonumber(now), tonumber(tick)

local function entries_of(name)
  return clients .. ':' .. name
end

local function ends_of(name)
  return entries_of(name) .. ':ends'
end

local function bytes_of(name)
  return tonumber(redis.call('ZSCORE', clients, name) or 0)
end

local function count(name, bytes)
  redis.call('ZINCRBY', clients, bytes, name)
  redis.call('ZINCRBY', clients, -bytes, '')
end

local function forget_if_gone(name)  -- all of it has expired, or is lost
  if redis.call('EXISTS', entries_of(name), ends_of(name)) < 2 then
    count(name, -bytes_of(name))
    redis.call('ZREM', clients, name)
  end
end

local function drop(name, entries)
  for _, entry in ipairs(entries) do
    local size, key = string.match(entry, '^(%d+) (.*)$')
    if tonumber(redis.call('ZSCORE', ends_of(name), entry) or 0) > now then
      redis.call('UNLINK', key)  -- else it has gone, or is another's who has written it since
    end
    redis.call('ZREM', entries_of(name), entry)
    redis.call('ZREM', ends_of(name), entry)
    count(name, -size)
  end
  forget_if_gone(name)
end

local function drop_expired(name)
  drop(name, redis.call('ZRANGEBYSCORE', ends_of(name), '-inf', now, 'LIMIT', 0, 500))
end

local function drop_oldest(name)
  drop(name, redis.call('ZRANGE', entries_of(name), 0, 0))
end

local function too_much()
  return -bytes_of('') > room
end

forget_if_gone(client)
if not redis.call('ZSCORE', clients, client) then
  redis.call('DEL', entries_of(client), ends_of(client))  -- their count is lost
end
for i = 2, #KEYS do
  local seconds, value = tonumber(ARGV[2 * i - 1]), ARGV[2 * i]
  local size = math.floor(1.25 * #value) + 3 * #KEYS[i] + 450
  local entry = size .. ' ' .. KEYS[i]
  redis.call('SET', KEYS[i], value, 'EX', seconds)
  redis.call('ZADD', ends_of(client), now + seconds, entry)
  if redis.call('ZADD', entries_of(client), now + tick / 1e6, entry) == 1 then
    count(client, size)
  end
end
local last = redis.call('ZRANGE', ends_of(client), -1, -1, 'WITHSCORES')[2]
redis.call('EXPIREAT', entries_of(client), last)
redis.call('EXPIREAT', ends_of(client), last)

local drops = 2000
if bytes_of(client) > room / 2 then
  drop_expired(client)
end
while bytes_of(client) > room / 2 and drops > 0 do
  drop_oldest(client)
  drops = drops - 1
end
if too_much() then
  local names = redis.call('ZCARD', clients)
  local first = names > 32 and tick % names or 0
  for _, name in ipairs(redis.call('ZRANGE', clients, first, first + 31)) do
    if name ~= '' and too_much() then
      drop_expired(name)
    end
  end
end
while too_much() and drops > 0 do
  drop_oldest(redis.call('ZREVRANGE', clients, 0, 0)[1])
  drops = drops - 1
end
return #KEYS - 1
"""


async def room_of(redis: Any) -> int:
    """Return bytes that clients may fill together; 0 where a Redis names no bound, or tells none.

    Raises what asking raises where it cannot be asked.
    """
    try:
        return int(FOR_CLIENTS * int((await redis.info("memory"))["maxmemory"]))
    except (lost.ResponseError, AttributeError, KeyError, TypeError, ValueError):
        return 0


def queue_writes(pipeline: Any, batch: Mapping[bytes, Entry], room: int) -> list[int]:
    """Queue the commands that write a batch, one for each client who is counted.

    Args:
        pipeline: Of redis-py.
        batch: By key; what the server made for itself is not counted.
        room: Bytes for all clients; 0 counts nobody.

    Returns:
        How many entries each command writes.
    """
    of_clients: dict[str, dict[bytes, Entry]] = defaultdict(dict)
    counts = []
    for key, entry in batch.items():
        if room and entry.client:
            of_clients[entry.client][key] = entry
        else:
            pipeline.set(key, entry.value, ex=entry.ttl_s)
            counts.append(1)
    for client, entries in of_clients.items():
        name = hashlib.sha256(f"client\n{client}".encode()).hexdigest()[:32].encode()
        keys = [CLIENTS, *entries]
        values = [part for entry in entries.values() for part in (entry.ttl_s, entry.value)]
        pipeline.eval(WRITE, len(keys), *keys, name, room, *values)
        counts.append(len(entries))
    return counts
