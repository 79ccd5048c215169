-- A sign of life for connections to a site.
-- KEYS[1] a key of the site's tag
-- ARGV[1] site  [2] lease, ms, then pairs: source, connection
-- Returns the connections whose lease is lost: they must be closed.
pass_when_full()
local now, lost = clock(), {}
for i = 3, #ARGV, 2 do
  local slots, berths = slots_key(ARGV[1]), berths_key(ARGV[i], ARGV[1])
  local ends = tonumber(call('ZSCORE', slots, ARGV[i + 1]))
  if ends and ends > now then
    for _, key in ipairs({ slots, berths }) do
      call('ZADD', key, 'XX', now + ARGV[2], ARGV[i + 1])
      call('PEXPIRE', key, ARGV[2] * 2)
    end
  else
    lost[#lost + 1] = ARGV[i + 1]
  end
end
return lost
