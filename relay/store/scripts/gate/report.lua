-- What became of deliveries to a site, source by source, and what follows for pace, connections and
-- quarantine. Also what concerns a tenant there, from whichever source.
-- KEYS[1] a key of the site's tag
-- ARGV[1] site
-- ARGV[2] JSON: half (ms), floor, quarantine (list of ms), probes, slowest (deliveries a second)
-- ARGV[3] JSON, a list: for each source: s its name, schedule, most (its configured rate, 0: none), and
--         counts: d delivered, t throttled, f told to open fewer connections, x blocked, n unknown
--         recipients, m content refused, c complaints; rest (ms that was asked for), why
-- ARGV[4] JSON, a list: for each tenant: t its name, rest (ms, 0: what is usual), why
-- Returns a line of JSON for each thing that has changed: s or tenant, kind, and figures.
pass_when_full()
local now, site = clock(), ARGV[1]
local control = cjson.decode(ARGV[2])
local changes = {}
local SECOND, MINUTE = 1000, 60000
local LONGEST = 15 * MINUTE -- rest after throttles in a row, unless the receiver names more
local LIMIT = DAY -- and no receiver can silence a source for longer
-- What one answer weighs as evidence against. The reasons are in DESIGN.md.
local WEIGHTS = { t = 2, f = 0.5, x = 25, n = 4, m = 2, c = 200 }

