-- What became of deliveries to a site, source by source, and what follows for pace, connections and
-- quarantine. Also what concerns a tenant there, from whichever source.
-- KEYS[1] a key of the site's tag
-- ARGV[1] site
-- ARGV[2] JSON: half (ms), floor, quarantine (list of ms), probes, slowest (deliveries a second),
--         silence (ms)
-- ARGV[3] JSON, a list: for each source: s its name, schedule, most (its configured rate, 0: none), and
--         counts: d delivered, o otherwise answered, t throttled, f told to open fewer connections,
--         x blocked, n unknown recipients, m content refused, c complaints; rest (ms that the answer
--         asks for), usual (ms that are usual with this receiver), why
-- ARGV[4] JSON, a list: for each tenant: t its name, rest (ms, 0: what is usual), why
-- Returns a line of JSON for each thing that has changed: s or tenant, kind, and figures.
pass_when_full()
local now, site = clock(), ARGV[1]
local control = cjson.decode(ARGV[2])
local changes = {}
local SECOND, MINUTE = 1000, 60000
-- Silence after a throttle, at most, unless the receiver names more; and then at most.
local LONGEST, LIMIT = 60 * MINUTE, DAY
local DISTANCE, FEW = 250, 20 -- messages between throttles; too few to say anything of a pace
local ENOUGH = 100 -- answers, for the floor to mean something
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
  length = math.max(length, math.min(math.max(one.rest, one.usual), LIMIT))
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
  -- Where it had reached nothing yet, or went slowly, two a second are soon reached again: from a fraction
  -- of one it would take a day.
  s.w = math.max(2, s.qr or 0)
  s.p0, s.x, s.ramp, s.n, s.step = s.w / 20, 0, 200, 400, 40
  s.p = math.max(control.slowest, s.p0)
  s.pa, s.tk, s.ka, s.st, s.cl, s.qr, s.ta, s.till = now, 1, now, 0, 0, nil, now, now
  s.rest = s.rest or control.silence
  tell(one.s, 'released', { pace = round(s.p), score = round(score(s)) })
end

-- How many messages apart throttles should be: so many for each that one of them catches, and so many that
-- the silence after it is no more than a twentieth of the time; but half an hour is long enough to find out
-- whether the limit has gone up.
local function spread(s)
  local rest = s.rest / SECOND
  local most = s.p * math.max(1800, 20 * rest)
  s.n = math.max(100, math.min(math.max(DISTANCE * math.max(1, s.k or 1), 20 * s.p * rest), most))
  s.ramp = math.max(50, s.n / 4)
end

-- The first throttle: half of what was reached.
local function begin_pace(s, one)
  -- Within the first seconds, or after a quiet hour, what was reached is how the receiver takes a burst,
  -- not its rate, which may be many times that: on again soon. Where nothing has gone through (a neighbour
  -- was throttled, or the first message) there is no rate to go by at all; the slowest would take a day to
  -- grow out of, so one in two seconds. If it is too much after all, it falls.
  local reached = find_rate(s, now)
  local is_burst = now - (s.rb or now) < 10 * SECOND or one.lately > 2 * reached
  reached = math.max(reached, one.lately)
  s.w = math.max(control.slowest, reached, 0.5)
  s.p0, s.k, s.step, s.first = s.w / 2, 1, 25, s.w
  s.p = s.p0
  spread(s)
  if is_burst then s.n, s.ramp = 50, 50 end
end

-- Throttled again. What was kept to for long without one (w) was not too much: if it came when more was tried,
-- back to that, for what came through meanwhile was what the receiver had saved up; but much more than that
-- is a limit that has gone up. If it came at about w, w is a little too much; if early, a good deal. If it
-- came at once, the pace says little: then it is between what went through, reckoned with the silence and
-- without.
local function cut_pace(s, one)
  local going = math.max(SECOND, now - (s.till or s.ta))
  if s.x >= 1.5 * s.n then
    -- What was tried so fast has gone past the limit, the further the faster, by what is saved up there.
    local more = s.p / s.w - 1
    s.k, s.w = math.min(5, one.t), s.w * (1 + 0.33 * more * math.min(1, more / 0.75))
    s.p0 = s.w * 0.93
  elseif s.x >= s.n then
    s.k, s.w = math.min(5, one.t), s.p * 0.96
    s.p0 = s.w * 0.95
  elseif s.x >= s.n / 2 then
    s.k, s.w, s.p0 = math.min(5, one.t), s.p * 0.96, s.p * 0.87
  elseif going > MINUTE then
    s.w, s.p0 = s.p * 0.9, s.p * 0.8
  else
    local through = s.cl * SECOND / math.sqrt(going * math.max(SECOND, now - s.ta))
    s.p0 = math.max(s.p * 0.1, math.min(s.p * 0.7, through))
    s.w = (s.p * s.p0 * s.p0) ^ (1 / 3)
  end
  s.p, s.step = s.p0, 40
  spread(s)
