-- One delivery of a message with several has ended: the last one frees the body.
-- KEYS[1] {tag}:ledger (home shard)
-- ARGV[1] message id  [2] delivery id  [3] parts
-- Returns 1 when the body was freed, 0 while others need it. May be repeated.
call('SREM', open_key(ARGV[1]), ARGV[2])
if call('EXISTS', open_key(ARGV[1])) == 1 then return 0 end
for part = 0, tonumber(ARGV[3]) - 1 do call('UNLINK', body_key(ARGV[1], part)) end
return 1
