-- due -> ready: what one queue holds for later may go now.
-- KEYS[1] {tag}:ledger
-- ARGV[1] queue  [2] ms ahead of now
-- Returns how many moved; call again while it is 100.
pass_when_full()
local now = clock()
return promote(ARGV[1], now + tonumber(ARGV[2]), 100, now)