end

-- Some hosts refuse one in so many whatever the pace. Then being silent and slow gains nothing, and costs
-- nearly everything: a few messages for each silence. It shows when throttle after throttle comes early,
-- also at an eighth of the pace of the first one.
local function forget_pace(s)
  for _, name in ipairs({ 'p', 'pa', 'tk', 'ka', 'w', 'p0', 'x', 'n', 'ramp', 'step' }) do s[name] = nil end
end

local function is_any_pace(s, one)
  if one.rest > 0 or s.x >= s.n / 2 then
    s.early, s.between = 0, 0
    return false
  end
  s.early, s.between = (s.early or 0) + 1, (s.between or 0) + s.cl
  return s.early >= 4 * 2 ^ (s.misjudged or 0) and s.p < s.first / 8
end

-- Nothing is made of throttles there, but counted: is it more than it was? Then it was about us after all.
local function bear(s, one)
  local any = s.any
  any.t = any.t + one.t
  if any.t < 5 or any.t < math.min(0.9, 2 * any.share + 0.1) * (any.t + any.g) then return true end
  s.any, s.early, s.between, s.misjudged = nil, 0, 0, math.min(6, (s.misjudged or 0) + 1)
  return false
end

-- Fields of the site's scout: numbers, but for its name; nil what is not there.
local function read_scout(...)
  local fields = call('HMGET', scout_key(site), ...)
  for index = 1, #fields do fields[index] = tonumber(fields[index]) or fields[index] or nil end
  return unpack(fields, 1, select('#', ...))
end

-- Who tried more for all has met the end: what it knows now, the others know as well.
local function end_try(s, one, before)
  local key = scout_key(site)
  local who, from = read_scout('who', 'from')
  if who ~= '@' .. one.s then return end
  call('HDEL', key, 'who', 'since', 'from', 'pace')
  call('HSET', key, 'met', now, 'era', now, 'was', from, 'is', s.w)
  s.era = now
end

-- Throttled: less, and silence for a while. What comes within it was under way already.
local function throttle(s, one)
  if (s.till or 0) > now then
    s.k = math.min(5, (s.k or 0) + one.t)
    s.till = math.max(s.till, now + math.min(one.rest, LIMIT))
    return
  end
  if s.any and bear(s, one) then return end
  local before = s.p
  s.rest = s.rest or math.max(2 * control.silence, math.min(one.usual, LONGEST))
  if s.p and s.cl == 0 then
    -- Nothing has gone through since: it is not the pace, the receiver has not forgiven yet. Many ask for
    -- more with each attempt that comes too early, so that twice as long would never be enough.
    s.short = true
    s.st, s.rest = s.st + 1, math.min(LONGEST, s.rest * 4)
  else
    if s.p then
      s.first = s.first or s.p -- it has its pace from a quarantine, and was never throttled before
      local is_any = is_any_pace(s, one)
      cut_pace(s, one)
      end_try(s, one, before)
      if is_any then
        s.any = { share = s.early / (s.early + s.between), t = 0, g = 0 }
        forget_pace(s)
        tell(one.s, 'unpaced', { before = before and round(before), why = 'throttled at any pace alike: ' .. one.why })
        return
      end
    else
      begin_pace(s, one)
    end
    s.st = 1
  end
  s.p = math.max(control.slowest, s.p)
  s.w, s.x = math.max(s.w, s.p), 0
  local rest = math.max(s.rest, math.min(one.rest, LIMIT))
  s.till, s.ta, s.cl, s.pa, s.tk, s.ka, s.why = now + rest, now, 0, now, 0, now + rest, one.why
  s.pl = nil
  close_everywhere(one.s, s.till)
  tell(one.s, 'slowed', { before = before and round(before), pace = round(s.p), rest = rest, why = one.why })
end

-- Something went through after a throttle: had the silence to be that long? Next time a little less will
-- show; but where less has been too little before, it was punished, and is not tried again.
local function forgive(s)
  if s.st == 1 and not s.short then s.rest = math.max(control.silence, s.rest * 0.7) end
  s.st = 0
end

-- Trying more costs a silence when it is too much, and a site mostly takes as much from one source as from
-- another. So one tries for all, and not before as much time has passed since the last one met the end as it
-- takes to send n; the others follow it as far as it has got.
local function try_more(s, one)
  local key = scout_key(site)
  local who, since, from, pace, met = read_scout('who', 'since', 'from', 'pace', 'met')
  local me = '@' .. one.s
  if who and who ~= me and now - since < 60 * MINUTE then
    if pace and s.w < 1.25 * from and s.w > 0.8 * from then s.p = s.w * math.max(0.98, 0.6 * pace / from) end
    return false
  end
  if who ~= me then
    if met and now - met < 250 * s.n / s.p then return false end
    call('HSET', key, 'who', me, 'since', now, 'from', s.w)
    call('HDEL', key, 'pace')
    call('PEXPIRE', key, 2 * DAY)
  elseif s.p > 1.5 * s.w then
    call('HSET', key, 'pace', s.p)
  end
  return true
