-- How many deliveries may each of our sources take for a site now? Smallest gate first: the source at
-- this site (rest, standing, connections, rate), the site (connections, rate), and whose turn it is.
--
-- The turns are a stride schedule: each delivery moves a source's virtual time by 1 / weight, and the
-- next goes to the source whose time would then be the least. Of `backlog` deliveries that are in
-- sight the script deals out all, but hands over only what falls on our sources: the rest is for
-- others, who come and ask. So a fast worker may run ahead, but only as far as the backlog leaves
-- the others their shares. A source that did not take a turn for a second is passed over until it
-- asks again, and has no claim on what it missed. A source's weight is the less, the more there is
-- against it (favour, _standing.lua).
--
-- KEYS[1] a key of the site's tag
-- ARGV[1] pool  [2] site  [3] backlog  [4] connections of the site (0: no limit)
-- ARGV[5] rates of the site  [6] of each source  [7] how many sources are ours  [8] how many they
--         may have together  [9] who asks
--         then for each of ours: name, how many it could take, connections it has, and may have
--         then for all sources of the pool that are alive: name, weight, warm-up schedule or ""
-- Returns {ms until it is worth to ask again or -1, why, {tenants that the site has put off, each
--         with the ms until when}, and for each of ours: how many it may take, how often in a row it
--         met no host of the site (then it gets one, to probe with)}.
pass_when_full()
local now = clock()
local pool, site, backlog = ARGV[1], ARGV[2], tonumber(ARGV[3])
local most_site, site_rates, source_rates = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local PATIENCE = 1000 -- for a turn that nobody takes, ms
local MOMENT = 50 -- ms
local DEBT = 1000 -- deliveries: what a slow source has missed beyond its share of these is gone
local turns_here = turns_key(pool, site)

local wait, why = NEVER, ''
local function note(ms, reason)
  if ms < wait then wait, why = ms, reason end
end

local meter = open_meter('site:' .. site, site_rates, now)
local is_full = most_site > 0 and count_leases(slots_key(site), now) >= most_site

local standings = {}
local function open_gate(name, schedule)
  local standing = read_standing(site, name)
  standings[name] = standing
  return open_standing(standing, schedule, now)
end

-- One of our sources, and what its own gates leave it.
local function open_ours(name, room, connections, most, schedule)
  local source = { name = name, room = room, granted = 0, closed = false }
  local failures, ends = read_rest(site, name)
  source.failures = failures
  source.meter = open_meter('source:' .. name .. ':' .. site, source_rates, now)
  local function close(ms, reason)
    source.closed = true
    note(ms, reason)
  end
  local may, later, because = open_gate(name, schedule)
  most = math.min(most, standings[name].c or NEVER)
  if ends > now then
    close(ends - now, 'rest')
  elseif may < 1 then
    close(later, because)
  elseif source.meter.room < 1 then
    close(source.meter.wait, 'source rate')
  elseif connections == 0 and room > 0
    and (is_full or count_leases(berths_key(name, site), now) >= most) then
    close(PATIENCE, 'connections')
  end
  source.room = math.min(room, may, source.meter.room, failures > 0 and 1 or NEVER)
  return source
end

local function is_closed_elsewhere(name, schedule)
  local _, ends = read_rest(site, name)
  local may = open_gate(name, schedule)
  if ends > now or may < 1 then return true end
  return source_rates ~= '' and open_meter('source:' .. name .. ':' .. site, source_rates, now).room < 1
end

-- A site's rotation begins at a place of its own, with the odds of the weights: otherwise the first
-- message to each of ten thousand small sites would go from the same source.
local function begin(name, weight)
  local chance = (tonumber(string.sub(redis.sha1hex(site .. ' ' .. name), 1, 8), 16) + 1) / 4294967297
  return (math.min(-math.log(chance), 2.5) - 1) / weight
end

local schedules, first_of_all = {}, 10 + 4 * tonumber(ARGV[7])
for i = first_of_all, #ARGV, 3 do schedules[ARGV[i]] = parse_schedule(ARGV[i + 2]) end

