-- lane of a pool that is gone -> lane of another pool.
-- KEYS[1] {tag}:ledger
-- ARGV[1] lane  [2] pool that takes over  [3] queues at most
-- Returns how many queues moved.
pass_when_full()
local now = clock()
local queues = call('ZRANGE', round_key(ARGV[1]), 0, tonumber(ARGV[3]) - 1)
for _, queue in ipairs(queues) do
  withdraw(queue, ARGV[1])
  offer(queue, ARGV[2], now)
end
if #queues == 0 then call('ZREM', lanes_key(), ARGV[1]) end
return #queues
