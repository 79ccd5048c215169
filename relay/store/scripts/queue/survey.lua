-- Give a worker queues of a lane to look up; others leave them alone for a while.
-- KEYS[1] {tag}:ledger
-- ARGV[1] lane  [2] how many at most  [3] for how long, ms
-- Returns {ms until there is another one or -1, queue ...}.
pass_when_full()
local now, round = clock(), round_key(ARGV[1])
local queues = call('ZRANGEBYSCORE', round, '-inf', now, 'LIMIT', 0, ARGV[2])
for _, queue in ipairs(queues) do call('ZADD', round, now + tonumber(ARGV[3]), queue) end
local first = call('ZRANGE', round, 0, 0, 'WITHSCORES')
table.insert(queues, 1, first[2] and math.max(0, math.ceil(tonumber(first[2]) - now)) or -1)
return queues
