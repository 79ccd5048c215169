-- One delivery of a message with several has ended: the last one frees the body.
-- KEYS[1] {tag}:ledger (home shard)
-- ARGV[1] message id  [2] delivery id
-- Returns 1 when the body was freed, 0 while others need it. May be repeated.
call('SREM', open_key(ARGV[1]), ARGV[2])
if call('EXISTS', open_key(ARGV[1])) == 1 then return 0 end
local part = 0
while call('UNLINK', body_key(ARGV[1], part)) == 1 do part = part + 1 end
return 1
