-- ready -> claimed: give a worker deliveries of one pool, from the queues that waited longest.
-- KEYS[1] {tag}:ledger
-- ARGV[1] pool  [2] token  [3] lease, ms  [4] deliveries at most  [5] octets of bodies at most
-- ARGV[6] size up to which a body comes along, if it is in one part
-- Returns {ms until the next look is worth it or -1, {id, token, attempts, record, last event,
--          body or ''} ...}. Tokens are ARGV[2]: one for all deliveries of a call.
local pool, token, lease, most, octets, inline =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local QUEUES, QUANTUM = 64, 100 -- a call's look is bounded, and one queue's share of it

pass_when_full()
local now = clock()
local found = {}

local function take(queue)
  local key = queue_key(queue)
  local q = call('HMGET', key, 'held', 'window')
  local held, window = tonumber(q[1] or 0), tonumber(q[2] or FIRST_WINDOW)
  local room = math.min(most - #found, window - held, QUANTUM)
  local taken = 0
  if room > 0 then
    call('PERSIST', key)
    for _, entry in ipairs(call('XRANGE', ready_key(queue), '-', '+', 'COUNT', room)) do
      if octets <= 0 then break end
      local id = entry[2][2]
      call('XDEL', ready_key(queue), entry[1])
      local d = call('HMGET', delivery_key(id), 'r', 'n', 'e', 'z', 'b', 'm', 'c')
      if d[1] then -- otherwise it was removed by an operator
        call('HSET', delivery_key(id), 't', token, 'p', pool)
        call('ZADD', claims_key(), now + lease, id)
        local body = ''
        if d[5] == '1' and d[7] == '1' and tonumber(d[4]) <= inline then
          body = call('GET', body_key(d[6], 0)) or ''
          octets = octets - #body
        end
        found[#found + 1] = { id, token, tonumber(d[2]), d[1], d[3] or '', body }
        taken = taken + 1
      end
    end
    if taken > 0 then held = call('HINCRBY', key, 'held', taken) end
  end
  -- When may this queue be looked at again?
  if call('XLEN', ready_key(queue)) > 0 then
    if held < window then
      call('ZADD', agenda_key(pool), now, queue) -- behind the others
    else
      call('ZREM', agenda_key(pool), queue) -- whoever gives one back offers it again
    end
    return
  end
  local due = call('ZRANGE', due_key(queue), 0, 0, 'WITHSCORES')
  if due[2] then
    call('ZADD', agenda_key(pool), due[2], queue)
  else
    call('ZREM', agenda_key(pool), queue)
  end
end

for _, queue in ipairs(call('ZRANGEBYSCORE', agenda_key(pool), '-inf', now, 'LIMIT', 0, QUEUES)) do
  if #found >= most or octets <= 0 then break end
  promote(queue, now)
  take(queue)
end

local first = call('ZRANGE', agenda_key(pool), 0, 0, 'WITHSCORES')
local wait = -1
if first[2] then wait = math.max(0, tonumber(first[2]) - now) end
if #found == 0 and wait ~= 0 then
  call('SET', asleep_key(), '1')
end
table.insert(found, 1, wait)
return found
