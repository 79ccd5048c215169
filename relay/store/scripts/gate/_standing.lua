-- The standing of a source at a site: what receivers' answers have made of it. One JSON object for each, in
-- `standing:<site>`. The formulas and their reasons are in DESIGN.md, Reputation.
--
--   g b e at    evidence for and against, answers, and when all that was reckoned (it decays)
--   r ra rb     deliveries a second, over a minute; when reckoned; since when it is counted
--   p pa        pace, deliveries a second (none: not paced); when it moved last
--   w p0        the pace that was too much; the one that it was cut to
--   x ramp n    clean messages since then; after how many it is near w; after how many it tries more
--   step        ... and how fast
--   k st ta cl  deliveries that one throttle caught; throttles in a row; when; answers since
--   first       what was reached at the first throttle, or the pace that came after a quarantine
--   early       throttles in a row that came early, and (between) how many messages went between them
--   any         throttled at any pace: the share that was (share), what was counted since (t, g)
--   misjudged   how often that was wrong
--   era         when what another found out (scout:<site>) was last taken over
--   till why    sends nothing until; what was said
--   rest short  how long that is the next time; whether it has ever been too short
--   pl          until when a first delivery is out, to see whether it is over
--   tk ka       the pace's bucket: what is left, and when that was
--   c ca cf     connections it may have; when that moved; how often in a row it fell
--   q           quarantine: u until, n how often, w why, ok probes that got through, pl until when one is out
--   qn qa       quarantines so far, and when the last began
--   d y u de ba warm-up: day, its date, deliveries of today, and what became of them; bad: today is spoilt
--   yl          date of the last day with mail
-- Times are ms, dates are days since 1970 (UTC).

local DAY = 86400000
local PRIOR, NEUTRAL = 20, 0.5 -- so much evidence there is before the first answer, half of it good
local SPAN = 60000 -- over which the rate is reckoned, ms

local function read_standing(site, source)
  local raw = call('HGET', standing_key(site), source)
  return raw and cjson.decode(raw) or {}
end

local function write_standing(site, source, s)
  call('HSET', standing_key(site), source, cjson.encode(s))
  -- What costs mail to learn is kept; what a good source has at a small site is soon learnt again.
  local days = (s.p or s.q or s.qn or s.c or s.d) and 60 or 3
  if call('PTTL', standing_key(site)) < days * DAY then call('PEXPIRE', standing_key(site), days * DAY) end
end

local function decay(s, half, now)
  local factor = 2 ^ (-math.max(0, now - (s.at or now)) / half)
  s.g, s.b, s.e, s.at = (s.g or 0) * factor, (s.b or 0) * factor, (s.e or 0) * factor, now
end

local function score(s)
  local good, bad = s.g or 0, s.b or 0
  return (good + NEUTRAL * PRIOR) / (good + bad + PRIOR)
end

-- What its weight in the rotation is multiplied by. Only evidence against it counts: a new source has
-- its share, or it would never get to show anything.
local function favour(s)
  if not s.b or s.b < 0.01 then return 1 end
  return math.max(0.01, (1 - s.b / ((s.g or 0) + s.b + PRIOR)) ^ 2)
end

-- Deliveries a second, lately: exponential, without the bias of a short past.
local function find_rate(s, now)
  if not s.r then return 0 end
  local seen = 1 - math.exp(-math.max(now - s.rb, 1000) / SPAN)
  return s.r * math.exp(-(now - s.ra) / SPAN) / seen
end

local function note_rate(s, count, now)
  local r = s.r and s.r * math.exp(-(now - s.ra) / SPAN) or 0
  if not s.rb or r < 0.001 then s.rb = s.ra or now end
  s.r, s.ra = r + count * 1000 / SPAN, now
end

-- `schedule`: "spoilt idle(ms) day,day,..."; "" for a source that is not warmed up.
local function parse_schedule(text)
  local spoilt, idle, days = string.match(text, '^(%S+) (%d+) (%S+)$')
  if not spoilt then return nil end
  local schedule = { spoilt = tonumber(spoilt), idle = math.floor(tonumber(idle) / DAY), days = {} }
  for day in string.gmatch(days, '%d+') do schedule.days[#schedule.days + 1] = tonumber(day) end
  return schedule
end

-- A new day: was the last one good? Returns what may go today; nil when the source is warm.
local function roll_day(s, schedule, now)
  local today = math.floor(now / DAY)
  if not s.d then
    s.d, s.y, s.u, s.de, s.ba = 1, today, 0, 0, 0
  elseif s.y < today then
    local allowance = schedule.days[s.d]
    if allowance and s.u * 2 >= allowance then -- a few messages prove nothing
      local tried = s.de + s.ba
      if not s.bad and s.ba <= schedule.spoilt * tried then s.d = s.d + 1 end
    end
    if s.bad then s.d = math.max(1, math.min(s.d, #schedule.days) - 1) end
    if s.u > 0 then s.yl = s.y end
    local idle = today - 1 - (s.yl or s.y)
    if idle > schedule.idle then
      -- Each day of silence beyond what is forgiven takes a day back.
      local before = s.yi or schedule.idle
      s.d = math.max(1, math.min(s.d, #schedule.days + 1) - (idle - before))
      s.yi = idle
    else
      s.yi = nil
    end
    s.y, s.u, s.de, s.ba, s.bad = today, 0, 0, 0, nil
  end
  return schedule.days[s.d]
end

local function open_pace(s, now)
  local burst = math.max(1, s.p)
  local left = math.min(burst, (s.tk or burst) + math.max(0, now - (s.ka or now)) * s.p / 1000)
  s.tk, s.ka = left, now
  return left
end

-- What its standing leaves a source: how many may go now, and if none, ms until it is worth to ask, why.
local function open_standing(s, schedule, now)
  local room = 1e9
  if s.q then
    if s.q.u > now then return 0, s.q.u - now, 'quarantine' end
    if (s.q.pl or 0) > now then return 0, s.q.pl - now, 'probe' end
    room = 1
  end
  if (s.till or 0) > now then return 0, s.till - now, 'throttled' end
  if s.ta and s.cl == 0 then
    -- Has the receiver forgiven? One finds out for all.
    if (s.pl or 0) > now then return 0, s.pl - now, 'throttled' end
    room = 1
  end
  if schedule then
    local allowance = roll_day(s, schedule, now)
    if allowance then
      room = math.min(room, allowance - s.u)
      if room < 1 then return 0, (s.y + 1) * DAY - now, 'warm-up' end
    end
  end
  if s.p then
    local left = open_pace(s, now)
    room = math.min(room, math.floor(left + 1e-6))
    -- Not woken for each single one: for a twentieth of a second's worth.
    if room < 1 then return 0, math.ceil((math.max(1, s.p / 20) - left) * 1000 / s.p), 'pace' end
  end
  return room, 0, ''
end

-- Take `count` off, give it back when it is negative. True when that is to be written.
local function take_standing(s, count, now)
  if s.d then s.u = math.max(0, s.u + count) end
  if s.p then s.tk = (s.tk or 0) - count end
  local is_first = s.ta and s.cl == 0
  if is_first then s.pl = count > 0 and now + 30000 or nil end
  if s.q then s.q.pl = count > 0 and now + 60000 or nil end
  return s.d or s.p or s.q or is_first
end
