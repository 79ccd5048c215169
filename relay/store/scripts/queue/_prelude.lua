-- What all transitions of deliveries share. Before this file come `call`, `clock`, TAG, WAKE and the key
-- functions (keys.py, scripts.py).

-- A full server refuses a script's first write if it could cost memory ("denyoom"), and lets the
-- rest pass. What makes room again must not be refused: it begins with a write that costs none.
local function pass_when_full()
  call('PERSIST', claims_key())
end

local SHUT = '!' -- the site of queues that are suspended (keys.py)

-- A queue's site is looked up anew after this long without a look, ms.
local SITE_MEMORY = 86400000

-- A slip: "id recipients size parts flags pool attempts falls\nrecord".
-- flags: a the message's only delivery, h its body is in this shard, n a notice of ours, - nothing.
-- falls: how often its worker went away with no attempt open.
local function read_slip(slip)
  local cut = string.find(slip, '\n', 1, true)
  local id, recipients, size, parts, flags, pool, attempts, falls =
    string.match(string.sub(slip, 1, cut - 1), '^(%S+) (%d+) (%d+) (%d+) (%S+) (%S+) (%d+) (%d+)$')
  return { id = id, recipients = tonumber(recipients), size = tonumber(size), parts = tonumber(parts),
    flags = flags, pool = pool, attempts = tonumber(attempts), falls = tonumber(falls),
    message = string.match(id, '^[^.]+'), record = string.sub(slip, cut + 1) }
end

local function make_slip(d)
  return string.format('%s %d %d %d %s %s %d %d\n', d.id, d.recipients, d.size, d.parts, d.flags,
    d.pool, d.attempts, d.falls) .. d.record
end

local function has(d, flag) return string.find(d.flags, flag, 1, true) ~= nil end

-- A value of `records`: "queue\nslip".
local function read_kept(kept)
  local cut = string.find(kept, '\n', 1, true)
  local d = read_slip(string.sub(kept, cut + 1))
  d.queue = string.sub(kept, 1, cut - 1)
  return d
end

local function keep(d)
  call('HSET', records_key(), d.id, d.queue .. '\n' .. make_slip(d))
end

-- The lane of a queue: pool[@source]/priority/tenant/site.
local function lane_of(queue, pool, site)
  local tenant, rest = string.match(queue, '^([^/]*)/(.*)$')
  local pin = string.match(rest, '@.*$') or ''
  local priority = string.match(rest, '^[^/@]*/(%a+)') or 'normal'
  return pool .. pin .. '/' .. priority .. '/' .. tenant .. '/' .. site
end

-- Let workers see a queue in a lane. They are told when the lane had nothing before.
local function join(queue, lane, now)
  if call('ZADD', round_key(lane), 'NX', now, queue) == 1
    and call('ZADD', lanes_key(), 'NX', now, lane) == 1 then
    call('PUBLISH', WAKE, 'lane ' .. TAG .. ' ' .. lane)
  end
end

-- A queue has something ready.
local function offer(queue, pool, now)
  join(queue, lane_of(queue, pool, call('GET', site_key(queue)) or ''), now)
end

-- Has an operator suspended this queue, or its domain?
local function is_closed(queue, now)
  if call('EXISTS', closed_key()) == 0 then return false end
  local tenant, domain = string.match(queue, '^([^/]*)/([^/@]*)')
  local ends = call('HMGET', closed_key(), tenant .. '/' .. domain, '*/' .. domain)
  return tonumber(ends[1] or 0) > now or tonumber(ends[2] or 0) > now
end

-- A queue has nothing ready any more, or another lane has it.
local function withdraw(queue, lane)
  call('ZREM', round_key(lane), queue)
  if call('EXISTS', round_key(lane)) == 0 then call('ZREM', lanes_key(), lane) end
end

-- How many deliveries of a lane are ready: exactly for up to three queues, about for more.
local function count_ready(lane)
  local left = 0
  local queues = call('ZRANGE', round_key(lane), 0, 3)
  if #queues == 4 then left = call('ZCARD', round_key(lane)) - 4 end
  for _, queue in ipairs(queues) do
    local ready = call('XLEN', ready_key(queue))
    -- Emptied past us (`seize`). Left in a lane that is forgotten, nobody would hear of its next one.
    if ready == 0 then call('ZREM', round_key(lane), queue) end
    left = left + ready
  end
  if left == 0 then call('ZREM', lanes_key(), lane) end
  return left
end

