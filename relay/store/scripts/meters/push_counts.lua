-- A process hands in what it has counted since the last time, and how it is.
-- KEYS[1] {tag}:counters
-- ARGV[1] most fields of the counters
-- ARGV[2] who: service:host:pid
-- ARGV[3] ms after which a process that has not been heard of is gone; 0: do not look now
-- ARGV[4] number of gauges; for each its name and value; for each count its field, the field it counts
--         for when there are too many, and the amount
pass_when_full()
local who, gauges = ARGV[2], tonumber(ARGV[4])
local now = clock()
call('HSET', gauges_key(), who .. '|at', now)
for i = 5, 3 + 2 * gauges, 2 do call('HSET', gauges_key(), who .. '|' .. ARGV[i], ARGV[i + 1]) end

local room = ARGV[1] - call('HLEN', counters_key())
for i = 5 + 2 * gauges, #ARGV, 3 do
  local field, amount = ARGV[i], ARGV[i + 2]
  -- What the others fold into is always let in: there are few of those.
  if room <= 0 and call('HEXISTS', counters_key(), field) == 0 then field = ARGV[i + 1] end
  if call('HINCRBY', counters_key(), field, amount) == tonumber(amount) then room = room - 1 end
end

local patience = tonumber(ARGV[3])
if patience > 0 then
  local all, gone = call('HGETALL', gauges_key()), {}
  for i = 1, #all, 2 do
    local process = string.match(all[i], '^(.*)|at$')
    if process and all[i + 1] + patience < now then gone[process] = true end
  end
  for i = 1, #all, 2 do
    local process = string.match(all[i], '^(.*)|[^|]*$')
    if not process or gone[process] then call('HDEL', gauges_key(), all[i]) end
  end
end
