-- ready -> claimed: give a worker deliveries of one lane, from the queues that waited longest.
-- KEYS[1] {tag}:ledger
-- ARGV[1] lane  [2] token  [3] lease, ms  [4] octets of bodies at most  [5] size up to which a body
--         comes along, if it is in one part  [6] ... how many each source may have, in turn
-- Returns {deliveries that are ready still (about), {source, queue, slip, last event, body or ''} ...};
-- source counts from 0, as they were named. One token for all of a call.
local lane, token, lease, octets, inline =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local QUEUES = 16 -- looked at together; a look is bounded, and so is one queue's share of it

pass_when_full()
local now = clock()
local grants, most = {}, 0
for i = 6, #ARGV do
  grants[#grants + 1] = tonumber(ARGV[i])
  most = most + tonumber(ARGV[i])
end
local found, turn = {}, 0

local function next_source()
  repeat turn = turn % #grants + 1 until grants[turn] > 0
  grants[turn] = grants[turn] - 1
  return turn - 1
end

local function take(queue, entry)
  local slip = entry[2][2]
  local d = read_slip(slip)
  local told = hold(queue, d, slip, token, now + lease)
  told[1] = next_source()
  if d.size <= inline and d.parts == 1 and has(d, 'h') then
    told[5] = call('GET', body_key(d.message, 0)) or ''
    octets = octets - #told[5]
  end
  found[#found + 1] = told
end

-- Suspended by an operator: it leaves the lane, for the one of those.
local function set_aside(queue)
  local entry = call('XRANGE', ready_key(queue), '-', '+', 'COUNT', 1)[1]
  call('ZREM', round_key(lane), queue)
  if entry then join(queue, lane_of(queue, read_slip(entry[2][2]).pool, SHUT), now) end
end

local function serve(queue, share)
  local ids = {}
  for _, entry in ipairs(call('XRANGE', ready_key(queue), '-', '+', 'COUNT', share)) do
    if octets <= 0 then break end
    ids[#ids + 1] = entry[1]
    take(queue, entry)
  end
  if #ids > 0 then call('XDEL', ready_key(queue), unpack(ids)) end
  if call('XLEN', ready_key(queue)) > 0 then
    -- Behind the others; the fraction keeps the order of those served in one millisecond.
    call('ZADD', round_key(lane), now + #found / 1000, queue)
  else
    call('ZREM', round_key(lane), queue)
    call('DEL', ready_key(queue))
  end
end

for _ = 1, most + QUEUES do -- each round takes something or loses a queue
  local queues = call('ZRANGE', round_key(lane), 0, QUEUES - 1)
  if #queues == 0 or #found >= most or octets <= 0 then break end
  local share = math.ceil((most - #found) / #queues)
  for _, queue in ipairs(queues) do
    if #found >= most or octets <= 0 then break end
    if is_closed(queue, now) then
      set_aside(queue)
    else
      serve(queue, math.min(share, most - #found))
    end
  end
end

local left = count_ready(lane)
call('ZADD', lanes_key(), 'XX', now, lane)
table.insert(found, 1, left)
return found