local function put(queue, slip, pool, now)
  call('XADD', ready_key(queue), '*', 'd', slip)
  offer(queue, pool, now)
end

local function wait_until(queue, id, time)
  call('ZADD', due_key(queue), time, id)
  call('ZADD', agenda_key(), 'LT', time, queue)
end

-- A new delivery: ready, or due in `wait` ms when a rule has it held for an operator.
local function begin(queue, slip, pool, now, wait)
  if wait <= 0 then return put(queue, slip, pool, now) end
  local d = read_slip(slip)
  d.queue = queue
  keep(d)
  wait_until(queue, d.id, now + wait)
end

-- A story is a line for each event. While its message is queued it has no end; `lifetime` '' keeps it
-- so.
local function append_story(message, event, lifetime)
  call('APPEND', story_key(message), event .. '\n')
  if lifetime ~= '' then call('PEXPIRE', story_key(message), lifetime) end
end

-- A claim begins: from now on the delivery is in `records`. Returns what `claim` tells of it.
local function hold(queue, d, slip, token, ends)
  call('HSET', records_key(), d.id, queue .. '\n' .. slip)
  call('HSET', tokens_key(), d.id, token)
  call('ZADD', claims_key(), ends, d.id)
  return { 0, queue, slip, d.attempts > 0 and call('HGET', last_key(), d.id) or '', '' }
end

-- Forget a claim if `token` still owns it; returns the delivery, or nil: not ours. It is in
-- `records` still, and the caller puts it somewhere.
local function end_claim(id, token)
  if call('HGET', tokens_key(), id) ~= token then return nil end
  pass_when_full()
  call('ZREM', claims_key(), id)
  call('HDEL', tokens_key(), id)
  call('HDEL', attempts_key(), id)
  return read_kept(call('HGET', records_key(), id))
end

-- What `settle` and `bounce` answer without a claim: 0 others may still need the delivery and its
-- body, -1 it has ended (most often because this is a repetition). Only told of a message's several
-- deliveries, whose body is then to be released.
local function tell_absent(id)
  return -call('EXISTS', ended_key(id))
end

-- `unknown`: of those that were tried, how many nobody knows about. It changes no balance.
local function count(d, delivered, bounced, unknown)
  local key = TAG .. (has(d, 'n') and ':notices' or ':ledger')
  if unknown > 0 then call('HINCRBY', key, 'unknown', unknown) end
  if delivered > 0 then call('HINCRBY', key, 'delivered', delivered) end
  if bounced > 0 then call('HINCRBY', key, 'bounced', bounced) end
  if delivered + bounced > 0 then call('HINCRBY', key, 'queued', -(delivered + bounced)) end
end

-- For how long a repeated `settle` or `bounce` is known as one, ms.
local ENDED_MEMORY = 3600000

-- claimed -> gone: all recipients have their final outcome.
local function finish(d, delivered, bounced, unknown, event, lifetime)
  call('HDEL', records_key(), d.id)
  if d.attempts > 0 then call('HDEL', last_key(), d.id) end
  if not has(d, 'a') then
    call('SET', ended_key(d.id), '1', 'PX', ENDED_MEMORY)
  elseif has(d, 'h') then
    for part = 0, d.parts - 1 do call('UNLINK', body_key(d.message, part)) end
  end
  count(d, delivered, bounced, unknown)
  append_story(d.message, event, lifetime)
end

-- due -> ready, for what one queue holds until `latest`; bounded, the rest comes with the next look.
-- Returns how many.
local function promote(queue, latest, limit, now)
  -- It may be on the agenda because it was left alone for a while: then what is ready has waited
  -- for that, and nobody else would look.
  local entry = call('XRANGE', ready_key(queue), '-', '+', 'COUNT', 1)[1]
  if entry then offer(queue, read_slip(entry[2][2]).pool, now) end
  local ids = call('ZRANGEBYSCORE', due_key(queue), '-inf', latest, 'LIMIT', 0, limit)
  for _, id in ipairs(ids) do
    local d = read_kept(call('HGET', records_key(), id))
    call('ZREM', due_key(queue), id)
    call('HDEL', records_key(), id)
    put(queue, make_slip(d), d.pool, now)
  end
  local first = call('ZRANGE', due_key(queue), 0, 0, 'WITHSCORES')
  if first[2] then
    call('ZADD', agenda_key(), first[2], queue)
  else
    call('ZREM', agenda_key(), queue)
  end
  return #ids
end
