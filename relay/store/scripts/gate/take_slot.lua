-- May a source open another connection to a site? The lease ends by itself if its holder dies.
-- KEYS[1] a key of the site's tag
-- ARGV[1] site  [2] source  [3] connection  [4] lease, ms  [5] most at the site (0: no limit)
-- ARGV[6] most of the source
-- Returns 1 yes, 0 no.
pass_when_full()
local now = clock()
local slots, berths = slots_key(ARGV[1]), berths_key(ARGV[2], ARGV[1])
local site, source = count_leases(slots, now), count_leases(berths, now)
local most = math.min(tonumber(ARGV[6]), read_standing(ARGV[1], ARGV[2]).c or NEVER)
if source >= most then return 0 end
if tonumber(ARGV[5]) > 0 and site >= tonumber(ARGV[5]) then return 0 end
for _, key in ipairs({ slots, berths }) do
  call('ZADD', key, now + ARGV[4], ARGV[3])
  call('PEXPIRE', key, ARGV[4] * 2)
end
return 1
