-- claimed -> ready: take back what a dead or cut-off worker held, when its claim has ended.
-- KEYS[1] {tag}:ledger
-- ARGV[1] how many at most  [2] what to do where the attempt was open, its outcome unknown:
--         retry, hold or assume-delivered  [3] how long to hold, ms  [4] lifetime of stories, ms
-- ARGV[5] lease, ms
-- Returns {event ...}: what was done, as it stands in the stories.
pass_when_full()
local now = clock()
local events = {}

-- Claims run out also while nobody can renew them, because the store itself was away. Workers look
-- here twice in a lease: if nobody did for a whole one, those that live get half a lease to say so
-- before anything is taken from them. Three times in a row at most: whoever always comes that late
-- is slow, and what the dead have left must not wait for ever.
local lease = tonumber(ARGV[5])
local watch = call('HMGET', watch_key(), 'seen', 'since', 'spared')
local seen, since, spared = tonumber(watch[1] or 0), tonumber(watch[2] or 0), tonumber(watch[3] or 0)
local silence = now - seen > lease
if silence and spared < 3 then
  since, spared = now, spared + 1
end
local spare = now - since < lease / 2
if not spare then spared = 0 end
call('HSET', watch_key(), 'seen', now, 'since', since, 'spared', spared)
if spare then return events end

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
    local open, did, unknown = held[2], 'ready', 0
    if open then
      did, unknown = ARGV[2], d.recipients
      call('HINCRBY', delivery_key(id), 'n', 1)
    end
    local event = cjson.encode({ event = open and 'unknown' or 'reclaimed', time = now / 1000,
      id = d.message, delivery = id, next = did,
      text = open and 'the worker went away between the final dot and its answer'
        or 'the worker went away before the final dot' })
    if did == 'assume-delivered' then
      finish(id, d, d.recipients, 0, unknown, event, ARGV[4])
    else
      count(d, 0, 0, unknown)
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
