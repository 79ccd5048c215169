-- A worker is alive, and so are its sources and pools; who else is?
-- KEYS[1] a key of the first tag
-- ARGV[1] ms after which somebody counts as gone, then members of `present`
-- Returns the members that are alive.
pass_when_full()
local now = clock()
for i = 2, #ARGV do call('ZADD', present_key(), now, ARGV[i]) end
call('ZREMRANGEBYSCORE', present_key(), '-inf', now - 3600000)
return call('ZRANGEBYSCORE', present_key(), now - ARGV[1], '+inf')
