-- due -> ready, for everything that is due in this shard.
-- KEYS[1] {tag}:ledger
-- ARGV[1] deliveries at most
-- Returns ms until there is more to do, -1 for never; 0 when the limit was reached.
pass_when_full()
local now, left = clock(), tonumber(ARGV[1])
for _, queue in ipairs(call('ZRANGEBYSCORE', agenda_key(), '-inf', now, 'LIMIT', 0, left)) do
  left = left - 1 - promote(queue, now, left, now)
  if left <= 0 then break end
end
local first = call('ZRANGE', agenda_key(), 0, 0, 'WITHSCORES')
return first[2] and math.max(0, math.ceil(tonumber(first[2]) - now)) or -1
