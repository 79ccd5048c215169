-- What was reserved is claimed, and what was not used goes back.
-- KEYS[1] a key of the site's tag
-- ARGV[1] pool  [2] site  [3] rates of the site  [4] of each source  [5] who had asked
--         then for each source: name, weight, how many were not used
pass_when_full()
local now, unused = clock(), 0
local turns_here = turns_key(ARGV[1], ARGV[2])
call('HDEL', turns_here, '#' .. ARGV[5])
for i = 6, #ARGV, 3 do
  local name, weight, count = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local time = tonumber(call('HGET', turns_here, name))
  local standing = read_standing(ARGV[2], name)
  if time then
    weight = weight * favour(standing)
    call('HSET', turns_here, name, string.format('%.6f', time - count / weight))
  end
  if take_standing(standing, -count, now) then write_standing(ARGV[2], name, standing) end
  if ARGV[4] ~= '' then
    charge(open_meter('source:' .. name .. ':' .. ARGV[2], ARGV[4], now), -count, now)
  end
  unused = unused + count
end
if ARGV[3] ~= '' and unused > 0 then charge(open_meter('site:' .. ARGV[2], ARGV[3], now), -unused, now) end
if call('HDEL', turns_here, '!') == 1 then wake(ARGV[2]) end
return unused
