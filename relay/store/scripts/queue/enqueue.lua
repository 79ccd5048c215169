-- outbox of the home shard -> ready here: a delivery reaches the shard of its domain.
-- KEYS[1] {tag}:ledger (the delivery's shard)
-- ARGV[1] id  [2] queue  [3] pool  [4] slip  [5] lifetime of the mark, ms
-- Returns 1 done, 0 it was here before (a repeated call, also after it was delivered).
pass_when_full() -- it was accepted, and only delivering it makes room
if not call('SET', arrived_key(ARGV[1]), '1', 'NX', 'PX', ARGV[5]) then return 0 end
put(ARGV[2], ARGV[4], ARGV[3], clock())
return 1
