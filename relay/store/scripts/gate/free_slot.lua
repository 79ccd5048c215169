-- A connection is closed: another may be opened.
-- KEYS[1] a key of the site's tag
-- ARGV[1] site  [2] source  [3] connection  [4] most at the site (0: no limit)
pass_when_full()
local slots, berths = slots_key(ARGV[1]), berths_key(ARGV[2], ARGV[1])
local most = tonumber(ARGV[4])
local was_full = most > 0 and call('ZCARD', slots) >= most
call('ZREM', slots, ARGV[3])
call('ZREM', berths, ARGV[3])
if was_full then wake(ARGV[1]) end
return 1
