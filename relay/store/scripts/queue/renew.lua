-- claimed -> claimed: a sign of life for what a worker holds.
-- KEYS[1] {tag}:ledger
-- ARGV[1] lease, ms, then pairs: delivery id, token
-- Returns how many are still ours.
pass_when_full()
local now, ours = clock(), 0
for i = 2, #ARGV, 2 do
  if call('HGET', tokens_key(), ARGV[i]) == ARGV[i + 1] then
    call('ZADD', claims_key(), 'XX', now + tonumber(ARGV[1]), ARGV[i])
    ours = ours + 1
  end
end
return ours
