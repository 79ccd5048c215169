-- queues pinned to a source that does not come -> the queues of everybody.
-- KEYS[1] {tag}:ledger
-- ARGV[1] lane  [2] deliveries at most
-- Returns how many moved; call again while it is the most.
pass_when_full()
local now, left = clock(), tonumber(ARGV[2])
local moved = 0
for _, queue in ipairs(call('ZRANGE', round_key(ARGV[1]), 0, left - 1)) do
  local free = string.match(queue, '^[^@]*')
  local site = call('GET', site_key(queue))
  if site then call('SET', site_key(free), site, 'PX', SITE_MEMORY) end
  for _, entry in ipairs(call('XRANGE', ready_key(queue), '-', '+', 'COUNT', left - moved)) do
    local slip = entry[2][2]
    call('XDEL', ready_key(queue), entry[1])
    put(free, slip, read_slip(slip).pool, now)
    moved = moved + 1
  end
  if call('XLEN', ready_key(queue)) == 0 then
    call('DEL', ready_key(queue))
    withdraw(queue, ARGV[1])
  end
  if moved >= left then break end
end
return moved
