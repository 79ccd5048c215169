-- No host of a site could be reached from a source: it rests there, longer each time.
-- KEYS[1] a key of the site's tag
-- ARGV[1] site  [2] source  [3] first rest, ms  [4] longest, ms  [5] what happened, for people
-- Returns {failures in a row, ms to rest}; several sessions that fail together count once.
pass_when_full()
local now = clock()
local failures, ends = read_rest(ARGV[1], ARGV[2])
if ends > now then return { failures, ends - now } end
failures = failures + 1
local rest = math.min(tonumber(ARGV[3]) * 2 ^ math.min(failures - 1, 30), tonumber(ARGV[4]))
call('HSET', rests_key(ARGV[1]), ARGV[2], string.format('%d %d %s', failures, now + rest, ARGV[5]))
call('PEXPIRE', rests_key(ARGV[1]), MEMORY + math.ceil(rest))
return { failures, math.ceil(rest) }
