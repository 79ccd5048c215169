-- What all transitions share. Before this file come the key functions (keys.py, scripts.py):
-- delivery_key(id), ready_key(queue) ...; KEYS[1] is any key of the shard, TAG its hash tag.

local call = redis.call

-- Milliseconds on the server's clock: the only clock that limits and leases go by.
local function clock()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A full server refuses a script's first write if it could cost memory ("denyoom"), and lets the
-- rest pass. What makes room again must not be refused: it begins with a write that costs none.
local function pass_when_full()
  call('PERSIST', asleep_key())
end

-- A queue begins with this many deliveries in flight; each success adds one, each failure of a
-- whole host halves it. A site that is down holds few workers, a fast one soon gets many.
local FIRST_WINDOW, LEAST_WINDOW, MOST_WINDOW = 20, 5, 1000
-- An idle queue's window is forgotten after this long, ms.
local QUEUE_MEMORY = 600000

-- Tell sleeping workers that there is something in this shard; only if one sleeps.
local function wake()
  if call('DEL', asleep_key()) == 1 then
    call('PUBLISH', 'og:wake', TAG)
  end
end

-- Let a queue be looked at from `time` on, or earlier if it was so. The pool is noted, so that its
-- queues are found when it is taken out of the configuration (adopt.lua).
local function offer(queue, pool, time)
  call('SADD', pools_key(), pool)
  call('ZADD', agenda_key(pool), 'LT', time, queue)
end

local function append_story(message, event, lifetime)
  call('RPUSH', story_key(message), event)
  call('PEXPIRE', story_key(message), lifetime)
end

-- Put a new delivery at the end of its queue. `here`: '1' when the body is in this shard.
local function put(id, queue, pool, message, record, recipients, size, parts, here, alone, ledger, now)
  call('HSET', delivery_key(id), 'r', record, 'q', queue, 'p', pool, 'm', message, 'n', 0,
    'k', recipients, 'z', size, 'c', parts, 'b', here, 'a', alone, 'l', ledger)
  call('XADD', ready_key(queue), '*', 'd', id)
  offer(queue, pool, now)
  wake()
end

-- due -> ready, for what is due in one queue; bounded, the rest comes with the next look.
local function promote(queue, now)
  local ids = call('ZRANGEBYSCORE', due_key(queue), '-inf', now, 'LIMIT', 0, 100)
  for _, id in ipairs(ids) do
    call('ZREM', due_key(queue), id)
    call('XADD', ready_key(queue), '*', 'd', id)
  end
  return #ids
end

-- Forget a claim if `token` still owns it; returns the delivery's fields, or nil: not ours.
local function end_claim(id, token)
  local d = call('HMGET', delivery_key(id), 't', 'q', 'p', 'm', 'l', 'a', 'b', 'c', 'k')
  if not d[1] or d[1] ~= token then
    return nil
  end
  pass_when_full()
  call('ZREM', claims_key(), id)
  return { queue = d[2], pool = d[3], message = d[4], ledger = d[5], alone = d[6] == '1',
    here = d[7] == '1', parts = tonumber(d[8]), recipients = tonumber(d[9]) }
end

-- What `settle` and `bounce` answer without a claim: 0 others still need the delivery and its body,
-- -1 nobody does (most often because this is a repetition).
local function tell_absent(id)
  return call('EXISTS', delivery_key(id)) - 1
end

-- One delivery fewer in flight: adjust the window, and let the queue be looked at again.
local function give_back(queue, pool, now, success, failure)
  local key = queue_key(queue)
  local held = call('HINCRBY', key, 'held', -1)
  if success then
    local window = tonumber(call('HGET', key, 'window') or FIRST_WINDOW)
    if window < MOST_WINDOW then call('HSET', key, 'window', window + 1) end
  elseif failure then
    local window = tonumber(call('HGET', key, 'window') or FIRST_WINDOW)
    call('HSET', key, 'window', math.max(LEAST_WINDOW, math.floor(window / 2)))
  end
  if call('XLEN', ready_key(queue)) > 0 then
    offer(queue, pool, now)
    wake()
  elseif held <= 0 then
    call('PEXPIRE', key, QUEUE_MEMORY)
  end
end

-- `unknown`: of those that were tried, how many nobody knows about. It changes no balance.
local function count(d, delivered, bounced, unknown)
  local key = TAG .. ':' .. d.ledger
  if unknown > 0 then call('HINCRBY', key, 'unknown', unknown) end
  if delivered > 0 then call('HINCRBY', key, 'delivered', delivered) end
  if bounced > 0 then call('HINCRBY', key, 'bounced', bounced) end
  if delivered + bounced > 0 then call('HINCRBY', key, 'queued', -(delivered + bounced)) end
end

-- claimed -> gone: all recipients have their final outcome.
local function finish(id, d, delivered, bounced, unknown, event, lifetime)
  call('DEL', delivery_key(id))
  if d.alone and d.here then
    for part = 0, d.parts - 1 do call('UNLINK', body_key(d.message, part)) end
  end
  count(d, delivered, bounced, unknown)
  append_story(d.message, event, lifetime)
end
