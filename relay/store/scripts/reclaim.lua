-- claimed -> ready: take back what a dead or cut-off worker held, when its claim has ended.
-- KEYS[1] {tag}:ledger
-- ARGV[1] how many at most  [2] what to do where the attempt was open, its outcome unknown:
--         retry, hold or assume-delivered  [3] how long to hold, ms  [4] lifetime of stories, ms
-- Returns {event ...}: what was done, as it stands in the stories.
pass_when_full()
local now = clock()
local events = {}

local function put_back(id, d, wait)
  call('HDEL', delivery_key(id), 't', 'o')
  if wait == 0 then
    call('XADD', ready_key(d.queue), '*', 'd', id)
  else
    call('ZADD', due_key(d.queue), now + wait, id)
  end
  offer(d.queue, d.pool, now + wait)
end

for _, id in ipairs(call('ZRANGEBYSCORE', claims_key(), '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local held = call('HMGET', delivery_key(id), 't', 'o')
  local d = held[1] and end_claim(id, held[1])
  if d then
    local open, did = held[2], 'ready'
    if open then
      did = ARGV[2]
      call('HINCRBY', delivery_key(id), 'n', 1)
      call('HINCRBY', TAG .. ':' .. d.ledger, 'unknown', d.recipients)
    end
    local event = cjson.encode({ event = open and 'unknown' or 'reclaimed', time = now / 1000,
      id = d.message, delivery = id, next = did,
      text = open and 'the worker went away between the final dot and its answer'
        or 'the worker went away before the final dot' })
    if did == 'assume-delivered' then
      finish(id, d, d.recipients, 0, event, ARGV[4])
    else
      put_back(id, d, did == 'hold' and tonumber(ARGV[3]) or 0)
      append_story(d.message, event, ARGV[4])
    end
    give_back(d.queue, d.pool, now, false, false)
    events[#events + 1] = event
  else
    call('ZREM', claims_key(), id) -- its delivery is gone
  end
end
if #events > 0 then wake() end
return events
