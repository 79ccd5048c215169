-- What hosts said of tenants' recipients within a window, and what follows: a tenant is slowed or held.
--
-- A state begins when a share reaches its threshold, and ends when all shares are well below the lowest
-- one of theirs, or so few were tried lately that no share says anything: between the two it stays, or
-- a tenant at the edge would be slowed and released with each message. A tenant that is held sends
-- nothing, so that its shares only change as the window slides.
--
-- KEYS[1] a key of the tenants' tag
-- ARGV[1] window, ms  [2] recipients tried before a share says anything  [3] 1: decide; 0: only look
-- ARGV[4 to 6] shares of unknown, content, complaints that slow a tenant (0: never)  [7 to 9] that hold it
--         then for each tenant: name, and what is to be added: tried, unknown, content, complaints
-- Returns for each tenant {state, and why: kind (1 to 3), share, tried, threshold; ms since when;
--         1 if that changed just now; what was counted: tried, unknown, content, complaints}
pass_when_full()
local now = clock()
local window, at_least, decides = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local CALM = 0.8 -- of a threshold: below it is over
local length = window / SLOTS
local present = math.floor(now / length)
local slows, holds = {}, {}
for kind = 1, 3 do
  slows[kind], holds[kind] = tonumber(ARGV[3 + kind]), tonumber(ARGV[6 + kind])
end

-- Slots, as a cap's (_prelude.lua); those of another window would be of other times, and are not ours.
local function read_slots(key)
  local slots, sums = {}, { 0, 0, 0, 0 }
  local text = call('HGET', key, window) or ''
  for slot, a, b, c, d in string.gmatch(text, '(%d+):(%d+):(%d+):(%d+):(%d+)') do
    slot = tonumber(slot)
    if slot >= present - SLOTS then
      slots[slot] = { tonumber(a), tonumber(b), tonumber(c), tonumber(d) }
      for i = 1, 4 do sums[i] = sums[i] + slots[slot][i] end
    end
  end
  return slots, sums
end

local function write_slots(key, slots)
  local parts = {}
  for slot, counts in pairs(slots) do
    parts[#parts + 1] =
      string.format('%d:%d:%d:%d:%d', slot, counts[1], counts[2], counts[3], counts[4])
  end
  call('HSET', key, window, table.concat(parts, ','))
  call('PEXPIRE', key, math.ceil(window * 2) + MEMORY)
end

local function find_share(sums, kind)
  return sums[1] > 0 and sums[kind + 1] / sums[1] or 0
end

-- The kind that is furthest over its threshold; nil: none is.
local function find_worst(sums, limits)
  local worst, most = nil, 0
  if sums[1] < at_least then return nil end
  for kind = 1, 3 do
    local times = limits[kind] > 0 and find_share(sums, kind) / limits[kind] or 0
    if times >= 1 and times > most then worst, most = kind, times end
  end
  return worst
end

local function is_calm(sums)
  if sums[1] < CALM * at_least then return true end
  for kind = 1, 3 do
    local limit = slows[kind] > 0 and slows[kind] or holds[kind]
    if holds[kind] > 0 then limit = math.min(limit, holds[kind]) end
    if limit > 0 and find_share(sums, kind) >= CALM * limit then return false end
  end
  return true
end

-- What becomes of a tenant in a state: the next state, and its kind and threshold if there is a new reason.
local function judge(state, sums)
  local kind = find_worst(sums, holds)
  if kind then return 'hold', kind, holds[kind] end
  kind = find_worst(sums, slows)
  if kind and state == '' then return 'slow', kind, slows[kind] end
  if state ~= '' and is_calm(sums) then return '' end
  return state
end

-- Why it is over: the share that had been the reason, as it is now.
local function end_state(key, why, sums)
  call('HDEL', key, 'state')
  return { '', why[2], string.format('%.6f', find_share(sums, tonumber(why[2]))), sums[1], why[5], now, 1 }
end

local function weigh(tenant, more)
  local key = share_key(tenant)
  local slots, sums = read_slots(key)
  if more[1] + more[2] + more[3] + more[4] > 0 then
    slots[present] = slots[present] or { 0, 0, 0, 0 }
    for i = 1, 4 do
      slots[present][i] = slots[present][i] + more[i]
      sums[i] = sums[i] + more[i]
    end
    write_slots(key, slots)
  end
  local why = { '', 0, '0', 0, '0', 0 }
  local stored = call('HGET', key, 'state')
  if stored then why = { string.match(stored, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$') } end
  why[7] = 0
  local next_state, kind, limit = why[1], nil, nil
  if decides then next_state, kind, limit = judge(why[1], sums) end
  if next_state == '' and why[1] ~= '' then
    why = end_state(key, why, sums)
  elseif next_state ~= why[1] then
    local share = string.format('%.6f', find_share(sums, kind))
    why = { next_state, kind, share, sums[1], string.format('%.6f', limit), now }
    call('HSET', key, 'state', string.format('%s %d %s %d %s %d', unpack(why)))
    why[7] = 1
  end
  if why[7] == 1 then call('PUBLISH', WAKE, 'suspensions') end
  return { why[1], tonumber(why[2]), why[3], tonumber(why[4]), why[5], tonumber(why[6]), why[7], unpack(sums) }
end

local answer = {}
for i = 10, #ARGV, 5 do
  local more = {}
  for j = 1, 4 do more[j] = tonumber(ARGV[i + j]) end
  answer[#answer + 1] = weigh(ARGV[i], more)
end
return answer