local function tell(source, kind, figures)
  figures.s, figures.kind = source, kind
  changes[#changes + 1] = cjson.encode(figures)
end

-- Workers that hold deliveries for this source give them back.
local function close_everywhere(source, till)
  call('PUBLISH', WAKE, string.format('closed %s %d %s', source, till, site))
end

local function round(number)
  return math.floor(number * 1000 + 0.5) / 1000
end

local function quarantine(s, one, why)
  if s.q and s.q.u > now then return end -- of the same block: it was under way
  if s.qa and now - s.qa > 7 * DAY then s.qn = 0 end
  s.qn, s.qa, s.bad = (s.qn or 0) + 1, now, true
  local length = control.quarantine[math.min(s.qn, #control.quarantine)]
  length = math.max(length, math.min(one.rest or 0, LIMIT))
  if not s.q then s.qr = find_rate(s, now) end -- what it had reached
  s.q = { u = now + length, n = s.qn, w = why, ok = 0 }
  close_everywhere(one.s, s.q.u)
  tell(one.s, 'quarantined', { till = now + length, count = s.qn, why = why, score = round(score(s)) })
end

local function release(s, one)
  s.q = nil
  -- Forgiven, or the old evidence would shut it in again at the next unknown recipient.
  local shut = (s.g + NEUTRAL * PRIOR) / math.max(control.floor, 0.01) - s.g - PRIOR
  s.b = math.min(s.b, math.max(0, shut / 2))
  local reached = math.max(s.qr or 0, 1)
  s.p, s.th, s.w = math.max(control.slowest, reached / 20), reached / 2, reached
  s.pa, s.tk, s.ka, s.st, s.cl, s.qr = now, 1, now, 0, 0, nil
  tell(one.s, 'released', { pace = round(s.p), score = round(score(s)) })
end

-- Throttled: less, and a moment of silence. What comes within that moment was under way already.
local function throttle(s, one)
  if (s.till or 0) > now then
    s.k = math.min(5, (s.k or 0) + one.t)
    s.till = math.max(s.till, now + math.min(one.rest or 0, LIMIT))
    return
  end
  local is_streak = s.ta and ((s.cl or 0) < 20 or now - s.ta < 10 * SECOND)
  s.st = is_streak and (s.st or 0) + 1 or 1
  local before, reached = s.p, find_rate(s, now)
  if not s.p then
    -- Nothing has gone through of late (a neighbour was throttled, or the first message): that is no pace
    -- to go by, and the slowest would take a day to grow out of. If this is too much, it halves.
    s.w = math.max(control.slowest, reached > 0.01 and reached or 1)
    s.p, s.k = s.w / 2, 1
    s.th = s.p
  elseif s.st == 1 then
    s.w = s.p
    s.p = math.min(s.p * 0.9, math.max(reached, s.p * 0.7))
    s.th, s.k = s.p, math.min(5, one.t)
  else
    s.p = s.p * 0.5
    if s.st == 2 then s.th = s.p end
  end
  s.p = math.max(control.slowest, s.p)
  s.th, s.w = math.max(s.th, s.p), math.max(s.w, s.p)
  local rest = math.max(math.min(SECOND * 2 ^ math.min(s.st - 1, 20), LONGEST), math.min(one.rest or 0, LIMIT))
  s.till, s.ta, s.cl, s.pa, s.tk, s.ka, s.why = now + rest, now, 0, now, 0, now + rest, one.why
  close_everywhere(one.s, s.till)
  tell(one.s, 'slowed', { before = before and round(before), pace = round(s.p), rest = rest, why = one.why })
end

-- A clean while: more. Only where the pace was used, or there is nothing to conclude.
local function speed_up(s, one)
  local passed = math.min(now - (s.pa or now), 30 * SECOND) / SECOND
  s.pa = now
  if passed <= 0 or (s.till or 0) > now then return end
  if math.max(find_rate(s, now), one.d / passed) < 0.5 * s.p then return end
  if s.p < s.th then
    s.p = math.min(s.th, s.p * 2 ^ math.min(1, one.d / 4))
  else
    -- A tenth of what was too much, within as many messages as keep the throttled ones few.
    local span = math.max(30, 400 * math.max(1, s.k or 1) / s.p)
    local step = 0.1 * s.w * passed / span
    if s.p > s.w then step = step * (1 + (s.p - s.w) / (0.1 * s.w)) end
    s.p = s.p + math.min(step, s.p)
  end
  local most = one.most and one.most > 0 and one.most or 1000
  if s.p > most * 1.05 then
    s.p, s.pa, s.tk, s.ka, s.w, s.th = nil, nil, nil, nil, nil, nil
    tell(one.s, 'unpaced', {})
  end
end

local function close_in(s, one)
  if s.ca and now - s.ca < 10 * SECOND then return end
  local open = math.max(1, call('ZCARD', berths_key(one.s, site)))
  local before = s.c
  s.c = math.max(1, math.min(s.c or NEVER, math.floor(open * 0.8)))
  s.ca, s.cf = now, math.min(5, (s.cf or 0) + 1)
  if s.c ~= before then tell(one.s, 'narrowed', { before = before, connections = s.c, why = one.why }) end
end

local function widen(s, one)
  if now - s.ca < 5 * MINUTE * 2 ^ (s.cf - 1) then return end
  s.c, s.ca, s.cf = s.c + 1, now, math.max(1, s.cf - 1)
  if s.c > 100 then s.c, s.ca, s.cf = nil, nil, nil end
end

local function report(one)
  local s = read_standing(site, one.s)
  decay(s, control.half, now)
  s.g = s.g + one.d
  for kind, weight in pairs(WEIGHTS) do s.b = s.b + weight * (one[kind] or 0) end
  local schedule = parse_schedule(one.schedule or '')
  if schedule then
    roll_day(s, schedule, now)
    s.de, s.ba = s.de + one.d, s.ba + one.t + one.x
  end
  local is_probing = s.q and s.q.u <= now
  if one.d > 0 then
    note_rate(s, one.d, now)
    s.cl = (s.cl or 0) + one.d
    if is_probing then s.q.ok, s.q.pl = s.q.ok + one.d, nil end
  end
  if one.x > 0 then
    quarantine(s, one, one.why)
  elseif one.t > 0 then
    throttle(s, one)
  else
    if one.d > 0 and s.p then speed_up(s, one) end
    if is_probing and s.q.ok >= control.probes then release(s, one) end
  end
  if one.f > 0 then
    close_in(s, one)
  elseif s.c and one.d > 0 then
    widen(s, one)
  end
  local seen = s.g + s.b
  if not s.q and seen >= PRIOR and score(s) < control.floor then
    quarantine(s, one, string.format('its score is %.2f', score(s)))
  end
  write_standing(site, one.s, s)
  if s.p or s.q or s.c or s.d then
    call('ZADD', judged_key(), now, site)
    call('ZREMRANGEBYRANK', judged_key(), 0, -1001)
  end
end

-- A receiver that has something against a tenant's name has it against the name, whatever the source.
local function put_off(one)
  local count, till = string.match(call('HGET', tenants_key(site), one.t) or '', '^(%d+) (%d+)')
  count, till = tonumber(count or 0), tonumber(till or 0)
  if till > now then return end
  count = now - till < DAY and count + 1 or 1
  local rest = math.max(math.min(MINUTE * 2 ^ math.min(count - 1, 20), 4 * 60 * MINUTE), math.min(one.rest or 0, LIMIT))
  call('HSET', tenants_key(site), one.t, string.format('%d %d %s', count, now + rest, one.why))
  call('PEXPIRE', tenants_key(site), 2 * DAY)
  changes[#changes + 1] = cjson.encode({ tenant = one.t, kind = 'put_off', count = count, rest = rest, why = one.why })
end

for _, one in ipairs(cjson.decode(ARGV[3])) do report(one) end
for _, one in ipairs(cjson.decode(ARGV[4])) do put_off(one) end
if #changes > 0 then wake(site) end
return changes
