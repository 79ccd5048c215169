-- How many of so many does a rate let through now? For tenants: their gate is not a site's.
-- KEYS[1] a key of the meter's tag
-- ARGV[1] name  [2] rates  [3] how many; a negative number gives back
-- Returns {how many, ms until there are more}.
pass_when_full()
local now, wanted = clock(), tonumber(ARGV[3])
local meter = open_meter(ARGV[1], ARGV[2], now)
local granted = math.min(wanted, meter.room)
if granted ~= 0 then charge(meter, granted, now) end
return { granted, meter.wait }
