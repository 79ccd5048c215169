-- What all gates share: time, leases of connections, meters of rates. Before this file come `call`, `clock`,
-- TAG, WAKE and the key functions (keys.py, scripts.py).

local NEVER = math.huge
local MEMORY = 3600000 -- an idle rotation is forgotten after this long, ms

-- As in scripts/queue: what lets mail out must not be refused by a full server.
local function pass_when_full()
  call('PERSIST', suspensions_key())
end

-- Tell workers that a site's gate may let more through.
local function wake(site)
  call('PUBLISH', WAKE, 'site ' .. site)
end

-- Rates come as "count seconds burst;...". Up to an hour (not included) they are a pace: a bucket of
-- `burst` that fills evenly. From an hour on they are a sum: so many in any such time, counted in
-- 24 slots, whose oldest is let go as a whole: never too many, at worst a slot's time too late.
local SLOTS = 24

local function parse_rates(text)
  local rates = {}
  for count, seconds, burst in string.gmatch(text, '(%d+) (%d+) (%d+)') do
    rates[#rates + 1] = { count = tonumber(count), seconds = tonumber(seconds), burst = tonumber(burst) }
  end
  return rates
end

local function open_bucket(rate, text, now)
  local left, at = string.match(text or '', '^(%S+) (%S+)$')
  if not left then return rate.burst end
  local gained = math.max(0, now - tonumber(at)) * rate.count / (rate.seconds * 1000)
  return math.min(rate.burst, tonumber(left) + gained)
end

local function open_slots(rate, text, now)
  local length = rate.seconds * 1000 / SLOTS
  local present = math.floor(now / length)
  local slots, used, oldest = {}, 0, nil
  for slot, count in string.gmatch(text or '', '(%d+):(%d+)') do
    slot, count = tonumber(slot), tonumber(count)
    if slot >= present - SLOTS and count > 0 then
      slots[slot] = count
      used = used + count
      if not oldest or slot < oldest then oldest = slot end
    end
  end
  return { length = length, present = present, slots = slots, used = used, oldest = oldest }
end

-- A meter: how many may go now (`room`), and if none, ms until some may (`wait`).
local function open_meter(name, text, now)
  local meter = { name = name, rates = parse_rates(text), room = NEVER, wait = 0, states = {} }
  for i, rate in ipairs(meter.rates) do
    local stored = call('HGET', meter_key(name), rate.seconds)
    local room, wait
    if rate.seconds < 3600 then
      local left = open_bucket(rate, stored, now)
      meter.states[i] = left
      room = math.floor(left + 1e-6)
      -- Not woken for each single one: for a twentieth of a second's worth.
      local enough = math.max(1, math.min(rate.burst, math.floor(rate.count / (20 * rate.seconds))))
      wait = (enough - left) * rate.seconds * 1000 / rate.count
    else
      local state = open_slots(rate, stored, now)
      meter.states[i] = state
      room = rate.count - state.used
      wait = state.oldest and (state.oldest + SLOTS + 1) * state.length - now or 0
    end
    if room < 1 then meter.wait = math.max(meter.wait, math.ceil(wait), 1) end
    meter.room = math.min(meter.room, math.max(0, room))
  end
  return meter
end

-- Take `count` off a meter; give it back when it is negative.
local function charge(meter, count, now)
  for i, rate in ipairs(meter.rates) do
    local value
    if rate.seconds < 3600 then
      value = string.format('%.4f %d', math.min(rate.burst, meter.states[i] - count), now)
    else
      local state, parts = meter.states[i], {}
      state.slots[state.present] = math.max(0, (state.slots[state.present] or 0) + count)
      for slot, used in pairs(state.slots) do parts[#parts + 1] = string.format('%d:%d', slot, used) end
      value = table.concat(parts, ',')
    end
    call('HSET', meter_key(meter.name), rate.seconds, value)
    call('PEXPIRE', meter_key(meter.name), rate.seconds * 2000 + MEMORY)
  end
end

-- Leases of connections that have not ended.
local function count_leases(key, now)
  call('ZREMRANGEBYSCORE', key, '-inf', now)
  return call('ZCARD', key)
end

-- A source that met no host of a site: "failures until text".
local function read_rest(site, source)
  local failures, ends = string.match(call('HGET', rests_key(site), source) or '', '^(%d+) (%d+)')
  return tonumber(failures or 0), tonumber(ends or 0)
end
