-- suspended queues whose suspension has ended -> their lanes.
-- KEYS[1] {tag}:ledger
-- ARGV[1] lane of suspended queues
-- Returns how many are suspended still.
pass_when_full()
local now, left = clock(), 0
for _, queue in ipairs(call('ZRANGE', round_key(ARGV[1]), 0, -1)) do
  if is_closed(queue, now) then
    left = left + 1
  else
    withdraw(queue, ARGV[1])
    local entry = call('XRANGE', ready_key(queue), '-', '+', 'COUNT', 1)[1]
    if entry then offer(queue, read_slip(entry[2][2]).pool, now) end
  end
end
return left
