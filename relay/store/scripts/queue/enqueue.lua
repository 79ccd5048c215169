-- outbox of the home shard -> ready (or due, when it is held) here: a delivery reaches the shard of its domain.
-- KEYS[1] {tag}:ledger (the delivery's shard)
-- ARGV[1] id  [2] queue  [3] pool  [4] slip  [5] lifetime of the mark, ms  [6] held for, ms; 0: not
-- Returns 1 done, 0 it was here before (a repeated call, also after it was delivered).
pass_when_full() -- it was accepted, and only delivering it makes room
if not call('SET', arrived_key(ARGV[1]), '1', 'NX', 'PX', ARGV[5]) then return 0 end
begin(ARGV[2], ARGV[4], ARGV[3], clock(), tonumber(ARGV[6]))
return 1