end

-- What another has found out holds here too, if it was much the same there before.
local function learn(s)
  local era, was, is = read_scout('era', 'was', 'is')
  if not era or s.era and s.era >= era or now - era > 60 * MINUTE then return end
  s.era = era
  local ratio = s.w / was
  if ratio < 0.8 or ratio > 1.25 then return end
  s.w = math.abs(ratio - 1) < 0.08 and is or s.w * is / was
  s.p0 = 0.95 * s.w
end

-- Clean messages give it back: soon near to what was too much, then up to it over as many messages as
-- throttles should be apart, then faster and faster, for the limit seems to have gone up. Only messages at
-- about the pace count: what is slower proves nothing.
local function speed_up(s, one, count)
  local passed = math.max(1, math.min(now - (s.pa or now), 30 * SECOND)) / SECOND
  s.pa = now
  if (s.till or 0) > now or math.max(find_rate(s, now), count / passed) < 0.5 * s.p then return end
  s.x = (s.x or 0) + count
  learn(s)
  local near, over = 0.98 * s.w, s.x - s.n
  if s.x < s.ramp then
    s.p = s.p0 + (near - s.p0) * s.x / s.ramp
  elseif s.x < s.n then
    s.p = near
  elseif s.step < 40 then
    s.p = s.w * (0.95 + 0.05 * 2 ^ math.min(over / s.step, 12))
  elseif try_more(s, one) then
    local slow = s.n / 2
    s.p = s.w * (over < slow and 0.99 + 0.07 * over / slow or 1.01 + 0.05 * 2 ^ math.min((over - slow) / s.step, 12))
  else
    s.p, s.x = near, s.n
  end
  s.p = math.max(control.slowest, s.p)
  local most = one.most and one.most > 0 and one.most or 1000
  if s.p > most * 1.05 then
    forget_pace(s)
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
  if call('ZCARD', berths_key(one.s, site)) < s.c then return end -- who has no use for them has no proof
  s.c, s.ca, s.cf = s.c + 1, now, math.max(1, s.cf - 1)
  if s.c > 100 then s.c, s.ca, s.cf = nil, nil, nil end
end

local function report(one)
  local s = read_standing(site, one.s)
  decay(s, control.half, now)
  s.g, s.e = s.g + one.d, s.e + one.d + one.o + one.t + one.x
  for kind, weight in pairs(WEIGHTS) do s.b = s.b + weight * one[kind] end
  s.b = s.b - WEIGHTS.t * math.max(0, one.t - 5) -- a burst that meets a limit is one event, not a hundred
  local schedule = parse_schedule(one.schedule or '')
  if schedule then
    roll_day(s, schedule, now)
    s.de, s.ba = s.de + one.d, s.ba + one.t + one.x
  end
  local is_probing = s.q and s.q.u <= now
  one.lately = (one.d + one.o) * SECOND / math.max(SECOND, now - (s.ra or now))
  local passed = one.d + one.o -- any other answer shows as well that it is not throttled
  if passed > 0 then
    note_rate(s, passed, now)
    if s.any then
      local any = s.any
      any.g = any.g + passed
      if any.g + any.t > 400 then any.g, any.t = any.g / 2, any.t / 2 end
    end
    if (s.till or 0) <= now then -- or it was under way when the throttle came
      s.cl, s.pl = (s.cl or 0) + passed, nil
      if (s.st or 0) > 0 and s.cl >= FEW then forgive(s) end
    end
    if is_probing then s.q.ok, s.q.pl = s.q.ok + one.d, nil end
  end
  if one.x > 0 then
    quarantine(s, one, one.why)
  elseif one.t > 0 then
    throttle(s, one)
  else
    if passed > 0 and s.p then speed_up(s, one, passed) end
    if is_probing and s.q.ok >= control.probes then release(s, one) end
  end
  if one.f > 0 then
    close_in(s, one)
  elseif s.c and one.d > 0 then
    widen(s, one)
  end
  -- A handful of wrong addresses at a small site must not hold up all the others' mail to it.
  if not s.q and s.e >= ENOUGH and score(s) < control.floor then
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
  local rest = math.max(math.min(MINUTE * 2 ^ math.min(count - 1, 20), 4 * 60 * MINUTE), math.min(one.rest, LIMIT))
  call('HSET', tenants_key(site), one.t, string.format('%d %d %s', count, now + rest, one.why))
  call('PEXPIRE', tenants_key(site), 2 * DAY)
  changes[#changes + 1] = cjson.encode({ tenant = one.t, kind = 'put_off', count = count, rest = rest, why = one.why })
end

for _, one in ipairs(cjson.decode(ARGV[3])) do report(one) end
for _, one in ipairs(cjson.decode(ARGV[4])) do put_off(one) end
if #changes > 0 then wake(site) end
return changes
