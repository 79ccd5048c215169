-- due -> ready: what is due in one queue may go. `claim` does the same for queues it looks at.
-- KEYS[1] {tag}:ledger
-- ARGV[1] queue  [2] pool  [3] ms ahead of now: 0 for what is due, more to hurry it
-- Returns how many moved; call again while it is 100.
pass_when_full()
local now = clock()
local moved = promote(ARGV[1], now + tonumber(ARGV[3]))
if moved > 0 then
  offer(ARGV[1], ARGV[2], now)
  wake()
end
return moved
