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

-- What comes back again and again without an attempt ends its workers: each time it waits longer.
local function find_wait(d, did)
  if did == 'hold' then return tonumber(ARGV[3]) end
  if d.falls < 2 then return 0 end
  return math.min(60000 * 2 ^ (d.falls - 2), 3600000)
end

local function put_back(d, wait)
  if wait == 0 then
    call('HDEL', records_key(), d.id)
    put(d.queue, make_slip(d), d.pool, now)
  else
    keep(d)
    wait_until(d.queue, d.id, now + wait)
  end
end

for _, id in ipairs(call('ZRANGEBYSCORE', claims_key(), '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local open = call('HGET', attempts_key(), id)
  local d = end_claim(id, call('HGET', tokens_key(), id))
  local did, unknown = 'ready', 0
  if open then
    did, unknown = ARGV[2], d.recipients
    d.attempts = d.attempts + 1
    call('HSET', last_key(), id, open)
  else
    d.falls = d.falls + 1
  end
  local wait = find_wait(d, did)
  local event = cjson.encode({ event = open and 'unknown' or 'reclaimed', time = now / 1000,
    id = d.message, delivery = id, next = did, wait = wait / 1000,
    text = open and 'the worker went away between the final dot and its answer'
      or 'the worker went away before the final dot' })
  if did == 'assume-delivered' then
    finish(d, d.recipients, 0, unknown, event, ARGV[4])
  else
    count(d, 0, 0, unknown)
    put_back(d, wait)
    append_story(d.message, event, has(d, 'a') and '' or ARGV[4])
  end
  events[#events + 1] = event
end
return events
