-- claimed -> claimed, attempt open: record it before the final dot goes out.
-- KEYS[1] {tag}:ledger
-- ARGV[1] delivery id  [2] token  [3] event that names source and host
-- Returns 1 done, 0 not ours any more: nothing may be sent.
if call('HGET', tokens_key(), ARGV[1]) ~= ARGV[2] then return 0 end
pass_when_full()
call('HSET', attempts_key(), ARGV[1], ARGV[3])
return 1