local ours, by_name = {}, {}
for i = 10, first_of_all - 4, 4 do
  local name = ARGV[i]
  local source = open_ours(
    name, tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), schedules[name]
  )
  ours[#ours + 1], by_name[source.name] = source, source
end

local stored = {}
local raw = call('HGETALL', turns_here)
for i = 1, #raw, 2 do stored[raw[i]] = raw[i + 1] end

-- What others have reserved and not claimed yet is in sight, and theirs.
local promised = 0
for name, value in pairs(stored) do
  local count, at = string.match(value, '^(%d+) (%d+)$')
  if count and name ~= '#' .. ARGV[9] and now - at < PATIENCE then promised = promised + count end
end
backlog = math.max(0, backlog - promised)

local everybody, total, first, latest = {}, 0, nil, nil
for i = first_of_all, #ARGV, 3 do
  local name = ARGV[i]
  local one = { name = name, time = tonumber(stored[name]), ours = by_name[name] }
  local owed = tonumber(stored['@' .. name])
  one.owed, one.late = owed, owed and now - owed > PATIENCE
  if one.late and one.ours and one.ours.room > 0 and not one.ours.closed then
    one.late, one.is_back = false, true
  end
  if one.ours then
    one.closed, one.ours.turn = one.ours.closed, one
  else
    one.closed = is_closed_elsewhere(name, schedules[name])
  end
  one.weight = tonumber(ARGV[i + 1]) * favour(standings[name])
  if one.time then
    latest = math.max(latest or one.time, one.time)
    -- Not while it is probed: moved on with the others at each look, it would never come to its turn.
    local quarantine = standings[name].q
    one.is_shut = quarantine and quarantine.u > now
    if not (one.late or one.is_back or one.is_shut) then first = math.min(first or one.time, one.time) end
  end
  total = total + one.weight
  everybody[#everybody + 1] = one
end
-- A place in the rotation is kept at once, not with the first turn: reckoned anew at each look it
-- would move on with the others, or all would see it elsewhere and wait for each other.
local function place(one, time)
  one.time = time
  call('HSET', turns_here, one.name, string.format('%.6f', time))
  call('PEXPIRE', turns_here, MEMORY)
end
for _, one in ipairs(everybody) do
  if not one.time then
    place(one, (first or latest or 0) + begin(one.name, one.weight))
  elseif one.is_back or (one.is_shut and first and one.time < first) then
    place(one, math.max(one.time, first or latest))
  end
  if latest then one.time = math.max(one.time, latest - DEBT / total) end
end

-- Who is shut out (in quarantine, suspended, away) has no claim on what it misses, or it would have all
-- the mail when it is back: just then it should have little.
local is_here = {}
for _, one in ipairs(everybody) do is_here[one.name] = true end
for name, value in pairs(stored) do
  local time = string.match(name, '^[#@!]') == nil and tonumber(value)
  if time and first and time < first and not is_here[name] then
    call('HSET', turns_here, name, string.format('%.6f', first))
  end
end

-- How far the turns are dealt out: what a second brings is in sight, or whoever is a moment late
-- would leave the site's rate unused.
local sight = meter.room
for _, rate in ipairs(meter.rates) do
  if rate.seconds < 3600 then
    sight = sight + math.ceil(rate.count / rate.seconds)
    break
  end
end
local left, most = math.min(backlog, sight), math.min(tonumber(ARGV[8]), meter.room)

local dealing = {} -- those who have turns
for _, one in ipairs(everybody) do
  if not one.closed and not one.late then dealing[#dealing + 1] = one end
end

-- All turns up to a level of virtual time are dealt out together: is that too many?
local function count_turns(one, level)
  return math.max(0, math.floor((level - one.time) * one.weight + 1e-6))
end
local function is_too_much(level)
  local all, mine = 0, 0
  for _, one in ipairs(dealing) do
    local turns = count_turns(one, level)
    all = all + turns
    if one.ours then mine = mine + math.min(turns, one.ours.room) end
  end
  return all > left or mine > most
end

-- The highest level that is not: by halves, then turn by turn.
local dealt, is_wanting, passed = 0, false, {}
if #dealing > 0 and left > 0 and most > 0 then
  local earliest = dealing[1]
  for _, one in ipairs(dealing) do
    if one.time < earliest.time then earliest = one end
  end
  local low, high = earliest.time, earliest.time + (left + 1) / earliest.weight
  for _ = 1, 40 do
    local middle = (low + high) / 2
    if is_too_much(middle) then high = middle else low = middle end
  end
  for _, one in ipairs(dealing) do
    one.turns = count_turns(one, low)
    left = left - one.turns
    if one.ours then dealt = dealt + math.min(one.turns, one.ours.room) end
  end
  while left > 0 do
    local best, least
    for _, one in ipairs(dealing) do
      local time = one.time + (one.turns + 1) / one.weight
      if not best or time < least then best, least = one, time end
    end
    if best.ours and best.turns < best.ours.room then
      if dealt >= most then break end
      dealt = dealt + 1
    end
    best.turns = best.turns + 1
    left = left - 1
  end
  for _, one in ipairs(dealing) do
    local granted = one.ours and math.min(one.turns, one.ours.room) or 0
    if one.ours then
      one.ours.granted = granted
      if dealt < most and one.ours.room > granted then is_wanting = true end
    end
    if one.turns > granted then
      passed[#passed + 1], passed[one.name] = one, true
    end
  end
end

-- Who has a turn between those and us is waited for as well, each a moment longer than the one before:
-- one after the other, thirty that do not come would take thirty seconds.
local function owe_until_ours()
  local mine, between = NEVER, {}
  for _, one in ipairs(dealing) do
    if one.ours and one.ours.room > 0 then mine = math.min(mine, one.time + 1 / one.weight) end
  end
  for _, one in ipairs(dealing) do
    if not one.owed and one.time + 1 / one.weight < mine then between[#between + 1] = one end
  end
  table.sort(between, function(a, b) return a.time + 1 / a.weight < b.time + 1 / b.weight end)
  for i, one in ipairs(between) do call('HSET', turns_here, '@' .. one.name, now + i * MOMENT) end
end

for _, source in ipairs(ours) do
  local one = source.turn
  if one and one.owed and source.room > 0 and not source.closed then
    one.owed = nil -- it has come
    call('HDEL', turns_here, '@' .. one.name)
  end
end
if meter.room < 1 then
  note(meter.wait, 'site rate')
elseif is_wanting then
  -- Others are to come. The first of them that has not come for a second is passed over.
  for _, one in ipairs(passed) do
    if not one.owed then
      one.owed = now
      call('HSET', turns_here, '@' .. one.name, now)
    end
    note(math.max(1, one.owed + PATIENCE + 1 - now), 'turn')
  end
  if dealt == 0 then
    owe_until_ours()
    call('HSET', turns_here, '!', '1')
    call('PEXPIRE', turns_here, MEMORY)
  end
end
if dealt == 0 and promised > 0 then
  -- They may not find all of it: `refund` tells.
  note(PATIENCE, 'turn')
  call('HSET', turns_here, '!', '1')
  call('PEXPIRE', turns_here, MEMORY)
end
for _, one in ipairs(everybody) do
  local source = one.ours
  if source and source.granted > 0 then
    call('HSET', turns_here, one.name, string.format('%.6f', one.time + source.granted / one.weight))
    if source_rates ~= '' then charge(source.meter, source.granted, now) end
    local standing = standings[one.name]
    if take_standing(standing, source.granted, now) then write_standing(site, one.name, standing) end
  end
end
-- Who is shut out is moved on with the others also by what was dealt out just now.
local behind = nil
for _, one in ipairs(everybody) do
  if not one.closed and not one.late then
    local time = one.time + (one.ours and one.ours.granted or 0) / one.weight
    behind = math.min(behind or time, time)
  end
end
for _, one in ipairs(everybody) do
  if one.is_shut and behind and one.time < behind then place(one, behind) end
end
if dealt > 0 or #passed > 0 then call('PEXPIRE', turns_here, MEMORY) end
if dealt > 0 then
  if ARGV[9] ~= '' then call('HSET', turns_here, '#' .. ARGV[9], dealt .. ' ' .. now) end
  if site_rates ~= '' then charge(meter, dealt, now) end
  -- Somebody went to sleep because it was our turn.
  if call('HDEL', turns_here, '!') == 1 then wake(site) end
end

-- Nobody may, and no other source will come to the rescue: that is news.
local quarantined = 0
for _, one in ipairs(everybody) do
  if standings[one.name].q then quarantined = quarantined + 1 end
end
if why == 'quarantine' and quarantined == #everybody then why = 'all quarantined' end

-- Who may not send here, from whichever source.
local put_off = {}
local tenants = call('HGETALL', tenants_key(site))
for i = 1, #tenants, 2 do
  local till = tonumber(string.match(tenants[i + 1], '^%d+ (%d+)'))
  if till > now then
    put_off[#put_off + 1] = tenants[i]
    put_off[#put_off + 1] = till - now
  end
end

local answer = { wait == NEVER and -1 or math.ceil(wait), why, put_off }
for _, source in ipairs(ours) do
  answer[#answer + 1] = source.granted
  answer[#answer + 1] = source.failures
end
return answer
